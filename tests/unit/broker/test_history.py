"""A history's answer to each position, and its memory of ids. The contract of brokers covers the rest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.broker.history import EPOCH_LENGTH, History, SharedData
from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.recovery import Gap, Resume


def filled(events: int) -> History:
    history = History()
    for n in range(events):
        history.append("u", Event(("u",), b"%d" % n, "task_update", str(n), ""), "", 0.0)
    return history


def test_epoch_is_short_and_random() -> None:
    epochs = {History().epoch for _ in range(1_000)}
    assert len(epochs) == 1_000
    assert all(len(epoch) == EPOCH_LENGTH and epoch.isalnum() for epoch in epochs)


def test_history_entry_has_what_the_event_has_and_its_position() -> None:
    history = History()
    event = Event(("u", "v"), b"{}", "task_update", "e-1", "s\ne-1", "a trace", 1.5, span="own")
    assert history.append("v", event, "2026-02-07T12:00:00.000Z", 7.0) == Entry(
        "v", history.epoch, 1, "task_update", b"{}", "2026-02-07T12:00:00.000Z", 7.0, "e-1", 1.5, "own"
    )
    assert history.top == Position(history.epoch, 1)


@pytest.mark.parametrize(
    ("event_id", "expired", "found"),
    [
        ("a", 0.0, 4),
        ("a", 3.9, 4),
        ("a", 4.0, None),
        ("b", 0.0, 2),
        ("b", 2.0, None),
        ("c", 0.0, None),
        ("x", 0.0, None),
    ],
)
def test_history_find_has_the_newest_entry_that_has_not_expired(
    event_id: str, expired: float, found: int | None
) -> None:
    history = History()
    for at, name in enumerate("cbaa", 1):
        history.append("u", Event(("u",), b"{}", "task_update", name, ""), "", float(at))
    history.drop_oldest()
    assert history.find(event_id, expired) == (found and Position(history.epoch, found))


@pytest.mark.parametrize("handled", range(4))
def test_history_after_a_position_has_all_later_entries(handled: int) -> None:
    history = filled(3)
    answer = history.since(f"{history.epoch}:{handled}")
    assert (answer.recovered, answer.gap, answer.position.offset) == (True, None, handled)
    assert [entry.offset for entry in answer.entries] == list(range(handled + 1, 4))


def test_history_gap_is_trimmed_by_size_and_expired_by_time() -> None:
    history = filled(4)
    history.drop_oldest()
    history.trimmed = history.drop_oldest().offset
    history.drop_oldest()
    reasons = [history.since(f"{history.epoch}:{handled}") for handled in range(3)]
    assert [answer.gap.reason for answer in reasons if answer.gap] == ["trimmed", "trimmed", "expired"]
    assert all(answer.entries == () and answer.position == history.top for answer in reasons)


def test_history_since_a_dropped_entry_that_still_takes_a_place_is_a_gap() -> None:
    history = filled(10)
    history.drop_oldest()
    history.drop_oldest()
    assert [bool(history.since(f"{history.epoch}:{handled}").gap) for handled in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("asked", ["x", "foreign:1", "{epoch}:4"])
def test_history_with_any_other_position_is_a_reset(asked: str) -> None:
    history = filled(3)
    answer = history.since(asked.format(epoch=history.epoch))
    assert isinstance(answer, Resume)
    assert isinstance(answer.gap, Gap)
    assert (answer.recovered, answer.gap.reason, answer.position) == (False, "reset", history.top)


class Counted(list[Entry]):
    """Counts the entries that are moved in memory when others are removed before them."""

    moved = 0

    def __delitem__(self, place: Any) -> None:
        super().__delitem__(place)
        self.moved += len(self)

    def pop(self, place: Any = -1) -> Entry:
        entry = super().pop(place)
        self.moved += len(self) - place
        return entry


@pytest.mark.fault("C6")
def test_history_whose_entries_are_dropped_one_by_one_moves_each_at_most_once() -> None:
    history = filled(10_000)
    history._entries = moving = Counted(history._entries)
    assert [history.drop_oldest().offset for _ in range(10_000)] == list(range(1, 10_001))
    assert moving.moved <= 10_000
    assert (history.kept, len(history._entries)) == (0, 0)


@given(st.lists(st.sampled_from(["append", "drop"]), max_size=200))
def test_history_after_any_appends_and_drops_keeps_the_newest(steps: list[str]) -> None:
    history, kept = History(), list[int]()
    for step in steps:
        if step == "append":
            data = bytes(history.offset)
            kept.append(history.append("u", Event(("u",), data, "", "id", ""), "", 0.0).offset)
        elif kept:
            assert history.oldest.offset == kept[0]
            assert history.drop_oldest().offset == kept.pop(0)
        assert (history.kept, history.weight) == (len(kept), sum(offset - 1 + len("id") for offset in kept))
        first = kept[0] - 1 if kept else history.offset
        assert [entry.offset for entry in history.since(f"{history.epoch}:{first}").entries] == kept
        assert len(history._entries) <= 2 * len(kept) + 1


def test_history_with_expired_entries_not_removed_yet_is_a_gap() -> None:
    history = History()
    for n in range(4):
        history.append("u", Event(("u",), b"{}", "", "", ""), "", float(n))
    assert history.since(f"{history.epoch}:1", 1.0).gap == Gap(Position(history.epoch, 1), "expired")
    assert [entry.offset for entry in history.since(f"{history.epoch}:2", 1.0).entries] == [3, 4]


def test_history_data_shared_by_users_is_counted_once() -> None:
    held, data, own = SharedData(), b"x" * 100, b"y" * 10
    assert [held.hold(data) for _ in range(3)] == [100, 0, 0]
    assert held.release(own) == 10  # of one history only, which does not hold it here
    assert [held.release(data) for _ in range(3)] == [0, 0, 100]
    assert held.hold(data) == 100
