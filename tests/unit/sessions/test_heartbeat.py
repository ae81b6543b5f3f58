"""The heartbeat with a fake clock: pings, silence, expired tokens."""

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from tests.support.fake_time import REAL_SLEEP, Time, run_until
from tests.support.peer import Peer
from wsbridge.core.close_codes import LOST, POLICY, TOKEN_EXPIRED, Close
from wsbridge.sessions.heartbeat import ENDING, PINGS, SLICE, SWEEP, Heartbeat
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

INTERVAL, TIMEOUT = 25.0, 10.0
SILENT = Close(LOST.code, "ping_timeout")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("wsbridge.sessions.heartbeat.asyncio", time)
    return time


def wheel(time: Time, *peers: Peer, interval: float = INTERVAL, silence: float = TIMEOUT) -> Heartbeat:
    registry = Registry()
    for peer in peers:
        registry.add(peer.session)
    return Heartbeat(registry, Metrics(), interval=interval, timeout=silence, clock=time.monotonic)


def peer_at(time: Time, user: str = "u") -> Peer:
    return Peer.live(user, now=time.now)


async def test_heartbeat_pings_an_answering_peer_every_interval(time: Time) -> None:
    peer, at = peer_at(time), [time.now]

    def ping() -> None:
        at.append(time.now)
        peer.session.heard_at = time.now

    vars(peer.connection).update(ping=ping)
    await run_until(time, time.now + 20 * INTERVAL, wheel(time, peer).run())
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert len(gaps) >= 20
    assert all(INTERVAL - 2 * SWEEP <= gap <= INTERVAL for gap in gaps)
    assert peer.session.state is State.LIVE


async def test_heartbeat_pings_a_peer_that_sends_messages_as_well(time: Time) -> None:
    """Received bytes show that the peer lives. The ping keeps proxies from closing the connection."""
    peer = peer_at(time)
    time._then = lambda: setattr(peer.session, "heard_at", time.now)
    await run_until(time, time.now + 4 * INTERVAL, wheel(time, peer).run())
    assert peer.connection.pings == 4


async def test_heartbeat_drops_a_silent_peer_after_interval_and_timeout(time: Time) -> None:
    peer, ended = peer_at(time), list[float]()
    vars(peer.connection).update(abort=lambda: ended.append(time.now))
    started = time.now
    await run_until(time, started + 3 * INTERVAL, wheel(time, peer).run())
    assert peer.session.close == SILENT
    assert peer.connection.pings == 1
    (at,) = ended
    assert INTERVAL + TIMEOUT < at - started <= INTERVAL + TIMEOUT + SWEEP


@pytest.mark.parametrize(("interval", "silence"), [(0.2, 0.1), (0.05, 3_600.0), (3_600.0, 0.05), (25.0, 10.0)])
async def test_heartbeat_with_short_settings_looks_more_often(time: Time, interval: float, silence: float) -> None:
    await run_until(time, time.now + 10, wheel(time, interval=interval, silence=silence).run())
    assert set(time.slept) == {min(SWEEP, interval / 4, silence / 4)}


async def test_heartbeat_ends_a_session_within_a_second_of_its_token(time: Time) -> None:
    late: dict[str, float] = {}
    peers = [peer_at(time, f"u{n}") for n in range(20)]
    for n, peer in enumerate(peers):
        peer.session.expires_at = time.now + 5 + n * 0.3

        def send_close(close: Close, peer: Peer = peer) -> None:
            peer.connection.ended.append(close)
            late[peer.session.id] = time.now - peer.session.expires_at

        vars(peer.connection).update(send_close=send_close)
    await run_until(time, time.now + 15, wheel(time, *peers).run())
    assert len(late) == len(peers)
    assert all(0 <= seconds <= 1 for seconds in late.values())
    for peer in peers:
        assert peer.connection.ended == [TOKEN_EXPIRED]
        assert [message["type"] for message in peer.connection.messages] == ["connected", "goodbye"]


def test_heartbeat_keeps_a_session_with_a_fresh_token() -> None:
    peer = Peer.live(now=0)
    heartbeat = wheel(Time(), peer)
    peer.session.expires_at = 10
    heartbeat.check(peer.session, 9.9)
    peer.session.expires_at = 20
    heartbeat.check(peer.session, 10.1)
    assert peer.session.state is State.LIVE
    heartbeat.check(peer.session, 20.0)
    assert peer.session.close == TOKEN_EXPIRED


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_heartbeat_ignores_a_closed_session(now: float) -> None:
    peer = Peer.live()
    peer.session.end(POLICY)
    wheel(Time(), peer).check(peer.session, now)
    assert (peer.connection.pings, peer.connection.aborted, peer.connection.ended) == (0, 0, [POLICY])


def test_heartbeat_of_a_transport_without_answers_only_pings() -> None:
    peer = Peer.live()
    peer.connection.answers = False
    wheel(Time(), peer).check(peer.session, 1e6)
    assert (peer.connection.pings, peer.session.close) == (1, None)


@pytest.mark.parametrize(("own", "pings"), [(None, 4), (15.0, 7), (60.0, 4)])
async def test_heartbeat_uses_the_shorter_ping_interval_of_a_transport(
    time: Time, own: float | None, pings: int
) -> None:
    peer = peer_at(time)
    peer.connection.answers, peer.connection.ping_interval = False, own
    await run_until(time, time.now + 4 * INTERVAL + 1, wheel(time, peer).run())
    assert peer.connection.pings == pings


def test_heartbeat_ignores_silence_during_a_replay() -> None:
    """Its replay has its own deadline."""
    peer = Peer.live()
    peer.session.fall_behind()
    wheel(Time(), peer).check(peer.session, 1e6)
    assert (peer.session.close, peer.connection.pings) == (None, 1)


@pytest.mark.fault("D9")
async def test_heartbeat_after_a_pause_of_the_process_gives_peers_fresh_time(time: Time) -> None:
    peers, pause = [peer_at(time, f"u{n}") for n in range(3)], [40.0]
    talking = peers[:2]

    def then() -> None:
        if time.now > 1_010 and pause:
            time.now += pause.pop()
            for peer in talking:
                vars(peer.connection).update(ping=lambda peer=peer: setattr(peer.session, "heard_at", time.now))

    time._then = then
    started = time.now
    await run_until(time, started + 40 + INTERVAL + TIMEOUT, wheel(time, *peers).run())
    assert [peer.session.close for peer in peers] == [None] * 3
    await run_until(time, time.now + INTERVAL + TIMEOUT, wheel(time, *peers).run())
    assert [peer.session.close for peer in peers] == [None, None, SILENT]


@pytest.mark.fault("D9")
async def test_heartbeat_after_a_pause_ends_sessions_with_expired_tokens(time: Time) -> None:
    peer = peer_at(time)
    peer.session.expires_at = time.now + 20
    pause = [40.0]
    time._then = lambda: setattr(time, "now", time.now + (pause.pop() if pause else 0))
    await run_until(time, time.now + 45, wheel(time, peer).run())
    assert peer.session.close == TOKEN_EXPIRED


async def test_heartbeat_with_many_pings_due_lets_others_run_in_between(time: Time) -> None:
    peers = [Peer.live(f"u{n}", now=time.now - 2 * INTERVAL) for n in range(SLICE + 1)]
    for peer in peers:
        peer.session.heard_at = time.now
    job = asyncio.ensure_future(wheel(time, *peers).run())
    pinged = 0
    while pinged < len(peers):
        await REAL_SLEEP(0)
        before, pinged = pinged, sum(peer.connection.pings for peer in peers)
        assert pinged - before <= PINGS
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert {peer.connection.pings for peer in peers} == {1}


async def test_heartbeat_with_nothing_due_lets_others_run_after_a_slice(time: Time) -> None:
    looked = 0

    def check(*_: object) -> None:
        nonlocal looked
        looked += 1

    heartbeat = wheel(time, *(peer_at(time, f"u{n}") for n in range(SLICE + 1)))
    vars(heartbeat).update(check=check)
    job = asyncio.ensure_future(heartbeat.run())
    while looked <= SLICE:
        before = looked
        await REAL_SLEEP(0)
        assert looked - before in (0, 1, SLICE)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@pytest.mark.parametrize("due", ["silent", "expired"])
async def test_heartbeat_with_many_sessions_to_end_ends_a_few_before_others_run(time: Time, due: str) -> None:
    """All connections behind a broken link become silent at the same moment."""
    few = PINGS // ENDING
    peers = [peer_at(time, f"u{n}") for n in range(10 * few + 1)]
    for peer in peers:
        if due == "silent":
            peer.session.heard_at = time.now - 2 * INTERVAL
        else:
            peer.session.expires_at = time.now - 1
    job = asyncio.ensure_future(wheel(time, *peers).run())
    ended = 0
    while ended < len(peers):
        await REAL_SLEEP(0)
        before, ended = ended, sum(peer.session.close is not None for peer in peers)
        assert ended - before <= few
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


async def test_heartbeat_session_that_fails_does_not_affect_others(time: Time) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    bad, good = peer_at(time, "a"), peer_at(time, "b")
    vars(bad.connection).update(ping=fail)
    time._then = lambda: setattr(good.session, "heard_at", time.now)
    with capture_logs() as lines:
        await run_until(time, time.now + 4 * INTERVAL, wheel(time, bad, good).run())
    assert good.connection.pings == 4
    assert bad.session.close == Close(LOST.code, "internal")
    assert [(line["event"], line["session"]) for line in lines] == [("internal.error", bad.session.id)]
