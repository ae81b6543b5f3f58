"""The shape of the code: a test file for each module, small files. The layers are contracts in pyproject.toml."""

import ast
import re
import tomllib

import pytest

from tests.support.running import ROOT
from tests.support.sources import PACKAGE, SOURCES

UNTESTED = {"__main__"}  # it has no code
SPEAKERS = {
    "connections.access_log",
    "telemetry.log",
    "telemetry.traces.environment",
    "telemetry.traces.exporter",
    "server",
}  # these may use `logging`
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
PACKAGES = {name for name in SOURCES if (PACKAGE / name.replace(".", "/")).is_dir()} | {"__init__"}
MODULES = set(SOURCES) - PACKAGES


def test_every_module_has_its_tests_in_a_folder_of_the_same_name() -> None:
    tests = {
        ".".join((*path.relative_to(ROOT / "tests" / kind).parts[:-1], path.stem.removeprefix("test_")))
        for kind in ("unit", "integration")
        for path in (ROOT / "tests" / kind).rglob("test_*.py")
    }
    assert MODULES - UNTESTED - tests == set()
    assert {name for name in tests - MODULES if "." in name} == set()


def test_tests_do_not_import_from_test_modules_conftest_or_commands() -> None:
    """Code that several of them use is in tests/support, or in a module beside them that is not a test module."""
    imported = {
        (str(path.relative_to(ROOT)), module)
        for folder in ("tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for module in re.findall(r"^ *(?:from|import) (tests\.[\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {found for found in imported if re.search(r"\.(test_\w+|conftest|__main__)$", found[1])} == set()


@pytest.mark.fault("E4")
def test_background_work_is_spawned_through_jobs_only() -> None:
    """The end of a task without an owner is not noticed.

    The exceptions own their tasks: see their comments.
    """
    spawning = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future", "TaskGroup")
    }
    commands = {"cli.conformance.run", "cli.listen", "cli.verify.run"}
    assert spawning == commands | {"server", "connections.listener", "connections.direct_requests"}
    assert {name for name, source in SOURCES.items() if re.search("^(import|from) aiojobs", source, re.MULTILINE)} == {
        "supervision.jobs"
    }


@pytest.mark.parametrize("name", SOURCES)
def test_module_docstring_begins_with_one_sentence(name: str) -> None:
    first, *rest = (ast.get_docstring(TREES[name]) or "").split("\n")
    assert re.fullmatch(r"[A-Z`].{10,}[.]", first)
    assert rest[:1] in ([], [""])


@pytest.mark.parametrize("name", sorted(set(SOURCES) - SPEAKERS))
def test_modules_log_and_do_not_print(name: str) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)}
    assert not {call for call in calls if call in ("print", "warnings.warn") or call.startswith("logging.")}


@pytest.mark.parametrize("name", SOURCES)
def test_log_events_are_named_noun_and_verb(name: str) -> None:
    for node in ast.walk(TREES[name]):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=event), *_]):
                assert re.fullmatch(r"[a-z]+\.[a-z]+", str(event))
            case _:
                pass


@pytest.mark.parametrize("name", SOURCES)
def test_modules_use_no_private_names_of_libraries(name: str) -> None:
    """A module may use its own private names: `self._x`, `cls._x` and those that it defines."""
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
def test_internal_errors_are_logged_where_they_are_counted() -> None:
    assert {name for name, source in SOURCES.items() if re.search(r'log\.error\(\s*"internal\.error"', source)} == {
        "telemetry.metrics"
    }


def test_no_file_has_more_than_250_lines() -> None:
    files = [
        path
        for folder in (PACKAGE, ROOT / "tests" / "support", ROOT / "tests" / "siege", ROOT / "tests" / "autobahn")
        for path in folder.rglob("*")
        if path.suffix in (".py", ".lua")
    ]
    assert len(files) > 150
    assert {path.name: lines for path in files if (lines := len(path.read_text().splitlines())) > 250} == {}


def test_top_level_has_few_packages_and_files() -> None:
    found = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert sum(path.is_dir() for path in found) <= 12
    assert sum(path.is_file() for path in found) <= 6


def test_mutated_files_exist() -> None:
    """A pattern that matches no file would leave out a module that was renamed, without a word."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    assert [pattern for pattern in settings["only_mutate"] if not list(ROOT.glob(pattern))] == []
