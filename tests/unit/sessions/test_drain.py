"""Graceful shutdown: each session gets its goodbye and its close in time, and the closes are spread."""

import asyncio
import gc
import itertools
import weakref
from typing import Any

import pytest

from tests.support.fake_time import Time
from tests.support.peer import HELLO, Peer, entry, resume
from tests.support.running import until
from wsbridge.core.close_codes import POLICY, SHUTDOWN, Close
from wsbridge.core.events import Position
from wsbridge.core.recovery import Resume
from wsbridge.sessions.drain import CHANGE_OVER, SLICE, TICK, USABLE, drain
from wsbridge.sessions.registry import Registry

TIMEOUT = 20.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("wsbridge.sessions.drain.time", time)
    monkeypatch.setattr("wsbridge.sessions.drain.asyncio", time)
    return time


class Leaver(Peer):
    """A peer that leaves when it is closed, unless it is stalled. It notes the time."""

    def __init__(self, registry: Registry, time: Time, *, stalled: bool = False, user: str = "u") -> None:
        super().__init__(user, now=time.now)
        self.closed_at: list[float] = []
        registry.add(self.session)

        def send_close(close: Close) -> None:
            self.closed_at.append(time.now)
            self.connection.ended.append(close)
            if not stalled:
                registry.remove(self.session)

        vars(self.connection).update(send_close=send_close)
        self.session.attach(Resume(Position("e", 0)), HELLO)
        self.connection.written.clear()

    @property
    def goodbye(self) -> dict[str, Any]:
        (message,) = [message for message in self.connection.messages if message["type"] == "goodbye"]
        return message


def everyone(registry: Registry, time: Time, count: int, **how: bool) -> list[Leaver]:
    return [Leaver(registry, time, user=f"u{n % 7}", **how) for n in range(count)]


async def test_drain_says_goodbye_at_once_and_closes_within_the_window(time: Time) -> None:
    registry = Registry()
    peers, started = everyone(registry, time, 300), time.now
    await drain(registry, TIMEOUT)
    assert len(registry) == 0
    for peer in peers:
        assert peer.goodbye["code"] == SHUTDOWN.code
        assert peer.goodbye["reconnect"] is True
        assert peer.connection.ended == [SHUTDOWN]
        assert peer.closed_at[0] - started <= TIMEOUT * USABLE + TICK
    assert time.now - started <= TIMEOUT


async def test_drain_closes_each_session_at_the_time_in_its_goodbye(time: Time) -> None:
    registry = Registry()
    peers, started = everyone(registry, time, 300), time.now
    await drain(registry, TIMEOUT)
    for peer in peers:
        promised, hint = peer.goodbye["close_after_ms"] / 1_000, peer.goodbye["reconnect_after_ms"] / 1_000
        assert promised - 0.001 <= peer.closed_at[0] - started <= promised + 2 * TICK
        assert peer.closed_at[0] - started - hint >= TIMEOUT * USABLE * CHANGE_OVER - 0.001
        assert hint >= 0


async def test_drain_spreads_the_reconnects(time: Time) -> None:
    registry = Registry()
    peers = everyone(registry, time, 300)
    await drain(registry, TIMEOUT)
    hints = sorted(peer.goodbye["reconnect_after_ms"] for peer in peers)
    window = TIMEOUT * USABLE * (1 - CHANGE_OVER) * 1_000
    assert hints[-1] - hints[0] > 0.9 * window
    assert max(b - a for a, b in itertools.pairwise(hints)) < 0.1 * window


async def test_drain_session_gets_updates_until_its_close(time: Time) -> None:
    registry, offset = Registry(), [0]
    peer = Leaver(registry, time)

    def publish() -> None:
        offset[0] += 1
        peer.session.offer(entry(offset[0]), b'{"id":"e:%d"}\n' % offset[0])
        peer.session.flush()

    time._then = publish
    await drain(registry, TIMEOUT)
    assert peer.connection.messages[0]["type"] == "goodbye"
    assert len(peer.ids) >= TIMEOUT * USABLE * CHANGE_OVER / TICK - 2


async def test_drain_ends_as_soon_as_all_have_left(time: Time) -> None:
    registry = Registry()
    peers, started = everyone(registry, time, 3), time.now

    def leave() -> None:
        for peer in peers:
            registry.remove(peer.session)

    time._then = leave
    await drain(registry, TIMEOUT)
    assert time.now - started <= 2 * TICK
    assert [peer.connection.ended for peer in peers] == [[]] * 3


async def test_drain_does_not_wait_for_or_keep_ended_sessions(time: Time) -> None:
    registry = Registry()
    stays, leaves = Leaver(registry, time, stalled=True), Leaver(registry, time)
    freed = weakref.ref(leaves.session)
    gone = [leaves]
    del leaves

    def leave() -> None:
        if gone:
            registry.remove(gone.pop().session)
            gc.collect()

    time._then = leave
    await drain(registry, TIMEOUT)
    assert freed() is None
    assert stays.connection.ended == [SHUTDOWN]


async def test_drain_does_not_wait_for_stalled_peers(time: Time) -> None:
    registry = Registry()
    peers, started = everyone(registry, time, 10, stalled=True), time.now
    await drain(registry, TIMEOUT)
    assert TIMEOUT <= time.now - started <= TIMEOUT + TICK
    assert [peer.connection.ended for peer in peers] == [[SHUTDOWN]] * 10


async def test_drain_that_is_cancelled_still_closes_with_a_goodbye(time: Time) -> None:
    registry = Registry()
    peers = everyone(registry, time, 10)
    job = asyncio.ensure_future(drain(registry, TIMEOUT))
    await until(lambda: time.slept)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert [peer.connection.ended for peer in peers] == [[SHUTDOWN]] * 10


async def test_drain_without_time_closes_all_at_once(time: Time) -> None:
    registry = Registry()
    peers = everyone(registry, time, 10) + everyone(registry, time, 10, stalled=True)
    await drain(registry, 0)
    assert time.slept == []
    for peer in peers:
        assert (peer.goodbye["reconnect_after_ms"], peer.goodbye["close_after_ms"]) == (0, 0)
        assert peer.connection.ended == [SHUTDOWN]


async def test_drain_without_sessions_ends_at_once(time: Time) -> None:
    await drain(Registry(), TIMEOUT)
    assert time.slept == []


@pytest.mark.fault("E9")
async def test_drain_session_without_connected_gets_it_before_goodbye_and_close(time: Time) -> None:
    registry = Registry()
    early = Peer(now=time.now)
    registry.add(early.session)
    await drain(registry, 1)
    assert (early.connection.written, early.connection.ended) == ([], [])
    early.session.attach(resume(0), HELLO)
    assert [message["type"] for message in early.connection.messages] == ["connected", "goodbye"]
    assert early.connection.ended == [SHUTDOWN]


@pytest.mark.fault("E9")
async def test_drain_session_attached_meanwhile_gets_goodbye_and_the_rest_of_the_time(time: Time) -> None:
    registry, late = Registry(), Peer(now=time.now)
    started = time.now
    _stalled = everyone(registry, time, 1, stalled=True)  # the registry has weak references only
    registry.add(late.session)

    def attach() -> None:
        if time.now > started + TIMEOUT / 2:
            late.session.attach(resume(0), HELLO)

    time._then = attach
    await drain(registry, TIMEOUT)
    hello, goodbye = late.connection.messages
    assert (hello["type"], goodbye["type"]) == ("connected", "goodbye")
    assert 0 < goodbye["reconnect_after_ms"] < goodbye["close_after_ms"] < TIMEOUT / 2 * 1_000
    assert late.connection.ended == [SHUTDOWN]


async def test_drain_session_opened_meanwhile_is_closed_at_the_end(time: Time) -> None:
    registry, late = Registry(), list[Leaver]()
    _stalled = everyone(registry, time, 1, stalled=True)  # the registry has weak references only

    def arrive() -> None:
        if not late:
            late.append(Leaver(registry, time))

    time._then = arrive
    await drain(registry, 1)
    assert [peer.connection.ended for peer in late] == [[SHUTDOWN]]


async def test_drain_session_closed_for_another_reason_keeps_its_close(time: Time) -> None:
    registry = Registry()
    peer = Leaver(registry, time, stalled=True)
    peer.session.end(POLICY)
    await drain(registry, 1)
    assert peer.connection.ended == [POLICY]


async def test_drain_of_many_sessions_lets_others_run_in_between(time: Time) -> None:
    registry = Registry()
    peers = [Leaver(registry, time, user=f"u{n}") for n in range(SLICE + 10)]
    job = asyncio.ensure_future(drain(registry, TIMEOUT))
    told = 0
    while told < len(peers):
        await asyncio.sleep(0)
        before, told = told, sum(bool(peer.connection.written) for peer in peers)
        assert told - before < len(peers)
    await job
