"""The shape of the code: a test file for each module, imports that only go down, one noun a file."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest

from tests.support.running import ROOT
from tests.support.sources import PACKAGE, SOURCES

FLOORS = [  # a package imports only from floors below its own; modules of one package import each other without circles
    "__init__",
    "core",
    "config telemetry",
    "supervision",
    "connections",
    "auth broker",
    "sessions",
    "transports dapr web",
    "app",
    "server",
    "cli",
    "__main__",
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
UNTESTED = {"__main__"}  # nothing is in it
SPEAKERS = {
    "connections.access_log",
    "telemetry.log",
    "server",
    "cli.commands",
    "cli.main",
}  # may print or use `logging`
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
PACKAGES = {name for name in SOURCES if (PACKAGE / name.replace(".", "/")).is_dir()} | {"__init__"}
MODULES = set(SOURCES) - PACKAGES


def imported(tree: ast.Module) -> Iterator[str]:
    """Our own modules that it imports, anywhere in it."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="wsbridge", names=names):
                yield from (alias.name if alias.name in SOURCES else "__init__" for alias in names)
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("wsbridge."):
                name = module.removeprefix("wsbridge.")
                yield from {f"{name}.{a.name}" if f"{name}.{a.name}" in SOURCES else name for a in names}
            case ast.ImportFrom(level=level):
                assert level == 0, "imports are absolute"
            case ast.Import(names=names):
                assert not [alias.name for alias in names if alias.name.startswith("wsbridge")]
            case _:
                pass


def package(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def test_every_module_has_its_tests_in_a_folder_of_the_same_name() -> None:
    tests = {
        ".".join((*path.relative_to(ROOT / "tests" / kind).parts[:-1], path.stem.removeprefix("test_")))
        for kind in ("unit", "integration")
        for path in (ROOT / "tests" / kind).rglob("test_*.py")
    }
    assert MODULES - UNTESTED - tests == set()
    assert {name for name in tests - MODULES if "." in name} == set()


def test_every_package_has_its_floor() -> None:
    assert set(FLOOR) == {package(name) for name in SOURCES}
    assert len(FLOOR) == sum(len(names.split()) for names in FLOORS)


@pytest.mark.parametrize("name", SOURCES)
def test_imports_only_go_down(name: str) -> None:
    others = {package(other) for other in imported(TREES[name])} - {package(name)}
    assert [other for other in others if FLOOR[other] >= FLOOR[package(name)]] == []


def test_modules_import_each_other_without_a_circle() -> None:
    TopologicalSorter({name: set(imported(tree)) for name, tree in TREES.items()}).prepare()  # raises at a circle


def test_only_the_lower_modules_of_the_redis_broker_import_redis() -> None:
    knowing = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "redis"
    }
    assert knowing == {f"broker.redis.{name}" for name in ("connection", "errors", "pipeline", "server", "topology")}


@pytest.mark.fault("E4")
def test_background_work_is_spawned_through_jobs_only() -> None:
    """A task that nobody owns ends unnoticed. The two exceptions wait for their tasks: see their comments."""
    spawning = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future", "TaskGroup")
    }
    assert spawning == {"server", "cli.output"}
    assert {name for name, source in SOURCES.items() if re.search("^(import|from) aiojobs", source, re.MULTILINE)} == {
        "supervision.jobs"
    }


@pytest.mark.parametrize("name", SOURCES)
def test_the_first_sentence_of_a_module_says_what_it_is(name: str) -> None:
    first, *rest = (ast.get_docstring(TREES[name]) or "").split("\n")
    assert re.fullmatch(r"[A-Z`].{10,}[.]", first)
    assert rest[:1] in ([], [""])


@pytest.mark.parametrize("name", sorted(set(SOURCES) - SPEAKERS))
def test_whoever_has_something_to_say_says_it_to_the_log(name: str) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)}
    assert not {call for call in calls if call in ("print", "warnings.warn") or call.startswith("logging.")}


@pytest.mark.parametrize("name", SOURCES)
def test_events_of_the_log_are_noun_and_verb(name: str) -> None:
    for node in ast.walk(TREES[name]):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=event), *_]):
                assert re.fullmatch(r"[a-z]+\.[a-z]+", str(event))
            case _:
                pass


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_private_of_a_library_is_used(name: str) -> None:
    """`self._x`, `cls._x` and what a module itself defines are its own."""
    own = {node.attr for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute) and _is_self(node.value)}
    own |= {node.name for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    private = {
        ast.unparse(node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and node.attr not in own | {"_replace"}
    }
    assert private == set()


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@pytest.mark.fault("E7")
def test_errors_of_ours_are_logged_where_they_are_counted() -> None:
    assert {name for name, source in SOURCES.items() if re.search(r'log\.error\(\s*"internal\.error"', source)} == {
        "telemetry.metrics"
    }
