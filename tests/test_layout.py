"""The shape of the code: a test file for each module, imports that only go down, one noun a file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [  # a module imports only from floors below its own; DESIGN.md has the reasons
    "__init__ frames head peer redis_url bundle welcome descriptors log_budget log_writer redaction turnstile",
    "key_set kinds reasons log",
    "event origins budget pieces settings metrics backoff request manual handshake jobs redis_command",
    "access_log history protocol outbox listener crowd payload keys access problem words weakness environment redis_keys batches",
    "auth backlog wire sender replay checks client_frames broker answers envelope bulk terminal publish coalescer",
    "authenticator cloudevents session output front listen check memory_broker redis_server redis_arrivals",
    "registry intake mender redis_link redis_lane",
    "bus heartbeat inbox drain summary admission watchdog redis_evidence redis_stream redis_bodies",
    "dapr websocket sse ops pages redis_broker",
    "bridge",
    "app",
    "commands",
    "cli",
    "__main__",
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
DOORS = {"dapr", "websocket", "sse", "ops", "pages"}
UNTESTED = {"__init__", "__main__"}  # nothing is in them
NO_MODULE = {  # tests of what is no module
    "attacks", "backend", "browser_closes", "browser_lifecycle", "browser_resume", "browser_sse", "browser_tabs",
    "browser_tokens", "browser_walk", "chaos", "clients", "clocks", "demo", "dockerfile", "docs", "faults", "fuzz",
    "guide", "layout", "manifests", "proxies", "proxy", "react", "replicas", "requirements", "scale", "slow_redis",
    "valkey", "walk",
}  # fmt: skip
SPEAKERS = {"access_log", "log", "app", "commands", "cli"}  # who may print or touch the standard library's logging
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "wsbridge").glob("*.py"))}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}


def imported(tree: ast.Module) -> Iterator[str]:
    """Our own modules that it imports, anywhere in it."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="wsbridge", names=names):
                yield from (alias.name if alias.name in SOURCES else "__init__" for alias in names)
            case ast.ImportFrom(module=str(module)) if module.startswith("wsbridge."):
                yield module.split(".")[1]
            case ast.ImportFrom(level=level):
                assert level == 0, "imports are absolute"
            case ast.Import(names=names):
                yield from (alias.name.split(".")[1] for alias in names if alias.name.startswith("wsbridge."))
            case _:
                pass


def test_every_module_has_its_tests_and_the_other_way_round() -> None:
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert set(SOURCES) - UNTESTED == tests - NO_MODULE
    assert tests > NO_MODULE
    assert set(SOURCES) > UNTESTED


def test_every_module_has_its_floor() -> None:
    assert set(FLOOR) == set(SOURCES)
    assert len(FLOOR) == sum(len(names.split()) for names in FLOORS)


@pytest.mark.parametrize("name", SOURCES)
def test_imports_only_go_down(name: str) -> None:
    assert [other for other in imported(TREES[name]) if FLOOR[other] >= FLOOR[name]] == []


def test_only_three_modules_know_redis() -> None:
    knowing = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "redis"
    }
    assert knowing == {"redis_lane", "redis_link", "redis_server"}


@pytest.mark.fault("E4")
def test_background_work_is_spawned_through_jobs_only() -> None:
    """A task that nobody owns ends unnoticed. The two exceptions wait for their tasks: see their comments."""
    spawning = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future", "TaskGroup")
    }
    assert spawning == {"app", "output"}
    assert {name for name, source in SOURCES.items() if re.search("^(import|from) aiojobs", source, re.MULTILINE)} == {
        "jobs"
    }


def test_only_the_bridge_knows_the_doors() -> None:
    knowing = {name for name, tree in TREES.items() if DOORS & set(imported(tree))}
    assert knowing == {"bridge"}


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
        "metrics"
    }
