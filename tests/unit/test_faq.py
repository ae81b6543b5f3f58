"""The commands of docs/faq.md are complete: an operator types them during an outage."""

import re
import shlex

from tests.support.running import ROOT
from wsbridge.cli.main import cli

FAQ = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")


def test_faq_names_existing_commands_and_options() -> None:
    named = re.findall(r"`wsbridge ([^`]*)`", FAQ)
    assert len(named) > 10
    for line in named:
        name, *words = shlex.split(line)
        options = {option for p in cli.commands[name].params for option in p.opts}
        assert not [word for word in words if word.startswith("--") and word not in options], line


def test_faq_begins_with_a_doctor_that_checks_everything() -> None:
    first = FAQ.split("\n## ")[0]
    assert "Run `wsbridge doctor --canary --public-url URL --token JWT` first" in first
    assert "`wsbridge listen" in first
    assert "`wsbridge why USER EVENT_ID`" in first


def test_faq_on_missing_events_looks_at_dropped_events_before_the_sidecar() -> None:
    nothing = FAQ.split("## Nothing arrives")[1].split("\n## ")[0]
    assert nothing.index("line `refused`") < nothing.index("look at the sidecar and at Kafka")
    assert "`request.denied` for `/dapr/subscribe`" in nothing
