"""The scenarios of `wsbridge conformance`: their names, and what documents say about them."""

import json
import re

from tests.support.running import ROOT
from wsbridge.cli.conformance.scenarios import SCENARIOS

DOCUMENT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
CLOSES = json.loads((ROOT / "tests" / "vectors" / "closes.json").read_text(encoding="utf-8"))


def test_scenarios_are_documented_with_their_text() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCUMENT, re.MULTILINE))
    assert documented == {name: each.text for name, each in SCENARIOS.items() if not name.startswith("close_")}


def test_scenarios_have_each_close_code_of_the_vectors_with_its_reaction() -> None:
    expected = {
        f"close_{close['code']}": "reconnects" if close["reconnect"] else "ends"
        for close in CLOSES["closes"]
        if close["code"] != 4401  # the scenarios with tokens
    }
    found = {name: each.text.split()[0] for name, each in SCENARIOS.items()}
    assert expected.items() <= found.items()


def test_scenarios_with_tokens_are_marked() -> None:
    assert [name for name, each in SCENARIOS.items() if each.needs_token] == ["token", "refresh", "token_stream"]
