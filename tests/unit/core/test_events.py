"""Positions and user ids."""

import json
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.running import ROOT
from wsbridge.core.events import Entry, Event, Position, Rejected
from wsbridge.core.reasons import Drop

VECTORS = json.loads((ROOT / "tests" / "vectors" / "positions.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda case: case["text"])
def test_position_of_a_valid_text_is_epoch_and_offset(case: dict[str, Any]) -> None:
    position = Position.parse(case["text"])
    assert position == Position(case["epoch"], case["offset"])
    assert str(position) == case["text"]


@pytest.mark.parametrize("text", VECTORS["bad"], ids=repr)
def test_position_of_an_invalid_text_is_none(text: str) -> None:
    assert Position.parse(text) is None


@pytest.mark.parametrize("case", VECTORS["order"], ids=lambda case: f"{case['a']} {case['b']}")
def test_positions_compare_as_integers_within_one_epoch(case: dict[str, Any]) -> None:
    a, b = Position.parse(case["a"]), Position.parse(case["b"])
    assert a is not None
    assert b is not None
    order = (a.offset > b.offset) - (a.offset < b.offset) if a.epoch == b.epoch else None
    assert order == case["order"]


@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=32), st.integers(0, 10**19 - 1))
def test_position_as_text_is_parsed_back(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position


@given(st.text() | st.text("aB:01239-"))
@example("k3f9x2:\u0661")
@example("k3f9x2:1\ud800")
def test_position_of_any_text_has_one_spelling(text: str) -> None:
    position = Position.parse(text)
    assert position is None or str(position) == text


@pytest.mark.parametrize(
    "value",
    [
        Position("e", 1),
        Event(("u",), b"{}", "task_update", "e-1", "key"),
        Entry("u", "e", 1, "task_update", b"{}", "2026-02-07T12:00:00.000Z", 0.0, "e-1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_shared_by_many_sessions_are_immutable(value: Position | Event | Entry) -> None:
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_rejected_has_a_reason_a_text_and_an_optional_id() -> None:
    rejected = Rejected(Drop.NO_USER, "there is no user", "e-1")
    assert (rejected.reason, rejected.text, rejected.event_id) == ("no_user", "there is no user", "e-1")
    assert Rejected(Drop.NO_USER, "there is no user").event_id == ""
