"""Compares the pictures of docs/architecture.md with the code."""

import importlib
import re
import tomllib

import pytest

from tests.support.running import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^(\w+(?:/\w+)+)\.py +([\w.]+)", TEXT, re.MULTILINE)


def test_picture_of_the_packages_shows_the_layers_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    picture = TEXT.split("```")[1].strip().splitlines()
    assert [re.split(r"  +", line)[0] for line in picture] == [layer for layer in layers if layer != "__main__"]


def test_ways_of_events_and_messages_have_steps() -> None:
    assert len(STEPS) == 16


@pytest.mark.parametrize(("path", "name"), STEPS)
def test_step_of_a_way_names_what_is_in_the_code(path: str, name: str) -> None:
    found = importlib.import_module("wsbridge." + path.replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)
