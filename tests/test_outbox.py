"""What waits for one peer: in order, in portions, counted once for all that share it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.outbox import Ledger, Outbox


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30), limit=st.integers(1, 60))
def test_outbox_taken_in_portions_gives_every_byte_once_and_in_order(sizes: list[int], limit: int) -> None:
    frames = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    ledger = Ledger()
    outbox = Outbox(ledger)
    outbox.put(frames)
    taken = []
    while outbox.size:
        before = outbox.size
        taken.append(bytes(outbox.take(limit)))
        assert 0 < len(taken[-1]) <= limit
        assert outbox.size == before - len(taken[-1])
    assert b"".join(taken) == b"".join(frames)
    assert ledger.bytes == 0


@pytest.mark.fault("C5")
def test_ledger_counts_a_frame_of_many_outboxes_once_until_the_last_has_let_go() -> None:
    ledger, frame = Ledger(), b"x" * 1_000
    outboxes = [Outbox(ledger) for _ in range(20)]
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
        Outbox(ledger).put([frame])
    assert ledger.bytes == 20


def test_cut_keeps_the_frame_that_was_begun() -> None:
    ledger = Ledger()
    outbox = Outbox(ledger)
    outbox.put([b"a" * 10, b"b" * 10])
    outbox.take(4)
    outbox.cut()
    assert (outbox.size, ledger.bytes) == (6, 10)
    assert outbox.take(100) == b"a" * 6
    assert (outbox.size, ledger.bytes) == (0, 0)


def test_cut_of_one_that_was_not_begun_leaves_nothing() -> None:
    ledger = Ledger()
    outbox = Outbox(ledger)
    outbox.put([b"a", b"b"])
    outbox.cut()
    assert (outbox.size, ledger.bytes) == (0, 0)
