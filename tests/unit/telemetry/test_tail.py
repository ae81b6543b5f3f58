"""Samples of the events for consoles: filters, bounds, and texts that cannot be encoded."""

from typing import Any

import msgspec
import pytest

from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.telemetry.tail import LONGEST, Sample, Tail

STORED = ("stored", None, "")


def event(number: int = 1, *users: str, **fields: Any) -> Event:
    users = users or ("u1",)
    return Event(**{"users": users, "data": b'{"secret":1}', "type": "task", "id": f"e{number}", "key": ""} | fields)


def offered(sample: Sample, *events: Event, outcome: tuple[str, str | None, str] = STORED) -> None:
    tail = Tail()
    tail.add(sample)
    tail.received(1.0, "t", events, [outcome] * len(events))


def test_sample_has_the_facts_of_an_event_without_its_data() -> None:
    sample = Sample(5)
    offered(sample, event(7, "u1", "u2", produced=0.75, partition="3", offset="41"))
    (line,), left_out = sample.take()
    assert left_out == 0
    assert (line.id, line.users, line.user_count, line.place) == ("e7", ["u1", "u2"], 2, "t/3/41")
    assert (line.outcome, line.size, line.age) == ("stored", 12, 0.25)
    assert b"secret" not in msgspec.json.encode(line)
    assert sample.take() == ([], 0)


def test_sample_over_its_size_counts_the_rest_and_keeps_any_of_them() -> None:
    kept = set()
    for _ in range(50):
        sample = Sample(3)
        offered(sample, *map(event, range(10)))
        lines, left_out = sample.take()
        assert (len(lines), left_out) == (3, 7)
        kept |= {line.id for line in lines}
    assert kept == {f"e{number}" for number in range(10)}


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 2),
        ({"user": "u1"}, 1),
        ({"user": "u"}, 0),
        ({"kind": "task"}, 2),
        ({"kind": "order"}, 0),
        ({"outcome": "duplicate"}, 2),
        ({"outcome": "stored"}, 0),
    ],
)
def test_sample_with_a_filter_has_only_what_matches(wanted: dict[str, str], count: int) -> None:
    sample = Sample(5, **wanted)
    offered(sample, event(1, "u1"), event(2, "u2", "u3"), outcome=("duplicate", None, ""))
    assert len(sample.take()[0]) == count


def test_tail_shows_a_dropped_event_with_its_reason() -> None:
    tail, sample, others = Tail(), Sample(5), Sample(5, user="u1")
    tail.add(sample)
    tail.add(others)
    tail.dropped(1.0, "t", "task", Rejected(Drop.NO_USER, "user_id has no user", "e1"))
    (line,), _ = sample.take()
    assert (line.outcome, line.reason, line.detail, line.users) == ("dropped", "no_user", "user_id has no user", [])
    assert others.take() == ([], 0)


def test_tail_without_a_sample_is_off() -> None:
    tail, sample = Tail(), Sample(5)
    states = [tail.is_on]
    for change in (tail.add, tail.discard, tail.discard):
        change(sample)
        states.append(tail.is_on)
    assert states == [False, True, False, False]


def test_sample_of_invalid_and_long_texts_can_be_encoded() -> None:
    sample = Sample(5)
    partition: Any = 3  # JSON metadata may have a number
    offered(sample, event(id="\udcff" * 9 + "x" * LONGEST, partition=partition, offset="\ud800"))
    (line,), _ = sample.take()
    assert len(line.id) == LONGEST
    assert msgspec.json.encode(line)
    assert line.place == "t/3/?"
