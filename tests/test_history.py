"""What a history answers to a position, and which keys are remembered. The contract of brokers covers the rest."""

import pytest

from wsbridge.event import Event
from wsbridge.history import EPOCH_LENGTH, Gap, History, Recent, Resume


def filled(events: int) -> History:
    history = History()
    for n in range(events):
        history.append("u", Event(("u",), b"%d" % n, "task_update", str(n), ""), "", 0.0)
    return history


def test_an_epoch_is_short_and_never_the_same() -> None:
    epochs = {History().epoch for _ in range(1_000)}
    assert len(epochs) == 1_000
    assert all(len(epoch) == EPOCH_LENGTH and epoch.isalnum() for epoch in epochs)


@pytest.mark.parametrize("handled", range(4))
def test_everything_after_a_position(handled: int) -> None:
    history = filled(3)
    answer = history.since(f"{history.epoch}:{handled}")
    assert (answer.recovered, answer.gap, answer.position.offset) == (True, None, handled)
    assert [entry.offset for entry in answer.entries] == list(range(handled + 1, 4))


def test_what_went_for_want_of_room_is_trimmed_and_what_went_by_time_is_expired() -> None:
    history = filled(4)
    history.entries.pop(0)
    history.trimmed = history.entries.pop(0).offset
    history.entries.pop(0)
    reasons = [history.since(f"{history.epoch}:{handled}") for handled in range(3)]
    assert [answer.gap.reason for answer in reasons if answer.gap] == ["trimmed", "trimmed", "expired"]
    assert all(answer.entries == () and answer.position == history.top for answer in reasons)


@pytest.mark.parametrize("asked", ["x", "foreign:1", "{epoch}:4"])
def test_any_other_position_is_a_reset(asked: str) -> None:
    history = filled(3)
    answer = history.since(asked.format(epoch=history.epoch))
    assert isinstance(answer, Resume)
    assert isinstance(answer.gap, Gap)
    assert (answer.recovered, answer.gap.reason, answer.position) == (False, "reset", history.top)


def test_keys_are_bounded_in_number() -> None:
    recent = Recent(ttl=1_000, most=100)
    for n in range(1_000):
        recent.age(n / 100)
        assert not recent.has(("u", str(n)))
        recent.add(("u", str(n)))
        assert len(recent) <= 102
    assert recent.has(("u", "999"))
    assert recent.has(("u", "960"))


@pytest.mark.parametrize("step", [1, 7, 10, 13, 19])
def test_a_key_is_remembered_for_its_time_whenever_others_come(step: int) -> None:
    recent, seen = Recent(ttl=20, most=1_000), dict[int, int]()
    for now in range(0, 400, step):
        recent.age(now)
        assert not recent.has(("u", str(now)))
        recent.add(("u", str(now)))
        seen[now] = now
        assert all(recent.has(("u", str(at))) for at in seen if now - at < 20)
