"""Missed and held entries of a session before it is live."""

from tests.support.peer import entry
from wsbridge.sessions.outbox import PORTION, Ledger
from wsbridge.sessions.replay import REPLAY_PORTION, Replay


def test_replay_takes_missed_entries_in_portions_of_entries_and_bytes() -> None:
    replay = Replay(Ledger())
    replay.begin([entry(offset) for offset in range(1, REPLAY_PORTION + 3)])
    frames, offset = replay.take(lambda missed: str(missed.offset).encode())
    assert (len(frames), frames[0], offset) == (REPLAY_PORTION, b"1", REPLAY_PORTION)
    frames, offset = replay.take(lambda _: bytes(PORTION))
    assert (len(frames), offset, replay.is_done) == (1, REPLAY_PORTION + 1, False)
    frames, offset = replay.take(lambda _: b"the last")
    assert (frames, offset, replay.is_done) == ([b"the last"], REPLAY_PORTION + 2, True)


def test_replay_of_small_frames_takes_them_until_a_portion_is_full() -> None:
    replay = Replay(Ledger())
    replay.begin([entry(offset) for offset in range(1, 6)])
    sizes = iter([PORTION - 2, 1, 1, 1, 1])
    frames, offset = replay.take(lambda _: bytes(next(sizes)))
    assert (len(frames), offset) == (3, 3)


def test_replay_of_nothing_gives_no_frame() -> None:
    assert Replay(Ledger()).take(lambda _: b"") == ([], 0)


def test_replay_counts_shared_data_in_the_ledger_until_it_is_taken_or_cleared() -> None:
    ledger = Ledger()
    missed, held = entry(1, data=bytes(1_000)), entry(2, data=bytes(100))
    replays = [Replay(ledger), Replay(ledger)]
    for replay in replays:
        replay.begin([missed])
        replay.hold(held, 120)
        assert replay.held_bytes == 120
    assert ledger.bytes == 1_100
    assert replays[0].take_held() == [held]
    replays[0].take(lambda _: b"")
    assert ledger.bytes == 1_100
    replays[1].clear()
    assert (ledger.bytes, replays[1].held_bytes, replays[1].has_begun) == (0, 0, False)


def test_replay_with_a_rest_to_read_has_not_begun_and_keeps_held_entries() -> None:
    replay = Replay(Ledger())
    replay.begin([])
    assert not replay.end()
    replay.begin([])
    replay.hold(entry(2), 5)
    replay.hold(entry(3), 7)
    assert replay.end()
    assert (replay.has_begun, replay.held_bytes) == (False, 12)
    assert replay.take_held() == [entry(2), entry(3)]
