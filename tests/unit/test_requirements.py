"""The tested versions are the deployed ones: the lock files, and where each is installed."""

import configparser
import os
import re
import tomllib
from importlib.metadata import version
from typing import Any

import pytest

from tests.support.running import ROOT

LOCKS = (
    "requirements.txt",
    "requirements/traces.txt",
    "requirements/test.txt",
    "requirements/build.txt",
    "requirements/chain.txt",
    "requirements/mutants.txt",
    "requirements/tools.txt",
    "requirements/fuzz.txt",
    "requirements/bench.txt",
    "requirements/recipes.txt",
    "requirements/autobahn.txt",
    "requirements/envoy.txt",
    "requirements/release.txt",
)
PIN = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>.+?))? \\(?:\n    --hash=sha256:\w{64}(?: \\)?)+\n"
)
FREE = {"newest"}  # tox environments that may install the newest versions


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, re.Match[str]]:
    """Package → pin with its hashes, of a lock file."""
    return {pin["name"]: pin for pin in PIN.finditer(text_of(name))}


def files(pin: re.Match[str]) -> tuple[str, list[str]]:
    """Version and hashes.

    Markers are left out, because they differ if a test tool needs the package on every Python.
    """
    return pin["version"], re.findall(r"sha256:(\w+)", pin[0])


def group(name: str) -> set[str]:
    """The packages of a dependency group, including those of included groups."""
    found: set[str] = set()
    entries: list[Any] = tomllib.loads(text_of("pyproject.toml"))["dependency-groups"][name]
    for entry in entries:
        found |= group(entry["include-group"]) if isinstance(entry, dict) else {package(entry)}
    return found


def package(requirement: str) -> str:
    [name] = re.findall(r"^[\w.-]+", requirement)
    return str(name).lower().replace("_", "-")


def tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text_of("tox.ini"))
    return parser


@pytest.mark.fault("A1")
@pytest.mark.parametrize("name", LOCKS)
def test_lock_file_every_line_is_a_pin_with_hashes(name: str) -> None:
    rest = PIN.sub("", text_of(name))
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []
    assert pins(name)


@pytest.mark.fault("A1")
@pytest.mark.parametrize(("part", "whole"), [("", "/test"), ("", "/traces"), ("/traces", "/test")])
def test_lock_with_the_runtime_has_it_pin_by_pin(part: str, whole: str) -> None:
    runtime, others = pins(f"requirements{part}.txt"), pins(f"requirements{whole}.txt")
    for name, pin in runtime.items():
        assert files(pin) == files(others[name]), name


def test_lock_of_traces_has_every_package_of_the_extra() -> None:
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert {package(each) for each in extras["traces"]} <= set(pins("requirements/traces.txt"))


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("name", "locked"),
    [
        ("types", "test"),
        ("lint", "test"),
        ("build", "build"),
        ("chain", "chain"),
        ("tools", "tools"),
        ("fuzz", "fuzz"),
        ("mutants", "mutants"),
        ("bench", "bench"),
        ("recipes", "recipes"),
        ("autobahn", "autobahn"),
        ("release", "release"),
    ],
)
def test_lock_file_has_every_package_of_its_group(name: str, locked: str) -> None:
    assert group(name) - set(pins(f"requirements/{locked}.txt")) == set()


@pytest.mark.fault("A1")
def test_lock_files_agree_on_the_build_tools() -> None:
    tests = pins("requirements/test.txt")
    for name, pin in pins("requirements/build.txt").items():
        assert pin["version"] == tests[name]["version"], name


@pytest.mark.fault("A1")
def test_tox_installs_from_a_lock_and_builds_without_the_index() -> None:
    sections = tox()
    base = sections["testenv"]
    assert base["deps"] == "-r requirements/test.txt"
    assert base["skip_install"] == "true"
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(base["commands_pre"].split())
    for name in sections.sections():
        section, env = sections[name], name.removeprefix("testenv:")
        if not name.startswith("testenv") or env in FREE:
            continue
        assert section.get("deps", "") in {
            "",
            *(f"-r requirements/{lock}.txt" for lock in ("test", "mutants", "fuzz", "bench", "autobahn", "release")),
        }, name
        assert section.get("skip_install", "true") == "true", name
        assert "dependency_groups" not in section, name
    assert not FREE & set(re.split(r"[,\s]+", sections["tox"]["env_list"]))


def test_tox_runs_all_tests_on_both_event_loops() -> None:
    sections = tox()
    env_list = sections["tox"]["env_list"].split(", ")
    assert env_list == ["lint", "client", "browser", "coverage", "py{312,313}"]
    assert sections["testenv"]["set_env"].split("\n")[1:] == ["py312,py313: TEST_LOOP = uvloop"]
    assert "TEST_LOOP" not in sections["testenv:coverage"]["set_env"]


@pytest.mark.fault("A1")
@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "Dockerfile"])
def test_pip_installs_by_hash_or_without_the_index(name: str) -> None:
    text = re.sub(r"\\\n\s*", "", text_of(name))
    commands = re.findall(
        r"pip\)?(?: --python \S+)? (?:install|wheel) [^&\n]*", re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    )
    assert len(commands) == {"Makefile": 4, ".ci/run": 0, "Dockerfile": 4}[name]
    assert all("--require-hashes" in command or "--no-index" in command for command in commands), commands


@pytest.mark.fault("A1")
def test_requirements_installed_by_tox_are_the_locked_runtime() -> None:
    if os.environ.get("TOX_ENV_NAME", "newest") in FREE and os.environ.get("REQUIRE_ALL_TESTS") != "1":
        pytest.skip("tox installs the lock; this environment was made by hand")
    for name, pin in pins("requirements.txt").items():
        if not pin["marker"]:
            assert version(name) == pin["version"], name


@pytest.mark.fault("A4")
def test_distribution_is_not_named_as_another_project_on_the_index_and_the_command_stays() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert project["name"] == "wsbridge-server"
    assert project["scripts"] == {"wsbridge": "wsbridge.cli.main:main"}
    assert f"`{project['name']}`" in text_of("README.md")


@pytest.mark.fault("A4")
@pytest.mark.parametrize("name", ["README.md", "client/README.md", "FRONTEND_INTEGRATION.md"])
def test_document_claims_no_package_that_is_not_published(name: str) -> None:
    for command in re.findall(r"(?:npm (?:install|i)|pip install) [^`\n]*", text_of(name)):
        assert not re.search(r" wsbridge(-client|-server)?(@|=|$)", command), command


DAPRD = {"--dapr-http-port": "3500", "--dapr-grpc-port": "50001", "--metrics-port": "9090"}  # their defaults


@pytest.mark.fault("A2")
@pytest.mark.parametrize("name", ["README.md", "examples/tasks-backend/README.md"])
def test_sidecars_of_the_walk_through_share_no_port(name: str) -> None:
    text = text_of(name).split("### From backend to browser")[-1].split("\n## ")[0].replace("\\\n", "")
    lines = [line.removesuffix("&").split() for line in re.findall(r"^daprd .*$", text, re.MULTILINE)]
    assert len(lines) == 2
    ports = [port for words in lines for port in (DAPRD | dict(zip(words[1::2], words[2::2], strict=True))).items()]
    taken = [port for option, port in ports if option in {*DAPRD, "--app-port"}]
    assert len(taken) == len(set(taken)) == 7
    assert {app for option, app in ports if option == "--app-id"} == {"websocket-service", "backend"}


@pytest.mark.fault("A5")
@pytest.mark.parametrize("name", ["README.md", "examples/tasks-backend/README.md"])
def test_users_of_the_documents_are_those_of_the_demo_page(name: str) -> None:
    found = set(re.findall(r"""(?:--user |user_id": "|userId: "|partitionKey=)([\w-]+)""", text_of(name)))
    assert found <= {"alice", "bob", "U"}, found
