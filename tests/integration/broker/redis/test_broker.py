"""The broker on a real server:

what the contract in test_base.py does not cover, which is replicas, outages and time.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bench import DUPLICATE, RETRIED, SIZE, STORED, Bench, Sink, event, numbered, on_redis
from tests.support.logs import Logs
from tests.support.replica import LIMITS, replica_at
from tests.support.running import ROOT, until
from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable, Status
from wsbridge.broker.redis.broker import POSITION_TTL, RedisBroker
from wsbridge.broker.redis.codec import keys_of
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.reasons import Retry
from wsbridge.core.recovery import Resume


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two replicas."""
    async with on_redis(valkey.url, prefix="p") as one, on_redis(valkey.url, prefix="p") as other:
        yield one, other


def broker_of(bench: Bench) -> RedisBroker:
    assert isinstance(bench.broker, RedisBroker)
    return bench.broker


async def trusting(bench: Bench) -> None:
    """Look until the server answers and has all data."""
    while True:
        with contextlib.suppress(BrokerUnavailable):
            await broker_of(bench).verify([])
            return
        await asyncio.sleep(0)


async def test_redis_broker_append_reaches_the_other_replicas(pair: tuple[Bench, Bench]) -> None:
    one, other = pair
    await other.follow("u")
    assert await one.append(numbered(3)) == [STORED] * 3
    await other.received("u")
    assert [entry.offset for entry in other.sink.of("u")] == [1, 2, 3]
    assert one.sink.seen == []  # no client of u is connected here


async def test_redis_broker_duplicate_is_recognised_by_the_other_replica(pair: tuple[Bench, Bench]) -> None:
    one, other = pair
    assert await one.append([event(key="k")]) == [STORED]
    assert await other.append([event(key="k"), event(key="l")]) == [DUPLICATE, STORED]


async def test_redis_broker_publishes_the_events_of_a_user_in_one_message(
    valkey: Valkey, pair: tuple[Bench, Bench]
) -> None:
    one, _ = pair
    await one.take(*numbered(3), event("v"), *numbered(2))
    assert [entry.offset for entry in one.sink.of("u")] == [1, 2, 3, 4, 5]
    assert (await valkey.client().info("commandstats"))["cmdstat_spublish"]["calls"] == 2


async def test_redis_broker_failure_for_one_user_retries_the_event_and_later_ones(valkey: Valkey) -> None:
    async with on_redis(valkey.url, prefix="p") as bench:
        await bench.take(event("good"))
        (bad,) = (key.decode() for key in await valkey.ask("KEYS", "p:*}"))
        await valkey.ask("DEL", bad)
        await valkey.ask("SADD", bad, "it is no string")
        events = [event("other"), event("good"), event("good", "third"), event("third")]
        outcomes = await bench.broker.append(events)
        assert [outcome.status for outcome in outcomes] == [STORED, RETRIED, RETRIED, RETRIED]
        assert [outcome.reason for outcome in outcomes] == [
            None,
            Retry.REDIS_UNAVAILABLE,
            Retry.REDIS_UNAVAILABLE,
            Retry.FOLLOWS_RETRY,
        ]
        assert "WRONGTYPE" in outcomes[1].detail


async def test_redis_broker_before_its_first_look_sends_nothing(valkey: Valkey) -> None:
    async with on_redis(valkey.url) as bench:
        broker = broker_of(bench)
        broker.on_interrupted("a test")
        with pytest.raises(BrokerUnavailable, match="a test"):
            await broker.resume("u", None)
        appending = asyncio.create_task(bench.append([event()]))
        assert await broker.wait_for_doubt(0.0) == frozenset()
        await broker.verify([])
        assert await appending == [STORED]
        assert broker.trouble is None


async def test_redis_broker_append_times_out(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.TIMEOUT", 0.0)
    async with on_redis(valkey.url) as bench:
        broker_of(bench).on_interrupted("a test")
        assert await bench.append([event(), event("v")]) == [RETRIED, RETRIED]


async def test_redis_broker_retry_of_a_write_that_timed_out_is_a_duplicate(valkey: Valkey) -> None:
    async with on_redis(valkey.url) as bench:
        await bench.follow("u")
        valkey.freeze()
        assert await bench.append([event(key="k")]) == [RETRIED]
        valkey.thaw()
        await trusting(bench)
        assert await bench.append([event(key="k")]) in ([STORED], [DUPLICATE])
        assert (await bench.top("u")).offset == 1


async def test_redis_broker_logs_an_outage_and_its_end_once(valkey: Valkey, logs: Logs) -> None:
    async with on_redis(valkey.url) as bench:
        await bench.follow("u")
        await valkey.kill()
        await logs.line("redis.unavailable")
        for _ in range(3):
            with pytest.raises(BrokerUnavailable):
                await broker_of(bench).verify([])
        assert await bench.append([event()]) == [RETRIED]
        assert broker_of(bench).trouble
        await valkey.restart()
        await bench.follow("u")
        await trusting(bench)
        assert broker_of(bench).trouble is None
        assert (len(logs.of("redis.unavailable")), len(logs.of("redis.resynced"))) == (1, 1)


async def test_redis_broker_unsubscribes_an_unfollowed_user_after_the_grace_time(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_redis(valkey.url) as bench:
        for user in ("a", "b", "c"):
            await bench.follow(user)
        bench.sink.users = {"a"}
        await broker_of(bench).sweep()
        assert broker_of(bench).subscriptions == 3  # they may reconnect soon
        monkeypatch.setattr("wsbridge.broker.redis.broker.GRACE", 0.0)
        await broker_of(bench).sweep()
        assert broker_of(bench).subscriptions == 1
        await bench.follow("b")
        await bench.take(event("b"))
        assert [entry.user for entry in bench.sink.seen] == ["b"]


@pytest.mark.fault("D10")
async def test_sweep_keeps_a_user_who_is_followed_again_while_it_waits(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.GRACE", 0.0)
    monkeypatch.setattr("wsbridge.broker.redis.broker.TOUCH", 0.0)
    async with on_redis(valkey.url) as bench:
        for user in ("back", "stays"):
            await bench.follow(user)
        broker, resume = broker_of(bench), bench.broker.resume
        bench.sink.users = {"stays"}

        async def resuming(user: str, after: str | None) -> Resume:
            await bench.follow("back")
            return await resume(user, after)

        vars(broker).update(resume=resuming)
        await broker.sweep()
        assert broker.subscriptions == 2
        await broker.disconnect("back")
        await until(lambda: bench.sink.disconnected == ["back"])


async def test_sweep_of_many_users_lets_other_tasks_run_in_between(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.GRACE", 0.0)
    monkeypatch.setattr("wsbridge.broker.redis.loss_detector.PORTION", 2)
    async with on_redis(valkey.url) as bench:
        for number in range(5):
            await bench.follow(f"u{number}")
        bench.sink.users = {"u0"}
        broker, left = broker_of(bench), list[int]()

        async def others() -> None:
            while True:
                left.append(broker.subscriptions)
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        await broker.sweep()
        task.cancel()
    assert {4, 2} <= set(left)


async def test_redis_broker_position_of_a_connected_user_does_not_expire(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_redis(valkey.url, prefix="p") as bench:
        await bench.follow("u")
        await bench.top("u")
        (key,) = (key.decode() for key in await valkey.ask("KEYS", "p:*}"))
        await valkey.ask("PEXPIRE", key, 1_000_000)
        await broker_of(bench).sweep()
        assert await valkey.ask("PTTL", key) <= 1_000_000
        monkeypatch.setattr("wsbridge.broker.redis.broker.TOUCH", 0.0)
        await broker_of(bench).sweep()
        assert await valkey.ask("PTTL", key) > (POSITION_TTL - 60) * 1000


async def test_redis_broker_removes_entries_over_a_lower_bound_gradually(valkey: Valkey) -> None:
    """Entries over the bound are removed a few at a time."""
    async with on_redis(valkey.url, prefix="p") as bench:
        for _ in range(10):
            await bench.append(numbered(SIZE))
        (key,) = (key.decode() for key in await valkey.ask("KEYS", "p:*:h"))
        assert SIZE <= await valkey.ask("LLEN", key) < SIZE + 16


async def test_redis_broker_without_a_history_counts_positions(valkey: Valkey) -> None:
    async with on_redis(valkey.url, prefix="p", size=0) as bench:
        await bench.take(*numbered(20))
        await bench.take(*numbered(20))
        top = await bench.top("u")
        assert top.offset == 40
        assert (await bench.resume("u", f"{top.epoch}:39")).recovered is False
        assert (await bench.resume("u", str(top))).recovered is True
        assert sum([await valkey.ask("LLEN", key.decode()) for key in await valkey.ask("KEYS", "p:*:h")]) < 16


async def test_redis_broker_with_a_full_queue_pauses_the_stream(pair: tuple[Bench, Bench]) -> None:
    one, other = pair
    one.sink.size = 2
    await one.follow("u")
    assert await other.append([event()]) == [STORED]
    await one.received("u")
    one.fill(1)
    for _ in range(3):
        assert await other.append([event()]) == [STORED]
    assert len(one.sink.seen) == 1
    one.sink.queue.clear()
    await until(lambda: len(one.sink.seen) > 1)
    one.sink.size = 10
    await one.received("u")
    assert [entry.offset for entry in one.sink.seen] == [1, 2, 3, 4]


# A server that is available and refuses.

OPTIONAL = {"info", "config|get"}
ON_CONNECTING = {"client|setname", "select", "function|load"}


def documented_rights() -> list[str]:
    """The rights of the Redis user in docs/configuration.md."""
    (rules,) = re.findall(r"ACL SETUSER wsbridge (.*?)```", (ROOT / "docs/configuration.md").read_text(), re.DOTALL)
    return str(rules).split()


@pytest.mark.fault("E2")
async def test_broker_with_the_documented_rights_does_all_of_its_work(valkey: Valkey, logs: Logs) -> None:
    """Including its work after a loss."""
    await valkey.ask("ACL", "SETUSER", "wsbridge", *documented_rights())
    url = valkey.url.replace("//", "//wsbridge:password@").replace("/0", "/1")
    async with replica_at(url, prefix="wsbridge") as replica:
        client = await replica.connect("u")
        for number in range(30):
            event_of_u = event(data=f'{{"user_id":"u","n":{number}}}', key=f"{number}")
            assert (await replica.broker.append([event_of_u]))[0].status is Status.STORED
        await replica.settle(client)
        assert client.seen == list(range(30))
        await replica.connect("u", client.positions[-3])
        await replica.broker.disconnect("v")
        await valkey.wipe()
        await until(lambda: logs.of("history.lost"))
        await replica.settle(client)
        assert client.gaps == ["reset"]
        assert "NOPERM" not in logs.text
    refused = {line[line.index(b"object") + 1] for line in await valkey.ask("ACL", "LOG")}
    assert refused <= {b"client|setinfo"}  # Redis 7.0 does not have it, and the bridge does not need it


@pytest.mark.fault("E2")
async def test_broker_without_one_of_its_rights_reports_it_once(
    valkey: Valkey, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if no client is connected, as in a bridge that only receives events."""
    monkeypatch.setattr("wsbridge.broker.redis.broker.TIMEOUT", 0.05)
    monkeypatch.setattr("wsbridge.sessions.reconciler.INTERVAL", 0.05)
    monkeypatch.setattr("wsbridge.sessions.reconciler.AGAIN", 0.05)
    monkeypatch.setattr("wsbridge.broker.redis.subscriber.RECONNECT", 0.05)
    rights = {rule[1:] for rule in documented_rights() if rule.startswith("+")}
    async with replica_at(valkey.url) as replica:
        broker = replica.broker
        assert isinstance(broker, RedisBroker)
        for count, right in enumerate(sorted(rights - OPTIONAL - ON_CONNECTING), 1):
            await valkey.ask("ACL", "SETUSER", "default", f"-{right}")
            await until(lambda: broker.trouble)
            for _ in range(3):
                (outcome,) = await broker.append([event()])
                assert outcome.status is Status.RETRIED
                assert "NOPERM" in outcome.detail, right
                assert right in outcome.detail.lower(), right
            assert "NOPERM" in str(broker.trouble)
            await valkey.ask("ACL", "SETUSER", "default", f"+{right}")
            await until(lambda: not broker.trouble)
            assert (await broker.append([event()]))[0].status is Status.STORED
            assert (len(logs.of("redis.unavailable")), len(logs.of("redis.resynced"))) == (count, count), right


@pytest.mark.fault("E1")
async def test_broker_with_a_wrong_password_reports_it_from_the_start(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.TIMEOUT", 0.05)
    await valkey.ask("ACL", "SETUSER", "wsbridge", *documented_rights())
    broker = RedisBroker(
        create_server(parse(valkey.url.replace("//", "//wsbridge:wrong@"))), Sink(), prefix="wsbridge", **LIMITS
    )
    running = asyncio.create_task(broker.run())
    try:
        for _ in range(3):
            assert broker.trouble
            with pytest.raises(BrokerUnavailable, match="invalid username-password"):
                await broker.verify([])
            (outcome,) = await broker.append([event()])
            assert outcome.status is Status.RETRIED
            assert "invalid username-password" in outcome.detail
            assert "wrong" not in outcome.detail
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.fault("E2")
async def test_broker_on_a_server_out_of_memory_reports_it_once(
    valkey: Valkey, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.TIMEOUT", 0.05)
    async with replica_at(valkey.url) as replica:
        broker = replica.broker
        assert isinstance(broker, RedisBroker)
        await valkey.ask("CONFIG", "SET", "maxmemory", 1)
        assert (await broker.append([event()]))[0].detail.startswith("OOM ")
        await until(lambda: broker.trouble)
        for _ in range(10):
            (outcome,) = await broker.append([event()])
            assert (outcome.status, outcome.detail[:4]) == (Status.RETRIED, "OOM ")
        assert str(broker.trouble).startswith("OOM ")
        await valkey.ask("CONFIG", "SET", "maxmemory", 0)
        await until(lambda: not broker.trouble)
        assert (await broker.append([event()]))[0].status is Status.STORED
        assert (len(logs.of("redis.unavailable")), len(logs.of("redis.resynced"))) == (1, 1)


@pytest.mark.fault("E2")
@pytest.mark.parametrize("right", ["rpush", "set", "pexpire", "zadd", "zremrangebyscore", "spublish", "ltrim", "lpop"])
async def test_append_that_fails_half_way_is_undone(valkey: Valkey, right: str) -> None:
    """A redelivery is not taken for a duplicate of an event that was not stored, and it has the next offset."""
    events = [event(data=f'{{"n":{n}}}', key=f"{n}") for n in range(40)]
    async with on_redis(valkey.url, size=40) as bench:
        top = await bench.top("u")
        for place in range(0, 40, 4):
            some = events[place : place + 4]
            await valkey.ask("ACL", "SETUSER", "default", f"-{right}")
            before = [outcome.status for outcome in await bench.broker.append(some)]
            await valkey.ask("ACL", "SETUSER", "default", f"+{right}")
            await trusting(bench)
            after = [outcome.status for outcome in await bench.broker.append(some)]
            assert (before, after) in (([RETRIED] * 4, [STORED] * 4), ([STORED] * 4, [DUPLICATE] * 4))
        resume = await bench.resume("u", str(top))
        assert [entry.offset for entry in resume.entries] == list(range(1, 41))
        assert [entry.data for entry in resume.entries] == [event.data for event in events]


@pytest.mark.fault("E2")
@pytest.mark.parametrize("kind", ["h", "s"])
async def test_append_to_a_key_of_another_type_succeeds_once_that_is_deleted(valkey: Valkey, kind: str) -> None:
    async with on_redis(valkey.url, prefix="p") as bench:
        await bench.take(event(key="before"))
        key = f"{keys_of('p', 'u').position}:{kind}"
        await valkey.ask("SET", key, "somebody's")
        (outcome,) = await bench.broker.append([event(key="k")])
        assert (outcome.status, outcome.detail[:9]) == (RETRIED, "WRONGTYPE")
        await valkey.ask("DEL", key)
        assert [outcome.status for outcome in await bench.broker.append([event(key="k")])] == [STORED]
        assert (await bench.top("u")).offset == 2


@pytest.mark.fault("E2")
async def test_broker_with_one_broken_history_serves_other_users(valkey: Valkey, logs: Logs) -> None:
    """An error reply does not show that the server has lost data."""
    async with on_redis(valkey.url, prefix="p") as bench:
        await bench.take(event("bad"), event("good"))
        key = keys_of("p", "bad").position
        await valkey.ask("DEL", key)
        await valkey.ask("SADD", key, "it is no string")
        for _ in range(3):
            bad, good = await bench.broker.append([event("bad"), event("good")])
            assert "WRONGTYPE" in bad.detail
            assert good.status is Status.STORED
        assert broker_of(bench).trouble is None
        assert logs.of("redis.unavailable") == []
