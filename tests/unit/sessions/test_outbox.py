"""Unsent frames of one peer: in order, in portions, and shared data counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.peer import entry
from wsbridge.core.events import Entry
from wsbridge.sessions.outbox import Ledger, Outbox


def made(waiting: Entry) -> bytes:
    """A frame with as many bytes as its offset, made of shared data."""
    return (b"%d" % waiting.offset * waiting.offset)[: waiting.offset]


def outbox_of(ledger: Ledger) -> Outbox:
    return Outbox(ledger, made)


@given(
    waiting=st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=30), limit=st.integers(1, 60)
)
def test_outbox_taken_in_portions_gives_every_byte_once_and_in_order(
    waiting: list[tuple[int, bool]], limit: int
) -> None:
    frames = list[bytes]()
    ledger = Ledger()
    outbox = outbox_of(ledger)
    for size, is_entry in waiting:
        frames.append(made(entry(size)))
        if is_entry:
            outbox.append(entry(size, data=bytes(7)), size)
        else:
            outbox.put(frames[-1:])
    taken = []
    while outbox.size:
        before = outbox.size
        taken.append(bytes(outbox.take(limit)))
        assert 0 < len(taken[-1]) <= limit
        assert outbox.size == before - len(taken[-1])
    assert b"".join(taken) == b"".join(frames)
    assert ledger.bytes == 0


@pytest.mark.fault("C5")
def test_ledger_counts_a_frame_of_many_outboxes_once_until_the_last_release() -> None:
    ledger, frame = Ledger(), b"x" * 1_000
    outboxes = [outbox_of(ledger) for _ in range(20)]
    for outbox in outboxes:
        outbox.put([frame, frame])
    assert ledger.bytes == 1_000
    for outbox in outboxes[1:]:
        outbox.clear()
    assert ledger.bytes == 1_000
    outboxes[0].take()
    assert ledger.bytes == 0


def test_ledger_counts_equal_frames_that_are_not_the_same_each() -> None:
    ledger = Ledger()
    for frame in (bytes(bytearray(10)), bytes(bytearray(10))):
        outbox_of(ledger).put([frame])
    assert ledger.bytes == 20


def test_cut_keeps_the_begun_frame() -> None:
    ledger = Ledger()
    outbox = outbox_of(ledger)
    outbox.put([b"a" * 10, b"b" * 10])
    outbox.take(4)
    outbox.cut()
    assert (outbox.size, ledger.bytes) == (6, 10)
    assert outbox.take(100) == b"a" * 6
    assert (outbox.size, ledger.bytes) == (0, 0)


def test_cut_of_an_outbox_without_a_begun_frame_empties_it() -> None:
    ledger = Ledger()
    outbox = outbox_of(ledger)
    outbox.put([b"a", b"b"])
    outbox.cut()
    assert (outbox.size, ledger.bytes) == (0, 0)


def test_clear_drops_a_begun_frame_too() -> None:
    ledger = Ledger()
    outbox = outbox_of(ledger)
    outbox.put([b"a" * 10, b"b" * 10])
    outbox.take(4)
    outbox.clear()
    assert (outbox.size, ledger.bytes) == (0, 0)


def test_outboxes_of_users_that_wait_for_one_event_hold_its_data_once() -> None:
    ledger, data = Ledger(), bytes(1_000)
    outboxes = [outbox_of(ledger) for _ in range(20)]
    for outbox in outboxes:
        outbox.append(entry(50, data=data), 50)
        assert outbox.size == 50
    assert ledger.bytes == len(data)
    for outbox in outboxes[1:]:
        outbox.cut()
    assert ledger.bytes == len(data)
    assert outboxes[0].take() == made(entry(50))
    assert ledger.bytes == 0


def test_outbox_that_has_begun_an_entry_counts_its_frame_until_all_of_it_is_taken() -> None:
    ledger = Ledger()
    outbox = outbox_of(ledger)
    outbox.append(entry(50, data=bytes(7)), 50)
    outbox.put([b"b"])
    assert outbox.take(40) == made(entry(50))[:40]
    assert (outbox.size, ledger.bytes) == (11, 51)
    outbox.cut()
    assert outbox.take(40) == made(entry(50))[40:]
    assert (outbox.size, ledger.bytes) == (0, 0)
