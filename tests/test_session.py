"""One connection without a socket: its states, its bounds, the seam from replay to live."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsbridge.event import Entry, Position
from wsbridge.history import Gap, Resume
from wsbridge.metrics import Metrics
from wsbridge.protocol import (
    FORCE_DISCONNECT,
    LOST,
    POLICY,
    SHUTDOWN,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    Close,
    update,
)
from wsbridge.session import NEXT, REPLAY_BYTES, REPLAY_PORTION, Session, State

HELLO = b'{"type":"connected"}'
BACKLOG = 10_000


class FakeWire:
    """A transport that keeps what it is given: a message a line, as in `written`."""

    kind = "fake"

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0  # what the peer has not taken
        self.ended: list[Close] = []
        self.aborted = 0
        self.pings = 0
        self.gone = False
        self.answers = True
        self.ping_interval: float | None = None
        self.positions: list[Position | None] = []
        self.draining: Callable[[], Any] = lambda: asyncio.sleep(0)

    def update(self, entry: Entry) -> bytes:
        return update(entry) + b"\n"

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        self.positions.append(position)
        return payload + b"\n"

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def unsent(self) -> int:
        return self.buffered

    def is_gone(self) -> bool:
        return self.gone

    def ping(self) -> None:
        self.pings += 1

    def end(self, close: Close) -> None:
        self.ended.append(close)

    def abort(self) -> None:
        self.aborted += 1

    async def drain(self) -> None:
        await self.draining()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.written).splitlines()]


class Peer:
    """A session on a fake wire."""

    def __init__(self, user: str = "u", now: float = 0.0, metrics: Metrics | None = None) -> None:
        self.wire = FakeWire()
        self.metrics = metrics or Metrics()
        self.behind: list[Session] = []  # those that asked to be mended
        self.session = Session(
            user, self.wire, self.metrics, now=now, max_backlog=BACKLOG, mend=self.behind.append, peer="10.0.0.9",
            agent="x",
        )  # fmt: skip

    @classmethod
    def live(cls, user: str = "u", now: float = 0.0, metrics: Metrics | None = None) -> "Peer":
        """One that is attached at e:0, before the first event."""
        peer = cls(user, now, metrics)
        attaching = peer.session.attach(Resume(Position("e", 0)), HELLO)
        with pytest.raises(StopIteration):
            attaching.send(None)  # with nothing to replay nothing waits
        return peer

    def offer(self, *offsets: int, epoch: str = "e") -> list[bool]:
        return [
            self.session.offer(e, self.wire.update(e)) for e in (entry(n, epoch, self.session.user) for n in offsets)
        ]

    @property
    def ids(self) -> list[str]:
        """Positions of the updates that were written."""
        return [message["id"] for message in self.wire.messages if "id" in message]


def entry(offset: int, epoch: str = "e", user: str = "u", data: bytes = b"{}") -> Entry:
    return Entry(user, epoch, offset, "task_update", data, "2026-02-07T12:00:00.000Z", 0.0, f"id-{offset}")


# States.


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_session_goes_where_its_table_says(before: State, after: State) -> None:
    session = Peer().session
    session.state = before
    allowed = (before, after) in {
        (State.REPLAYING, State.LIVE),
        (State.REPLAYING, State.CLOSED),
        (State.LIVE, State.REPLAYING),
        (State.LIVE, State.CLOSED),
    }
    assert (after in NEXT[before]) is allowed
    if allowed:
        session.enter(after)
        assert session.state is after
    else:
        with pytest.raises(RuntimeError, match=f"from {before.name} to {after.name}"):
            session.enter(after)


def test_a_session_begins_replaying_under_an_id_of_its_own() -> None:
    sessions = [Peer().session for _ in range(100)]
    assert {session.state for session in sessions} == {State.REPLAYING}
    assert len({session.id for session in sessions}) == 100


def test_a_session_begins_at_no_position_and_without_an_end() -> None:
    session = Peer(now=7.0).session
    assert (session.position, session.close, session.expires) == (Position("", 0), None, float("inf"))
    assert (session.opened, session.heard, session.pinged) == (7.0, 7.0, 7.0)
    assert (session.sent, session.received) == (0, 0)
    assert (session.user, session.peer, session.agent) == ("u", "10.0.0.9", "x")


# Live.


def test_connected_comes_first_and_tells_the_position() -> None:
    peer = Peer.live()
    assert peer.wire.messages == [{"type": "connected"}]
    assert peer.wire.positions == [Position("e", 0)]
    assert peer.session.state is State.LIVE
    assert peer.session.position == Position("e", 0)


def test_a_live_event_is_written_at_the_flush_in_order_and_once() -> None:
    peer = Peer.live()
    assert peer.offer(1, 2, 2, 1, 3) == [True, True, False, False, True]
    assert peer.ids == []
    peer.session.flush()
    peer.session.flush()
    assert peer.ids == ["e:1", "e:2", "e:3"]
    assert peer.session.position == Position("e", 3)


def test_what_is_offered_between_two_flushes_is_one_write() -> None:
    peer = Peer.live()
    peer.offer(1, 2, 3)
    peer.session.flush()
    assert len(peer.wire.written) == 2  # with the hello
    assert (peer.session.sent, peer.metrics.sent) == (4, 4)
    assert peer.metrics.sent_bytes == sum(map(len, peer.wire.written))


def test_a_message_without_a_position_is_written_at_once_and_behind_what_was_offered() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.session.send(b'{"type":"pong"}')
    assert [message["type"] for message in peer.wire.messages] == ["connected", "task_update", "pong"]


@pytest.mark.parametrize("missed", [(3, "e"), (1, "f"), (7, "f")])
def test_a_hole_in_the_live_events_asks_for_the_history_once(missed: tuple[int, str]) -> None:
    peer = Peer.live()
    peer.offer(1)
    assert peer.offer(missed[0], epoch=missed[1]) == [False]
    assert peer.offer(missed[0] + 1, epoch=missed[1]) == [False]
    assert peer.behind == [peer.session]
    assert peer.ids == ["e:1"]  # what came before the hole is out
    assert (peer.session.state, peer.session.position) == (State.REPLAYING, Position("e", 1))
    assert peer.wire.ended == []


async def test_who_catches_up_gets_what_was_missed_and_then_what_was_held() -> None:
    peer = Peer.live()
    peer.offer(1, 3, 4, 5)
    await peer.session.catch_up(resume(1, top=4))
    assert peer.ids == ["e:1", "e:2", "e:3", "e:4", "e:5"]
    assert peer.offer(6) == [True]
    assert peer.behind == [peer.session]
    assert [message["type"] for message in peer.wire.messages].count("connected") == 1


async def test_another_hole_in_what_was_held_asks_again() -> None:
    peer = Peer.live()
    peer.offer(2, 3, 5, 6)
    await peer.session.catch_up(resume(0, top=2))
    assert peer.ids == ["e:1", "e:2", "e:3"]
    assert peer.behind == [peer.session] * 2
    peer.offer(7)
    await peer.session.catch_up(resume(3, top=6))
    assert peer.ids == [f"e:{n}" for n in range(1, 8)]
    assert peer.session.state is State.LIVE


async def test_a_history_that_begins_anew_is_a_gap_in_the_middle() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.offer(1, 2, 3, epoch="f")
    anew = Position("f", 2)
    await peer.session.catch_up(Resume(anew, (), False, Gap(Position("e", 1), "reset")))
    kinds = [(m["type"], m.get("id"), m.get("after"), m.get("last_event_id")) for m in peer.wire.messages[1:]]
    assert kinds == [
        ("task_update", "e:1", None, None),
        ("gap", None, "e:1", "f:2"),
        ("task_update", "f:3", None, None),
    ]
    assert peer.wire.messages[2]["reason"] == "reset"
    assert anew in peer.wire.positions  # who loses the connection now resumes behind the gap
    assert peer.metrics.gaps["reset"] == 1


async def test_what_is_late_from_an_epoch_that_has_ended_is_not_sent() -> None:
    peer = Peer.live()
    peer.session.fall_behind()
    peer.offer(1, 2)  # on their way when the history began anew
    await peer.session.catch_up(Resume(Position("f", 0), (), False, Gap(Position("e", 0), "reset")))
    assert peer.behind == [peer.session] * 2
    await peer.session.catch_up(Resume(Position("f", 0), (), recovered=True))
    assert peer.ids == []
    assert peer.offer(1, epoch="f") == [True]


async def test_who_has_left_does_not_catch_up() -> None:
    peer = Peer.live()
    peer.offer(2)
    peer.session.end(POLICY)
    await peer.session.catch_up(resume(0, top=2))
    assert peer.ids == []


def test_only_a_live_session_falls_behind() -> None:
    peer = Peer()
    peer.session.fall_behind()
    assert peer.behind == []


# The backlog.


@pytest.mark.parametrize(("unsent", "slow"), [(0, False), (BACKLOG, False), (BACKLOG + 1, True)])
def test_more_unsent_than_the_bound_is_a_slow_consumer(unsent: int, slow: bool) -> None:
    peer = Peer.live()
    peer.wire.buffered = unsent
    peer.offer(1)
    peer.session.flush()
    assert peer.wire.ended == ([SLOW_CONSUMER] if slow else [])
    assert peer.session.close == (SLOW_CONSUMER if slow else None)


def test_an_answer_to_a_slow_consumer_counts_as_well() -> None:
    peer = Peer.live()
    peer.wire.buffered = BACKLOG + 1
    peer.session.send(b'{"type":"pong"}')
    assert peer.wire.ended == [SLOW_CONSUMER]


# The end.


def test_nothing_is_written_after_the_end_and_only_the_first_close_counts() -> None:
    peer = Peer.live()
    peer.offer(1)
    peer.session.end(POLICY)
    written = list(peer.wire.written)
    assert peer.offer(2) == [False]
    peer.session.send(b'{"type":"pong"}')
    peer.session.flush()
    peer.session.end(SHUTDOWN)
    peer.session.disconnect()
    peer.session.leave()
    assert peer.wire.ended == [POLICY]
    assert peer.session.close == POLICY
    assert peer.wire.written == written
    assert peer.session.state is State.CLOSED


@pytest.mark.parametrize(
    ("end", "close"),
    [(Session.disconnect, FORCE_DISCONNECT), (Session.expire, TOKEN_EXPIRED)],
    ids=["operator", "token"],
)
def test_a_goodbye_comes_just_before_the_close(end: Callable[[Session], None], close: Close) -> None:
    peer = Peer.live()
    peer.offer(1)
    end(peer.session)
    assert [m["type"] for m in peer.wire.messages] == ["connected", "task_update", "goodbye"]
    assert (peer.wire.messages[-1]["code"], peer.wire.messages[-1]["reason"]) == close
    assert peer.wire.ended == [close]


def test_a_peer_that_is_not_there_any_more_is_dropped_without_a_word() -> None:
    peer = Peer.live()
    written = list(peer.wire.written)
    peer.offer(1)
    peer.session.drop("ping_timeout")
    assert (peer.wire.aborted, peer.wire.ended, peer.wire.written) == (1, [], written)
    assert peer.session.close == Close(LOST.code, "ping_timeout")


def test_a_drop_after_the_end_keeps_the_first_reason() -> None:
    peer = Peer.live()
    peer.session.end(SLOW_CONSUMER)
    peer.session.drop("ping_timeout")
    assert peer.session.close == SLOW_CONSUMER
    assert peer.wire.aborted == 1


def test_who_leaves_by_itself_was_not_closed_by_us() -> None:
    peer = Peer.live()
    peer.session.leave()
    assert (peer.session.state, peer.session.close) == (State.CLOSED, None)


# From replay to live.


def resume(last: int, *, top: int = 0, epoch: str = "e") -> Resume:
    """What follows `last` up to `top`."""
    return Resume(Position(epoch, last), tuple(entry(n, epoch) for n in range(last + 1, top + 1)), recovered=True)


async def test_a_replay_is_written_before_what_came_meanwhile_and_nothing_twice() -> None:
    peer = Peer()
    started, gate = asyncio.Event(), asyncio.Event()

    async def draining() -> None:
        started.set()
        await gate.wait()

    peer.wire.draining = draining
    attaching = asyncio.create_task(peer.session.attach(resume(3, top=6), HELLO))
    await started.wait()
    assert peer.offer(5, 6, 7, 8) == [False] * 4  # the history already holds the first two
    assert peer.ids == ["e:4", "e:5", "e:6"]
    gate.set()
    await attaching
    assert peer.ids == ["e:4", "e:5", "e:6", "e:7", "e:8"]
    assert peer.offer(9) == [True]


async def test_events_that_come_before_the_history_was_read_are_held_too() -> None:
    peer = Peer()
    assert peer.offer(4, 5) == [False, False]
    await peer.session.attach(resume(3, top=4), HELLO)
    assert peer.wire.messages[0] == {"type": "connected"}
    assert peer.ids == ["e:4", "e:5"]


async def test_a_gap_is_told_at_once_and_nothing_is_replayed() -> None:
    peer = Peer()
    peer.offer(8)
    await peer.session.attach(Resume(Position("e", 7), (), False, Gap(Position("e", 2), "expired")), HELLO)
    assert peer.wire.messages[1] == {"type": "gap", "after": "e:2", "last_event_id": "e:7", "reason": "expired"}
    assert peer.wire.positions == [Position("e", 7)] * 2
    assert peer.ids == ["e:8"]


async def test_a_history_that_begins_anew_during_the_replay_is_asked_for_behind_it() -> None:
    peer = Peer()
    peer.offer(1, 2, epoch="f")
    await peer.session.attach(resume(3, top=4), HELLO)
    assert [m.get("id", m["type"]) for m in peer.wire.messages] == ["connected", "e:4"]
    assert peer.behind == [peer.session]


async def test_a_replay_goes_at_the_peers_pace() -> None:
    peer, seen = Peer(), list[int]()

    async def draining() -> None:
        seen.append(len(peer.ids))

    peer.wire.draining = draining
    peer.wire.buffered = BACKLOG * 100  # a healthy reader that was just given megabytes
    await peer.session.attach(resume(0, top=2 * REPLAY_PORTION + 1), HELLO)
    assert seen == [REPLAY_PORTION, 2 * REPLAY_PORTION, 2 * REPLAY_PORTION + 1]
    assert len(peer.wire.written) == 1 + 3
    assert peer.wire.ended == []


async def test_a_replay_of_large_events_waits_for_the_peer_more_often() -> None:
    peer, seen = Peer(), list[int]()

    async def draining() -> None:
        seen.append(len(peer.ids))

    peer.wire.draining = draining
    large = tuple(entry(n, data=b'"%b"' % (b"x" * (REPLAY_BYTES // 2))) for n in range(1, 6))
    await peer.session.attach(Resume(Position("e", 0), large, recovered=True), HELLO)
    assert seen == [2, 4, 5]


async def test_a_peer_that_does_not_take_its_replay_is_a_slow_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.session.REPLAY_TIMEOUT", 0.0)
    peer = Peer()
    peer.wire.draining = asyncio.Event().wait
    await peer.session.attach(resume(0, top=2 * REPLAY_PORTION), HELLO)
    assert peer.wire.ended == [SLOW_CONSUMER]
    assert len(peer.ids) == REPLAY_PORTION


async def test_a_peer_that_is_lost_during_its_replay_is_no_error() -> None:
    peer = Peer()

    async def draining() -> None:
        raise ConnectionResetError

    peer.wire.draining = draining
    await peer.session.attach(resume(0, top=2 * REPLAY_PORTION), HELLO)
    assert peer.session.close == LOST
    assert peer.wire.aborted == 1
    assert len(peer.ids) == REPLAY_PORTION


async def test_a_session_that_ends_during_its_replay_is_sent_no_more() -> None:
    peer = Peer()

    async def draining() -> None:
        peer.session.end(SHUTDOWN)

    peer.wire.draining = draining
    peer.offer(200)
    await peer.session.attach(resume(0, top=2 * REPLAY_PORTION), HELLO)
    assert peer.wire.ended == [SHUTDOWN]
    assert len(peer.ids) == REPLAY_PORTION
    assert peer.session.state is State.CLOSED


def test_what_is_held_back_is_bounded() -> None:
    peer = Peer()
    large = entry(1, data=b'"%b"' % (b"x" * BACKLOG))
    peer.session.offer(large, peer.wire.update(large))
    assert peer.wire.ended == [SLOW_CONSUMER]
    assert peer.offer(2) == [False]


async def test_what_was_held_back_counts_against_the_backlog_once_it_is_live() -> None:
    peer = Peer()
    peer.wire.buffered = BACKLOG + 1
    peer.offer(1)
    await peer.session.attach(resume(0), HELLO)
    assert peer.wire.ended == [SLOW_CONSUMER]


@given(
    history=st.integers(0, 2 * REPLAY_PORTION + 5),
    asked=st.integers(0, 140),
    early=st.integers(0, 20),
    during=st.lists(st.integers(0, 20), max_size=4),
    late=st.integers(0, 5),
    lost=st.sets(st.integers(0, 160)),
)
@example(history=29, asked=0, early=0, during=[20, 20], late=5, lost={74})
@settings(deadline=None, max_examples=60)
def test_whenever_events_come_or_are_lost_the_client_sees_each_once_and_in_order(
    history: int, asked: int, early: int, during: list[int], late: int, lost: set[int]
) -> None:
    """`early` ones are published before the history is read, `during` ones while portions of it are written."""
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
            await peer.session.catch_up(resume(peer.session.offset, top=published[0]))

    peer.wire.draining = draining
    publish(min(early, history))
    asyncio.run(peer.session.attach(resume(asked, top=history), HELLO))
    publish(late)
    known = -1
    while known < published[0]:  # the watchdog looks again: the last one may be lost, which nothing else shows
        known = published[0]
        peer.session.fall_behind()
        asyncio.run(mend())
    assert peer.ids == [f"e:{n}" for n in range(asked + 1, published[0] + 1)]
    assert peer.session.state is State.LIVE
