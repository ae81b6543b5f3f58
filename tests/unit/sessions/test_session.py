"""A session without a socket: its states, its bounds, the change from replay to live."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.examples import tries
from tests.support.peer import BACKLOG, HELLO, Peer, entry, resume
from wsbridge.core.close_codes import (
    FORCE_DISCONNECT,
    INTERNAL,
    LOST,
    POLICY,
    SHUTDOWN,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    Close,
)
from wsbridge.core.events import Entry, Position
from wsbridge.core.recovery import Gap, Resume
from wsbridge.sessions.outbox import HIGH_WATER, PORTION
from wsbridge.sessions.record import NEVER
from wsbridge.sessions.replay import REPLAY_PORTION
from wsbridge.sessions.run import run_of
from wsbridge.sessions.session import Session
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.sessions.state import TRANSITIONS, State
from wsbridge.telemetry.metrics import Metrics

# States.


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_session_enter_allows_the_transitions_of_the_table_only(before: State, after: State) -> None:
    session = Peer().session
    session.state = before
    if after in TRANSITIONS[before]:
        session.enter(after)
        assert session.state is after
    else:
        with pytest.raises(RuntimeError, match=f"from {before.name} to {after.name}"):
            session.enter(after)


def test_session_begins_joining_with_its_own_id() -> None:
    sessions = [Peer().session for _ in range(100)]
    assert {session.state for session in sessions} == {State.JOINING}
    assert len({session.id for session in sessions}) == 100


def test_session_begins_without_position_and_close() -> None:
    session = Peer(now=7.0).session
    assert (session.position, session.close, session.expires_at) == (Position("", 0), None, float("inf"))
    assert (session.opened_at, session.heard_at, session.pinged_at) == (7.0, 7.0, 7.0)
    assert (session.messages_sent, session.messages_received, session.rest) == (0, 0, 0)
    assert (session.user, session.peer, session.agent) == ("u", "10.0.0.9", "x")


# Live.


def test_session_attach_sends_connected_with_the_position_first() -> None:
    peer = Peer.live()
    assert peer.connection.messages == [{"type": "connected"}]
    assert peer.connection.positions == [Position("e", 0)]
    assert peer.session.state is State.LIVE
    assert peer.session.position == Position("e", 0)


def test_session_live_entries_are_written_at_the_flush_once_in_order() -> None:
    peer = Peer.live()
    assert peer.offer(1, 2, 2, 1, 3) == [True, True, False, False, True]
    assert peer.ids == []
    peer.session.flush()
    peer.session.flush()
    assert peer.ids == ["e:1", "e:2", "e:3"]
    assert peer.session.position == Position("e", 3)


def test_session_entries_between_two_flushes_are_one_write() -> None:
    peer = Peer.live()
    peer.offer(1, 2, 3)
    peer.session.flush()
    assert len(peer.connection.written) == 2  # with `connected`
    assert (peer.session.messages_sent, peer.metrics.sent) == (4, 4)
    assert peer.metrics.sent_bytes == sum(map(len, peer.connection.written))


def test_session_send_writes_at_once_after_offered_entries() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.session.send(b'{"type":"pong"}')
    assert [message["type"] for message in peer.connection.messages] == ["connected", "task_update", "pong"]


@pytest.mark.parametrize("missed", [(3, "e"), (1, "f"), (7, "f")])
def test_session_missed_entry_requests_one_catch_up(missed: tuple[int, str]) -> None:
    peer = Peer.live()
    peer.offer(1)
    assert peer.offer(missed[0], epoch=missed[1]) == [False]
    assert peer.offer(missed[0] + 1, epoch=missed[1]) == [False]
    assert peer.behind == [peer.session]
    assert peer.ids == ["e:1"]  # entries before the missed one are sent
    assert (peer.session.state, peer.session.position) == (State.REPLAYING, Position("e", 1))
    assert peer.connection.ended == []


async def test_session_catch_up_sends_missed_entries_then_held_ones() -> None:
    peer = Peer.live()
    peer.offer(1, 3, 4, 5)
    await peer.catch_up(resume(1, top=4))
    assert peer.ids == ["e:1", "e:2", "e:3", "e:4", "e:5"]
    assert peer.offer(6) == [True]
    assert peer.behind == [peer.session]
    assert [message["type"] for message in peer.connection.messages].count("connected") == 1


async def test_session_missed_entry_among_held_ones_requests_another_catch_up() -> None:
    peer = Peer.live()
    peer.offer(2, 3, 5, 6)
    await peer.catch_up(resume(0, top=2))
    assert peer.ids == ["e:1", "e:2", "e:3"]
    assert peer.behind == [peer.session] * 2
    assert len(peer.slow_consumers) == 0
    peer.offer(7)
    await peer.catch_up(resume(3, top=6))
    assert peer.ids == [f"e:{n}" for n in range(1, 8)]
    assert peer.session.state is State.LIVE


async def test_session_catch_up_in_a_new_history_sends_a_gap() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.offer(1, 2, 3, epoch="f")
    anew = Position("f", 2)
    await peer.catch_up(Resume(anew, (), False, Gap(Position("e", 1), "reset")))
    kinds = [(m["type"], m.get("id"), m.get("after"), m.get("last_event_id")) for m in peer.connection.messages[1:]]
    assert kinds == [
        ("task_update", "e:1", None, None),
        ("gap", None, "e:1", "f:2"),
        ("task_update", "f:3", None, None),
    ]
    assert peer.connection.messages[2]["reason"] == "reset"
    assert anew in peer.connection.positions  # a client that loses its connection now resumes after the gap
    assert peer.metrics.gaps["reset"] == 1


async def test_session_late_entry_of_an_ended_epoch_is_not_sent() -> None:
    peer = Peer.live()
    peer.session.fall_behind()
    peer.offer(1, 2)  # in flight when the new history began
    await peer.catch_up(Resume(Position("f", 0), (), False, Gap(Position("e", 0), "reset")))
    assert peer.behind == [peer.session] * 2
    await peer.catch_up(Resume(Position("f", 0), (), recovered=True))
    assert peer.ids == []
    assert peer.offer(1, epoch="f") == [True]


async def test_session_that_has_ended_does_not_catch_up() -> None:
    peer = Peer.live()
    peer.offer(2)
    peer.session.end(POLICY)
    await peer.catch_up(resume(0, top=2))
    assert peer.ids == []


def test_session_that_is_not_live_is_never_behind() -> None:
    peer = Peer()
    peer.session.fall_behind()
    assert peer.behind == []


# The backlog.


def large(offset: int, size: int = PORTION) -> Entry:
    return entry(offset, data=b'"%b"' % (b"x" * size))


def give(peer: Peer, *entries: Entry) -> list[bytes]:
    """Offer these and flush; return their frames."""
    frames = [peer.connection.update(each) for each in entries]
    for each, frame in zip(entries, frames, strict=True):
        assert peer.session.offer(each, frame)
    peer.session.flush()
    return frames


RUNS = {
    "next": [(1, "e")],
    "many": [(1, "e"), (2, "e"), (3, "e")],
    "large": [(1, "e"), (2, "e"), (3, "e"), (4, "e")],
    "duplicate": [(0, "e"), (1, "e")],
    "missed": [(1, "e"), (3, "e")],
    "new epoch": [(1, "e"), (1, "f")],
}


def wait(peer: Peer) -> None:
    """Let a frame wait for the peer."""
    peer.connection.buffered = HIGH_WATER + 1
    peer.session.send(b"{}")


STATES: dict[str, Callable[[Peer], object]] = {
    "free": lambda _: None,
    "paused": lambda peer: setattr(peer.connection, "buffered", HIGH_WATER + 1),
    "waiting": wait,
    "replaying": lambda peer: peer.session.fall_behind(),
    "closed": lambda peer: peer.session.end(SLOW_CONSUMER),
}


@pytest.mark.parametrize("entries", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("prepare", STATES.values(), ids=STATES)
def test_session_deliver_does_the_same_as_offer_of_each_entry_and_flush(
    prepare: Callable[[Peer], object], entries: list[tuple[int, str]]
) -> None:
    found = []
    for is_whole in (True, False):
        peer = Peer.live()
        prepare(peer)
        offered = [entry(*one, data=b'"%b"' % bytes(PORTION // 3)) for one in entries]
        frames = [peer.connection.update(one) for one in offered]
        if is_whole:
            taken = peer.session.deliver(run_of(offered, frames))
        else:
            taken = sum([peer.session.offer(one, frame) for one, frame in zip(offered, frames, strict=True)])
            peer.session.flush()
        session, metrics = peer.session, peer.metrics
        state = (session.state, session.position, session.unsent(), session.messages_sent, session.is_pumped)
        counts = (
            metrics.sent,
            metrics.sent_bytes,
            peer.slow_consumers.ledger.bytes,
            len(peer.slow_consumers),
            peer.connection.woken,
        )
        found.append((taken, len(peer.behind), state, counts, peer.connection.written))
    assert found[0] == found[1]


def test_session_flush_to_a_free_transport_is_one_write() -> None:
    peer = Peer.live()
    peer.connection.buffered = HIGH_WATER
    peer.offer(1, 2, 3)
    peer.session.flush()
    assert len(peer.connection.written) == 2  # with `connected`
    assert (len(peer.slow_consumers), peer.connection.woken) == (0, 0)


@pytest.mark.fault("C5")
def test_session_frames_waiting_for_many_peers_are_held_once() -> None:
    slow_consumers = SlowConsumers(Metrics(), max_session=10**6, max_total=10**9)
    peers = [Peer.live(f"u{n}", slow_consumers=slow_consumers) for n in range(20)]
    shared = large(1)
    frame = peers[0].connection.update(shared)
    for peer in peers:
        peer.connection.buffered = HIGH_WATER + 1
        peer.session.offer(shared, frame)
        peer.session.flush()
        assert peer.session.unsent() == HIGH_WATER + 1 + len(frame)
    assert slow_consumers.ledger.bytes == len(frame)
    assert slow_consumers.bytes == len(frame) + 20 * (HIGH_WATER + 1)
    for peer in peers:
        peer.session.leave()
    assert (slow_consumers.bytes, len(slow_consumers)) == (0, 0)


@pytest.mark.fault("C5")
def test_session_whose_peer_does_not_read_shares_the_data_of_an_event_with_other_users() -> None:
    slow_consumers = SlowConsumers(Metrics(), max_session=10**6, max_total=10**9)
    peers = [Peer.live(f"u{n}", slow_consumers=slow_consumers) for n in range(20)]
    data = b'"%b"' % (b"x" * PORTION)
    for peer in peers:
        peer.connection.buffered = HIGH_WATER + 1
        peer.offer(1)
        peer.session.flush()
    before = slow_consumers.ledger.bytes
    for offset in (2, 3):
        for peer in peers:
            assert peer.session.offer(entry(offset, user=peer.session.user, data=data), bytes(PORTION))
            peer.session.flush()
    assert slow_consumers.ledger.bytes == before + len(data)
    for peer in peers:
        assert peer.session.messages_sent == 4
        while peer.session.is_pumped:
            peer.session.pump()
        assert peer.ids == ["e:1", "e:2", "e:3"]
    assert slow_consumers.ledger.bytes == 0


@pytest.mark.fault("D4")
async def test_session_large_batch_is_written_in_portions_as_the_transport_drains() -> None:
    peer, seen = Peer.live(), list[int]()

    async def draining() -> None:
        seen.append(sum(map(len, peer.connection.written)))

    peer.connection.draining = draining
    give(peer, *(large(n, 10_000) for n in range(1, 31)))
    assert peer.ids == []
    peer.slow_consumers.look()
    await peer.pumped()
    assert peer.ids == [f"e:{n}" for n in range(1, 31)]
    assert max(map(len, peer.connection.written)) <= PORTION
    assert len(seen) >= 5
    assert peer.connection.ended == []
    assert (peer.session.unsent(), len(peer.slow_consumers)) == (0, 0)


@pytest.mark.fault("D4")
def test_session_over_its_bound_is_closed_as_slow_consumer_after_some_time() -> None:
    peer = Peer.live()
    give(peer, large(1))
    for peer.now, slow in ((0.25, False), (0.75, False), (0.9, False), (1.1, True)):
        peer.slow_consumers.look()
        assert (peer.session.close == SLOW_CONSUMER) is slow
    assert peer.connection.ended == [SLOW_CONSUMER]
    assert peer.connection.timers == [True]  # its memory is freed soon
    assert (peer.slow_consumers.bytes, len(peer.slow_consumers)) == (0, 0)


def test_session_slow_consumer_gets_the_rest_of_a_frame_before_its_close() -> None:
    peer = Peer.live()
    first, _ = give(peer, large(1, 2 * PORTION), large(2))
    peer.session.pump()
    peer.session.end(SLOW_CONSUMER)
    assert peer.connection.ended == []
    while peer.session.is_pumped:
        peer.session.pump()
    assert b"".join(peer.connection.written[1:]) == first
    assert peer.connection.ended == [SLOW_CONSUMER]


async def test_session_closed_by_an_operator_gets_all_waiting_frames_first() -> None:
    peer = Peer.live()
    give(peer, large(1), large(2))
    peer.session.end(FORCE_DISCONNECT, explain=True)
    assert peer.connection.ended == []
    assert peer.connection.timers == [False]
    await peer.pumped()
    assert [m["type"] for m in peer.connection.messages[1:]] == ["task_update", "task_update", "goodbye"]
    assert peer.connection.ended == [FORCE_DISCONNECT]


def test_session_pings_and_pongs_are_written_between_frames() -> None:
    peer = Peer.live()
    (frame,) = give(peer, large(1, 2 * PORTION))
    peer.session.pump()
    peer.session.ping()
    peer.session.pong(b"pong\n")
    while peer.session.is_pumped:
        peer.session.pump()
    assert peer.connection.pings == 0
    assert b"".join(peer.connection.written[1:]) == frame + b"pong\n"
    peer.session.ping()
    assert peer.connection.pings == 1


def test_session_round_trip_is_from_a_ping_to_its_first_pong() -> None:
    session = Peer.live().session
    session.pinged_at = 5.0
    session.ping()
    trips = [session.round_trip]
    for at in (5.25, 9.0):  # the second pong answers no ping
        session.ponged(at)
        trips.append(session.round_trip)
    session.ping()
    assert [*trips, session.round_trip] == [None, 0.25, 0.25, None]


def test_session_round_trip_without_a_ping_is_not_measured() -> None:
    """While frames wait, no ping is sent, and the pong of an earlier one may arrive late."""
    peer = Peer.live()
    give(peer, large(1, 2 * PORTION))
    peer.session.ping()
    peer.session.ponged(9.0)
    assert peer.session.round_trip == NEVER


def test_session_peer_that_reads_counts_as_alive() -> None:
    peer = Peer.live()
    give(peer, large(1))
    peer.session.pump()
    peer.now = 7.0
    peer.slow_consumers.look()
    assert peer.session.heard_at == 7.0


# Before `connected`.


@pytest.mark.fault("E9")
@pytest.mark.parametrize(
    ("end", "kinds", "close"),
    [
        (lambda session: session.end(FORCE_DISCONNECT, explain=True), ["connected", "goodbye"], FORCE_DISCONNECT),
        (lambda session: session.end(SHUTDOWN), ["connected"], SHUTDOWN),
    ],
    ids=["with a goodbye", "without"],
)
def test_session_ended_before_attach_sends_connected_then_its_close(
    end: Callable[[Session], None], kinds: list[str], close: Close
) -> None:
    peer = Peer()
    end(peer.session)
    end(peer.session)
    peer.session.ping()
    peer.session.pong(b"x")
    assert (peer.connection.written, peer.connection.ended) == ([], [])
    peer.session.attach(Resume(Position("e", 0), (entry(1),), recovered=True), HELLO)
    assert [m["type"] for m in peer.connection.messages] == kinds
    assert peer.connection.ended == [close]
    assert peer.session.state is State.CLOSED
    assert peer.slow_consumers.bytes == 0


@pytest.mark.fault("E9")
def test_session_lost_before_attach_writes_nothing() -> None:
    peer = Peer()
    peer.offer(1)
    peer.session.drop("lost")
    peer.session.attach(Resume(Position("e", 0)), HELLO)
    assert (peer.connection.written, peer.connection.ended, peer.connection.aborted) == ([], [], 1)
    assert peer.slow_consumers.bytes == 0


# The end.


def test_session_after_its_end_writes_nothing_and_keeps_the_first_close() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.session.end(POLICY)
    written = list(peer.connection.written)
    assert peer.offer(2) == [False]
    peer.session.send(b'{"type":"pong"}')
    peer.session.flush()
    peer.session.end(SHUTDOWN)
    peer.session.end(FORCE_DISCONNECT, explain=True)
    peer.session.leave()
    assert peer.connection.ended == [POLICY]
    assert peer.session.close == POLICY
    assert peer.connection.written == written
    assert peer.session.state is State.CLOSED


@pytest.mark.parametrize("close", [FORCE_DISCONNECT, TOKEN_EXPIRED])
def test_session_end_that_is_explained_sends_a_goodbye_just_before_the_close(close: Close) -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.session.end(close, explain=True)
    peer.session.end(close, explain=True)
    assert [m["type"] for m in peer.connection.messages] == ["connected", "task_update", "goodbye"]
    assert (peer.connection.messages[-1]["code"], peer.connection.messages[-1]["reason"]) == close
    assert peer.connection.ended == [close]


def test_session_drop_of_a_lost_peer_writes_nothing() -> None:
    peer = Peer.live()
    written = list(peer.connection.written)
    peer.offer(1)
    peer.session.drop("ping_timeout")
    assert (peer.connection.aborted, peer.connection.ended, peer.connection.written) == (1, [], written)
    assert peer.session.close == Close(LOST.code, "ping_timeout")


def test_session_drop_after_the_end_keeps_the_first_reason() -> None:
    peer = Peer.live()
    peer.session.end(SLOW_CONSUMER)
    peer.session.drop("ping_timeout")
    assert peer.session.close == SLOW_CONSUMER
    assert peer.connection.aborted == 1


def test_session_ended_by_its_peer_sends_no_close() -> None:
    peer = Peer.live()
    peer.session.leave()
    assert (peer.session.state, peer.session.close) == (State.CLOSED, None)


# From replay to live.


async def test_session_replay_is_written_before_held_entries_and_none_twice() -> None:
    peer = Peer()
    started, gate = asyncio.Event(), asyncio.Event()

    async def draining() -> None:
        if peer.ids:
            started.set()
            await gate.wait()

    peer.connection.draining = draining
    attaching = asyncio.create_task(peer.attach(resume(3, top=6)))
    await started.wait()
    assert peer.offer(5, 6, 7, 8) == [False] * 4  # the history has the first two already
    assert peer.ids == ["e:4", "e:5", "e:6"]
    gate.set()
    await attaching
    assert peer.ids == ["e:4", "e:5", "e:6", "e:7", "e:8"]
    assert peer.offer(9) == [True]


async def test_session_entries_before_the_read_of_the_history_are_held() -> None:
    peer = Peer()
    assert peer.offer(4, 5) == [False, False]
    await peer.attach(resume(3, top=4))
    assert peer.connection.messages[0] == {"type": "connected"}
    assert peer.ids == ["e:4", "e:5"]


async def test_session_attach_with_a_gap_sends_it_without_a_replay() -> None:
    peer = Peer()
    peer.offer(8)
    await peer.attach(Resume(Position("e", 7), (), False, Gap(Position("e", 2), "expired")))
    assert peer.connection.messages[1] == {"type": "gap", "after": "e:2", "last_event_id": "e:7", "reason": "expired"}
    assert peer.connection.positions == [Position("e", 7)] * 2
    assert peer.ids == ["e:8"]


async def test_session_new_history_during_the_replay_requests_a_catch_up_after_it() -> None:
    peer = Peer()
    peer.offer(1, 2, epoch="f")
    await peer.attach(resume(3, top=4))
    assert [m.get("id", m["type"]) for m in peer.connection.messages] == ["connected", "e:4"]
    assert peer.behind == [peer.session]


async def test_session_replay_is_written_at_the_pace_of_the_peer() -> None:
    peer, seen = Peer(), list[int]()

    async def draining() -> None:
        seen.append(len(peer.ids))

    peer.connection.draining = draining
    await peer.attach(resume(0, top=2 * REPLAY_PORTION + 1))
    assert seen == [0, REPLAY_PORTION, 2 * REPLAY_PORTION, 2 * REPLAY_PORTION + 1]
    assert len(peer.connection.written) == 1 + 3
    assert peer.connection.ended == []


async def test_session_replay_of_large_entries_drains_more_often() -> None:
    peer, drained = Peer(), list[int]()

    async def draining() -> None:
        drained.append(len(peer.connection.written))

    peer.connection.draining = draining
    missed = tuple(large(n, 2 * PORTION) for n in range(1, 6))
    await peer.attach(Resume(Position("e", 0), missed, recovered=True))
    assert len(drained) == 5 * 3 + 1  # two and a bit portions each, and one drain before it is live
    assert max(map(len, peer.connection.written)) <= PORTION
    assert peer.ids == [f"e:{n}" for n in range(1, 6)]


async def test_session_peer_that_does_not_read_its_replay_is_a_slow_consumer() -> None:
    peer = Peer()
    peer.connection.draining = asyncio.Event().wait
    attaching = asyncio.ensure_future(peer.attach(resume(0, top=2 * REPLAY_PORTION)))
    await asyncio.sleep(0)
    for seconds in range(30):
        peer.now = float(seconds)
        peer.slow_consumers.look()
    assert peer.connection.ended == []
    peer.now = 30.0
    peer.slow_consumers.look()
    assert peer.connection.ended == [SLOW_CONSUMER]
    assert peer.slow_consumers.bytes == 0
    attaching.cancel()
    assert peer.connection.pumping
    peer.connection.pumping.cancel()
    await asyncio.gather(attaching, peer.connection.pumping, return_exceptions=True)


def test_session_whose_peer_is_lost_during_its_replay_keeps_nothing() -> None:
    peer = Peer()
    peer.connection.session = None  # that would pump it
    peer.session.attach(resume(0, top=2 * REPLAY_PORTION), HELLO)
    peer.session.leave()
    assert (peer.session.final_close, peer.session.is_pumped, peer.ids) == (LOST, False, [])
    assert peer.slow_consumers.bytes == 0


async def test_session_ended_during_its_replay_sends_nothing_more() -> None:
    peer = Peer()

    async def draining() -> None:
        if peer.ids:
            peer.session.end(SHUTDOWN)

    peer.connection.draining = draining
    peer.offer(200)
    await peer.attach(resume(0, top=2 * REPLAY_PORTION))
    assert peer.connection.ended == [SHUTDOWN]
    assert len(peer.ids) == REPLAY_PORTION
    assert peer.session.state is State.CLOSED


def test_session_held_entries_are_bounded() -> None:
    peer = Peer.live()
    peer.session.fall_behind()
    held = large(1, BACKLOG)
    peer.session.offer(held, peer.connection.update(held))
    assert peer.session.unsent() > peer.slow_consumers.ledger.bytes == len(held.data) > BACKLOG
    for peer.now in (0.5, 1.5):
        peer.slow_consumers.look()
    assert peer.connection.ended == [SLOW_CONSUMER]
    assert peer.offer(2) == [False]
    assert peer.slow_consumers.bytes == 0


@given(
    history=st.integers(0, 2 * REPLAY_PORTION + 5),
    asked=st.integers(0, 140),
    early=st.integers(0, 20),
    during=st.lists(st.integers(0, 20), max_size=4),
    late=st.integers(0, 5),
    lost=st.sets(st.integers(0, 160)),
)
@example(history=29, asked=0, early=0, during=[20, 20], late=5, lost={74})
@tries(60)
def test_session_with_any_timing_and_losses_sends_each_entry_once_in_order(
    history: int, asked: int, early: int, during: list[int], late: int, lost: set[int]
) -> None:
    """`early` events are published before the history is read, `during` events while its portions are written."""
    asked = min(asked, history)
    peer, published = Peer(), [history - min(early, history)]

    def publish(count: int) -> None:
        for _ in range(count):
            published[0] += 1
            if published[0] not in lost and any(peer.offer(published[0])):
                peer.session.flush()

    async def draining() -> None:
        if during:
            publish(during.pop())

    async def mend() -> None:
        while peer.behind:
            peer.behind.clear()
            await peer.catch_up(resume(peer.session.offset, top=published[0]))

    peer.connection.draining = draining
    publish(min(early, history))
    asyncio.run(peer.attach(resume(asked, top=history)))
    publish(late)
    known = -1
    while known < published[0]:  # the reconciler looks again: only it finds the loss of the last event
        known = published[0]
        peer.session.fall_behind()
        asyncio.run(mend())
    assert peer.ids == [f"e:{n}" for n in range(asked + 1, published[0] + 1)]
    assert peer.session.state is State.LIVE


# A history that is read in parts.


async def test_session_whose_replay_has_a_rest_asks_for_it_before_it_is_live() -> None:
    peer = Peer()
    await peer.attach(resume(0, top=2)._replace(rest=2))
    assert (peer.ids, peer.behind, peer.session.state) == (["e:1", "e:2"], [peer.session], State.REPLAYING)
    peer.offer(5)
    await peer.catch_up(resume(2, top=4))
    assert peer.ids == ["e:1", "e:2", "e:3", "e:4", "e:5"]
    assert (peer.behind, peer.session.state) == ([peer.session], State.LIVE)


async def test_session_whose_rest_is_empty_when_it_is_read_goes_live() -> None:
    peer = Peer()
    await peer.attach(resume(0, top=2)._replace(rest=2))
    await peer.catch_up(resume(2))
    assert (peer.ids, peer.session.state) == (["e:1", "e:2"], State.LIVE)
    assert (len(peer.slow_consumers), peer.slow_consumers.bytes) == (0, 0)


async def test_session_without_entries_but_with_a_rest_asks_for_it_and_keeps_what_it_holds() -> None:
    peer = Peer()
    peer.offer(3)
    await peer.attach(resume(0)._replace(rest=2))
    assert (peer.ids, peer.behind, peer.session.state) == ([], [peer.session], State.REPLAYING)
    await peer.catch_up(resume(0, top=2))
    assert peer.ids == ["e:1", "e:2", "e:3"]
    assert peer.session.state is State.LIVE


async def test_session_with_a_rest_that_ends_meanwhile_is_not_sent_it() -> None:
    peer = Peer()
    await peer.attach(resume(0, top=2)._replace(rest=2))
    peer.session.end(SHUTDOWN)
    await peer.catch_up(resume(2, top=4))
    assert (peer.ids, peer.connection.ended) == (["e:1", "e:2"], [SHUTDOWN])


# Leaving.


def test_session_leave_reports_itself_and_frees_what_waits() -> None:
    peer = Peer.live()
    give(peer, large(1))
    peer.session.leave()
    assert peer.left == [peer.session]
    assert (peer.session.state, peer.slow_consumers.bytes, len(peer.slow_consumers)) == (State.CLOSED, 0, 0)


def test_session_drop_does_not_report_itself_before_its_connection_has_ended() -> None:
    peer = Peer.live()
    peer.session.drop("lost")
    assert peer.left == []


def test_session_echoes_the_code_of_the_peers_close_unless_it_closed_first() -> None:
    peer, closing = Peer.live(), Peer.live()
    closing.session.end(POLICY)
    for each in (peer, closing):
        each.session.answer_close(Close(3000, "bye"))
        assert each.session.peers_close == Close(3000, "bye")
    assert (peer.connection.ended, peer.session.close) == ([Close(3000, "")], None)
    assert closing.connection.ended == [POLICY]
    assert peer.offer(1) == [False]
    assert (len(peer.slow_consumers), peer.slow_consumers.ledger.bytes) == (0, 0)


def test_session_answers_its_peers_close_before_what_waits() -> None:
    peer = Peer.live()
    peer.connection.buffered = HIGH_WATER + 1
    peer.session.send(b"a")
    peer.session.answer_close(Close(1000, ""))
    assert (peer.connection.ended, peer.slow_consumers.ledger.bytes) == ([Close(1000, "")], 0)


def test_session_taken_grows_as_its_buffer_drains() -> None:
    peer = Peer.live()
    peer.connection.buffered = HIGH_WATER + 100
    before = peer.session.taken()
    peer.connection.buffered -= 60
    assert peer.session.taken() - before == 60


def test_session_fail_counts_the_error_and_closes_with_internal() -> None:
    peer = Peer.live()
    with capture_logs() as lines:
        peer.session.fail("client_frame", ZeroDivisionError())
    assert [(line["event"], line["doing"], line["session"]) for line in lines] == [
        ("internal.error", "client_frame", peer.session.id)
    ]
    assert (peer.metrics.errors["internal"], peer.connection.ended) == (1, [INTERNAL])


def test_session_fail_before_connected_closes_at_once() -> None:
    peer = Peer()
    with capture_logs():
        peer.session.fail("open", ZeroDivisionError())
    assert (peer.session.state, peer.session.close, peer.connection.ended) == (State.CLOSED, INTERNAL, [INTERNAL])
    assert peer.connection.written == []


def test_session_counts_each_gap() -> None:
    metrics = Metrics()
    for _ in range(2):
        Peer(metrics=metrics).session.attach(Resume(Position("f", 7), (), False, Gap(None, "reset")), HELLO)
    assert +metrics.gaps == {"reset": 2}
