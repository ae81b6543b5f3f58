"""Wall clocks of the bridge and of Redis that are set while they run: durations keep their length.

docs/reliability.md describes the effects of wrong clocks.
"""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from tests.support.bench import DUPLICATE, STORED, Bench, event, numbered, on_redis
from tests.support.clocks import WallClock
from tests.support.running import SECRET, Start, closed, receive, token, until_told
from tests.support.spawned import Spawned
from tests.support.valkey import DURABLE, Valkey
from wsbridge.broker.base import BrokerUnavailable, Outcome, Status
from wsbridge.broker.memory import MemoryBroker
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.core.recovery import Resume

HOUR = 3_600.0
STEP = 16  # events of a user after which Redis removes what has expired
JUMPS = [-3 * HOUR, 2 * HOUR, 2.9 * HOUR]


def words(outcomes: list[Outcome]) -> list[Status]:
    return [outcome.status for outcome in outcomes]


async def look(bench: Bench) -> None:
    """Look as the reconciler does every few seconds, until the server answers."""
    broker = bench.broker
    assert isinstance(broker, RedisBroker)

    async def has_looked() -> bool:
        with contextlib.suppress(BrokerUnavailable):
            await broker.verify([])
            return True
        return False

    await until_told(has_looked)


@pytest.mark.fault("D8")
async def test_wall_clock_tells_the_time_that_it_was_set_to(tmp_path: Path) -> None:
    """The tests below depend on it."""
    clock = WallClock(tmp_path, -HOUR)
    async with Valkey(tmp_path) as right, Valkey(tmp_path, clock) as wrong:
        for ahead in (-HOUR, 0.0, 2 * HOUR):
            clock.set(ahead)
            (seconds, _), (now, _) = await wrong.ask("TIME"), await right.ask("TIME")
            assert abs(seconds - now - ahead) < HOUR / 2


@pytest.mark.fault("D8")
@pytest.mark.parametrize("jump", JUMPS)
async def test_redis_whose_clock_is_set_recognises_a_redelivery(tmp_path: Path, jump: float) -> None:
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, on_redis(valkey.url, served=True) as bench:
        assert words(await bench.broker.append([event(key="a")])) == [STORED]
        for ahead in (jump, 0.0, jump):
            await look(bench)
            clock.set(ahead)
            assert words(await bench.broker.append([event(), event(key="a")])) == [STORED, DUPLICATE]
            await look(bench)
            assert words(await bench.broker.append([event(), event(key="a")])) == [STORED, DUPLICATE]


@pytest.mark.fault("D8", "D7")
@pytest.mark.parametrize("jump", JUMPS)
async def test_redis_that_restarts_with_another_clock_recognises_a_redelivery(tmp_path: Path, jump: float) -> None:
    """As after a failover to a server with another clock: the replicas report how much time has passed."""
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock, **DURABLE) as valkey, on_redis(valkey.url, served=True) as bench:
        assert words(await bench.broker.append([event(key="a")])) == [STORED]
        await look(bench)
        clock.set(jump)
        await valkey.restart()
        await look(bench)
        for _ in range(2):
            assert words(await bench.broker.append([event(), event(key="a")])) == [STORED, DUPLICATE]


@pytest.mark.fault("D8", "D7")
@pytest.mark.parametrize("jump", JUMPS)
async def test_redis_that_loses_its_count_of_time_keeps_what_is_stored_before_the_next_look(
    tmp_path: Path, jump: float
) -> None:
    """Without its functions the server begins to count at its wall clock, until a replica reports its own count."""
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, on_redis(valkey.url, served=True, size=2 * STEP) as bench:
        await bench.broker.append([event(key="a")])
        await look(bench)
        clock.set(jump)
        await valkey.ask("FUNCTION", "FLUSH")
        top = await bench.top("u")
        assert words(await bench.broker.append([event(key="b"), event(key="a")])) == [STORED, DUPLICATE]
        await look(bench)
        assert set(words(await bench.broker.append(numbered(STEP)))) == {STORED}  # removes what has expired
        assert words(await bench.broker.append([event(key="b"), event(key="a")])) == [DUPLICATE, DUPLICATE]
        resume = await bench.resume("u", str(top))
        assert (resume.gap, len(resume.entries)) == (None, 1 + STEP)


@pytest.mark.fault("D8")
@pytest.mark.parametrize("jump", [0.0, *JUMPS])
async def test_redis_whose_clock_is_set_forgets_an_id_in_the_end(
    tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.bench.DEDUPE_TTL", 0.3)
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, on_redis(valkey.url, served=True) as bench:
        await bench.broker.append([event(key="a")])
        await look(bench)
        clock.set(jump)

        async def is_new() -> bool:
            await look(bench)
            return words(await bench.broker.append([event(), event(key="a")])) == [STORED, STORED]

        await until_told(is_new)


@pytest.mark.fault("D8")
async def test_redis_whose_clock_is_set_back_keeps_no_event_for_longer_than_its_time(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, on_redis(valkey.url, served=True, ttl=0.3) as bench:
        top = await bench.top("u")
        await bench.broker.append(numbered(2))
        await look(bench)
        clock.set(-3 * HOUR)

        async def is_gone() -> bool:
            await look(bench)
            gap = (await bench.resume("u", str(top))).gap
            return gap is not None and gap.reason == "expired"

        await until_told(is_gone)


@pytest.mark.fault("D8")
async def test_redis_whose_clock_is_set_ahead_tells_of_every_event_that_it_drops(tmp_path: Path) -> None:
    """Keys in Redis expire by its wall clock. An event may expire early, but never without a gap."""
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, on_redis(valkey.url, served=True) as bench:
        top = await bench.top("u")
        await bench.take(*numbered(3))
        await look(bench)
        clock.set(2 * HOUR)
        resume = await bench.resume("u", str(top))
        assert (resume.gap and resume.gap.reason, len(resume.entries)) in (("expired", 0), (None, 3))
        assert resume.position.epoch == top.epoch
        await bench.take(event())
        assert [entry.offset for entry in bench.sink.of("u")] == [1, 2, 3, 4]


@pytest.mark.fault("D8")
@pytest.mark.parametrize("jump", [-3 * HOUR, 3 * HOUR])
async def test_bridge_whose_clock_is_set_ends_each_session_after_the_time_that_its_token_had(
    tmp_path: Path, jump: float
) -> None:
    """No session is closed early or late; ids are remembered and histories kept."""
    clock = WallClock(tmp_path)
    settings = {"JWT_SECRET": SECRET, "JWT_LEEWAY": "0", "PING_INTERVAL": "0.4", "APP_API_TOKEN": "t" * 32}
    async with aiohttp.ClientSession() as http:
        bridge = await Spawned.start(http, clock, **settings)
        try:
            long, hello = await bridge.opened("u1", token=token(ttl=HOUR))
            await publish(bridge, "before")
            first = await receive(long)
            short, _ = await bridge.opened("u1", token=token(ttl=3))
            clock.set(jump)
            assert await closed(short) == (4401, "token_expired")
            for _ in range(2):
                await publish(bridge, "before")
            await publish(bridge, "after")
            assert (await receive(long))["event"]["id"] == "after"
            clock.set(0)
            again, resumed = await bridge.opened("u1", token=token(ttl=HOUR), last_event_id=hello["last_event_id"])
            assert resumed["recovered"] is True
            assert [(await receive(again))["event"]["id"] for _ in range(2)] == ["before", "after"]
            assert first["event"]["id"] == "before"
            await bridge.hang_up()
        finally:
            await bridge.end()


async def publish(bridge: Spawned, name: str) -> None:
    data = {"user_id": "u1", "id": name}
    envelope = {"id": name, "source": "s", "specversion": "1.0", "type": "t", "data": data}
    headers = {"dapr-api-token": "t" * 32, "content-type": "application/cloudevents+json"}
    async with bridge.http.post(f"{bridge.url}/events/task-updates", json=envelope, headers=headers) as response:
        assert (await response.json())["status"] == "SUCCESS"


@pytest.mark.fault("D8")
@pytest.mark.parametrize("jump", [-3 * HOUR, 3 * HOUR])
async def test_bridge_whose_clock_is_set_during_a_handshake_says_when_the_session_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """The wall clock is read once for a token, so `expires_in_ms` is the time that is applied."""
    ahead, resume = 0.0, MemoryBroker.resume

    async def resuming(self: MemoryBroker, user: str, after: str | None, *, wait: bool = True) -> Resume:
        nonlocal ahead
        ahead = jump
        return await resume(self, user, after, wait=wait)

    monkeypatch.setattr(MemoryBroker, "resume", resuming)
    clocks = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + ahead)
    monkeypatch.setattr("wsbridge.sessions.admission.time", clocks)
    bridge = await start(JWT_SECRET=SECRET)
    _, hello = await bridge.opened("u1", token=token(ttl=HOUR))
    assert abs(hello["expires_in_ms"] / 1000 - HOUR) < 60
