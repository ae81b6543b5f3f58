"""A history's answer to each position, and its memory of ids. The contract of brokers covers the rest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.broker.history import EPOCH_LENGTH, History, RecentKeys, SharedData
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
    event = Event(("u", "v"), b"{}", "task_update", "e-1", "s\ne-1", "a trace", 1.5)
    assert history.append("v", event, "2026-02-07T12:00:00.000Z", 7.0) == Entry(
        "v", history.epoch, 1, "task_update", b"{}", "2026-02-07T12:00:00.000Z", 7.0, "e-1", 1.5
    )
    assert history.top == Position(history.epoch, 1)


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
    assert [held.hold(data, shared=True) for _ in range(3)] == [100, 0, 0]
    assert held.hold(own, shared=False) == 10
    assert held.release(own) == 10
    assert [held.release(data) for _ in range(3)] == [0, 0, 100]
    assert held.hold(data, shared=True) == 100


@pytest.mark.parametrize("most", [2, 3, 5, 100, 101])
def test_keys_remembered_are_the_latest_half_of_the_bound_at_least(most: int) -> None:
    recent = RecentKeys(ttl=1_000, most=most)
    for n in range(1_000):
        recent.add(("u", str(n)))
        assert len(recent) <= most
        assert all(recent.has(("u", str(at))) for at in range(max(0, n - most // 2 + 1), n + 1))


def test_keys_with_a_bound_of_one_are_the_last_two() -> None:
    recent = RecentKeys(ttl=1_000, most=1)
    for n in range(3):
        recent.add(("u", str(n)))
    assert [recent.has(("u", str(n))) for n in range(3)] == [False, True, True]


@pytest.mark.parametrize("silence", [40, 1_000])
def test_key_after_twice_its_time_is_forgotten(silence: int) -> None:
    recent = RecentKeys(ttl=20, most=100)
    recent.age(0)
    recent.add(("u", "a"))
    recent.age(silence)
    assert (recent.has(("u", "a")), len(recent)) == (False, 0)


def test_keys_are_bounded_in_number_while_none_expires() -> None:
    recent = RecentKeys(ttl=1_000, most=100)
    for n in range(1_000):
        recent.add(("u", str(n)))
        assert len(recent) <= 100
    assert recent.has(("u", "999"))
    assert not recent.has(("u", "880"))


def test_keys_are_bounded_in_number() -> None:
    recent = RecentKeys(ttl=1_000, most=100)
    for n in range(1_000):
        recent.age(n / 100)
        assert not recent.has(("u", str(n)))
        recent.add(("u", str(n)))
        assert len(recent) <= 102
    assert recent.has(("u", "999"))
    assert recent.has(("u", "960"))


@pytest.mark.parametrize("step", [1, 7, 10, 13, 19])
def test_key_is_remembered_for_its_time_whatever_is_added(step: int) -> None:
    recent, seen = RecentKeys(ttl=20, most=1_000), dict[int, int]()
    for now in range(0, 400, step):
        recent.age(now)
        assert not recent.has(("u", str(now)))
        recent.add(("u", str(now)))
        seen[now] = now
        assert all(recent.has(("u", str(at))) for at in seen if now - at < 20)
