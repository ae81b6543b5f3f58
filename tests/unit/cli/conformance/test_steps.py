"""The messages that most scenarios send."""

import json

from wsbridge.cli.conformance.steps import event, hello
from wsbridge.config.settings import Settings


def test_event_with_padding_has_the_size_of_the_largest_event() -> None:
    size = Settings().max_event_bytes
    assert len(json.dumps(json.loads(event(1, padding=size - 100))["event"])) in range(size - 100, size + 1)


def test_hello_names_the_position_before_the_first_event() -> None:
    assert json.loads(hello(0))["last_event_id"] == "e:0"
    assert json.loads(event(1))["id"] == "e:1"
