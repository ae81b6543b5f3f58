"""Several replicas with a real Redis or Valkey between them, end to end."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.cluster import Cluster
from tests.support.deliveries import cloud_event
from tests.support.logs import Logs
from tests.support.running import Reachable, Running, Start, closed, receive, until, until_told
from tests.support.spawned import Spawn
from tests.support.valkey import DURABLE, Valkey
from wsbridge.broker.redis.broker import RedisBroker


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path, **DURABLE) as server:
        yield server


@pytest.fixture
async def pair(start: Start, valkey: Valkey) -> tuple[Running, Running]:
    """Two replicas that are connected to the server."""
    one, other = await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)
    await until(lambda: trouble(one) is None and trouble(other) is None)
    return one, other


def trouble(replica: Running) -> str | None:
    assert isinstance(replica.bridge.broker, RedisBroker)
    return replica.bridge.broker.trouble


async def health(replica: Reachable) -> tuple[int, str, str]:
    status, body = await replica.get("/health")
    return status, body["status"], body["checks"]["redis"]


class Sidecar:
    """Delivers one event after the other to any replica, each until it is accepted, as Dapr does."""

    def __init__(self, user: str, *replicas: Reachable) -> None:
        self.taken = 0
        self.retried = 0
        self._user = user
        self._replicas = itertools.cycle(replicas)

    async def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            event = cloud_event({"user_id": self._user, "n": self.taken + 1})
            while (await self._try(event)) != "SUCCESS":
                self.retried += 1
                await asyncio.sleep(0.05)  # the pause of a sidecar's retry policy
            self.taken += 1

    async def _try(self, event: Any) -> str | None:
        with contextlib.suppress(aiohttp.ClientError):
            return str((await next(self._replicas).post(event))["status"])
        return None

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Deliver events inside the context; at its end, wait until the last one is accepted."""
        ending = False

        async def on_and_on() -> None:
            while not ending:
                await self.deliver()

        task = asyncio.create_task(on_and_on())
        try:
            yield
        finally:
            ending = True
            await task


async def numbers(ws: aiohttp.ClientWebSocketResponse, last: int) -> list[int]:
    """The numbers of the events up to that one."""
    found: list[int] = []
    while not found or found[-1] != last:
        message = await receive(ws)
        assert message["type"] == "task_update", message
        found.append(message["event"]["n"])
    return found


async def test_replicas_event_taken_by_one_reaches_clients_of_all(pair: tuple[Running, Running]) -> None:
    one, other = pair
    sockets = [(await replica.opened())[0] for replica in (one, other, other)]
    await Sidecar("u1", one, other).deliver(20)
    assert [await numbers(ws, 20) for ws in sockets] == [list(range(1, 21))] * 3


async def test_replicas_with_redis_let_a_client_resume_on_another(pair: tuple[Running, Running]) -> None:
    one, other = pair
    ws, hello = await one.opened()
    sidecar = Sidecar("u1", one, other)
    await sidecar.deliver(3)
    first = await receive(ws)
    await ws.close()
    await sidecar.deliver(2)
    again, recovered = await other.opened(last_event_id=first["id"])
    assert recovered["recovered"] is True
    assert await numbers(again, 5) == [2, 3, 4, 5]
    assert hello["last_event_id"].split(":")[0] == first["id"].split(":")[0]


async def test_replicas_without_redis_answer_anothers_position_with_a_gap(start: Start) -> None:
    """As with a consumer group each: both replicas have received the same events."""
    one, other = await start(), await start()
    ws, _ = await one.opened()
    for replica in (one, other):
        await Sidecar("u1", replica).deliver(3)
    seen = [await receive(ws) for _ in range(3)]
    for message in seen:
        again, resumed = await other.opened(last_event_id=message["id"])
        assert resumed["recovered"] is False
        gap = await receive(again)
        assert (gap["reason"], gap["last_event_id"]) == ("reset", resumed["last_event_id"])


async def test_replicas_recognise_a_redelivery_to_another_replica(pair: tuple[Running, Running], logs: Logs) -> None:
    one, other = pair
    ws, _ = await other.opened()
    event = cloud_event({"user_id": "u1", "n": 1})
    assert [(await replica.post(event))["status"] for replica in (one, other, one)] == ["SUCCESS"] * 3
    assert await one.publish({"user_id": "u1", "n": 2}) == "SUCCESS"
    assert await numbers(ws, 2) == [1, 2]
    assert len(logs.of("event.duplicate")) == 2


def frozen(valkey: Valkey) -> Callable[[], Any]:
    async def thaw() -> None:
        valkey.thaw()

    valkey.freeze()
    return thaw


async def killed(valkey: Valkey) -> Callable[[], Any]:
    await valkey.kill()
    return valkey.restart


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_replica_with_unavailable_redis_retries_and_keeps_sessions(
    start: Start, valkey: Valkey, logs: Logs, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    bridge = await start(REDIS_URL=valkey.url)
    ws, _ = await bridge.opened()
    monkeypatch.setattr("wsbridge.sessions.opening.RESUME_TIMEOUT", 0.5)
    sidecar = Sidecar("u1", bridge)
    await sidecar.deliver()
    assert (await health(bridge))[:2] == (200, "healthy")  # a bridge that never reached Redis would not be ready
    back = frozen(valkey) if fault == "frozen" else await killed(valkey)
    assert await bridge.publish({"user_id": "u1", "n": -1}, id="e", source="s") == "RETRY"
    await logs.line("redis.unavailable")
    status, said, why = await health(bridge)
    assert (status, said) == (200, "degraded")
    assert why != "ok"
    assert await closed(await bridge.connect("u2")) == (1013, "unavailable")
    assert not ws.closed
    await back()
    await logs.line("redis.resynced")
    assert await bridge.publish({"user_id": "u1", "n": -1}, id="e", source="s") == "SUCCESS"  # accepted or a duplicate
    await sidecar.deliver()
    assert await numbers(ws, 2) == [1, -1, 2]
    assert await health(bridge) == (200, "healthy", "ok")
    assert logs.of("history.lost") == []


async def test_replica_after_a_long_freeze_of_redis_loses_nothing(start: Start, valkey: Valkey, logs: Logs) -> None:
    """Connected clients missed nothing; disconnected ones get a gap."""
    bridge = await start(REDIS_URL=valkey.url, HISTORY_TTL="0.5")
    ws, hello = await bridge.opened()
    sidecar = Sidecar("u1", bridge)
    await sidecar.deliver()
    assert await numbers(ws, 1) == [1]
    valkey.freeze()
    await logs.line("redis.unavailable")  # longer than the history lasts
    valkey.thaw()
    await logs.line("redis.resynced")
    await sidecar.deliver()
    assert await numbers(ws, 2) == [2]
    again, resumed = await bridge.opened(last_event_id=hello["last_event_id"])
    assert resumed["recovered"] is False
    assert (await receive(again))["reason"] == "expired"


async def test_replica_with_briefly_frozen_redis_lets_new_sessions_wait(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    valkey.freeze()
    waiting = asyncio.create_task(pair[0].opened("late"))
    await until(lambda: trouble(pair[0]))
    valkey.thaw()
    _, hello = await waiting
    assert hello["user_id"] == "late"


async def test_replica_started_before_redis_becomes_ready(start: Start, valkey: Valkey) -> None:
    await valkey.kill()
    bridge = await start(REDIS_URL=valkey.url)
    assert (await health(bridge))[:2] == (503, "unavailable")
    assert await bridge.publish({"user_id": "u1"}) == "RETRY"
    await valkey.restart()
    await until(lambda: trouble(bridge) is None)
    ws, _ = await bridge.opened()
    assert await bridge.publish({"user_id": "u1"}) == "SUCCESS"
    await receive(ws)


async def test_replica_with_a_broken_subscription_loses_nothing(
    pair: tuple[Running, Running], valkey: Valkey, logs: Logs
) -> None:
    sockets = [(await replica.opened())[0] for replica in pair]
    sidecar = Sidecar("u1", *pair)
    async with sidecar.delivering():
        for _ in range(5):
            before = sidecar.taken
            assert await valkey.kill_subscribers() >= 1
            await until(lambda: sidecar.taken > before + 5)  # noqa: B023 - awaited at once
    await sidecar.deliver()
    for ws in sockets:
        assert await numbers(ws, sidecar.taken) == list(range(1, sidecar.taken + 1))
    await logs.line("redis.resynced")
    assert logs.of("history.lost") == []


async def test_replica_that_misses_the_last_message_delivers_it(
    start: Start, valkey: Valkey, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the reconciler can notice it."""
    monkeypatch.setattr("wsbridge.sessions.reconciler.INTERVAL", 0.1)
    bridge = await start(REDIS_URL=valkey.url)
    ws, _ = await bridge.opened()
    on_message = RedisBroker.on_message

    async def deaf(*_: object) -> None:
        pass

    monkeypatch.setattr(RedisBroker, "on_message", deaf)
    assert await bridge.publish({"user_id": "u1", "n": 1}) == "SUCCESS"
    assert await numbers(ws, 1) == [1]
    await logs.line("session.mended", replayed=1, gap=None)
    monkeypatch.setattr(RedisBroker, "on_message", on_message)
    assert await bridge.publish({"user_id": "u1", "n": 2}) == "SUCCESS"
    assert await numbers(ws, 2) == [2]


@pytest.mark.parametrize("loss", ["wipe", "snapshot"])
async def test_replicas_after_a_loss_of_redis_send_a_gap(
    pair: tuple[Running, Running], valkey: Valkey, logs: Logs, loss: str
) -> None:
    one, other = pair
    ws, _ = await one.opened()
    sidecar = Sidecar("u1", one, other)
    snapshot = await valkey.snapshot()
    await sidecar.deliver(3)
    seen = [await receive(ws) for _ in range(3)]
    await (valkey.wipe() if loss == "wipe" else valkey.restore(snapshot))
    gap = await receive(ws)
    assert (gap["type"], gap["after"], gap["reason"]) == ("gap", seen[-1]["id"], "reset")
    assert gap["last_event_id"].split(":")[0] != seen[0]["id"].split(":")[0]
    await logs.line("history.lost")
    await sidecar.deliver(2)
    assert await numbers(ws, 5) == [4, 5]
    again, resumed = await other.opened(last_event_id=seen[0]["id"])  # a client that was disconnected meanwhile
    assert resumed["recovered"] is False
    assert (await receive(again))["reason"] == "reset"


async def test_replica_killed_under_load_loses_nothing(spawn: Spawn, valkey: Valkey) -> None:
    one, other = await spawn(REDIS_URL=valkey.url), await spawn(REDIS_URL=valkey.url)
    ws, hello = await one.opened()
    sidecar = Sidecar("u1", one, other)
    last = hello["last_event_id"]
    seen: list[int] = []
    async with sidecar.delivering():
        await until(lambda: sidecar.taken > 20)
        one.process.kill()
        while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:  # buffered messages still count
            last = message.json()["id"]
            seen.append(message.json()["event"]["n"])
        ws, hello = await other.opened(last_event_id=last)
        assert hello["recovered"] is True
    await sidecar.deliver()
    seen += await numbers(ws, sidecar.taken)
    assert seen == list(range(1, sidecar.taken + 1))


async def test_replica_that_drains_loses_nothing_without_a_gap(spawn: Spawn, valkey: Valkey) -> None:
    """The next connection is opened after the goodbye; updates continue until then."""
    one, other = (
        await spawn(REDIS_URL=valkey.url, DRAIN_TIMEOUT="3"),
        await spawn(REDIS_URL=valkey.url, DRAIN_TIMEOUT="3"),
    )
    ws, _ = await one.opened()
    sidecar = Sidecar("u1", one, other)
    seen: dict[str, int] = {}
    async with sidecar.delivering():
        await until(lambda: sidecar.taken > 5)
        one.terminate()
        while (message := await receive(ws))["type"] != "goodbye":
            seen[message["id"]] = message["event"]["n"]
        assert (message["code"], message["reconnect"]) == (1012, True)
        after_goodbye = await receive(ws)
        seen[after_goodbye["id"]] = after_goodbye["event"]["n"]
        new, hello = await other.opened(last_event_id=list(seen)[-1])
        assert hello["recovered"] is True
        assert (await closed(ws))[0] == 1012
        assert await one.code() == 0
    await sidecar.deliver()
    assert list(seen.values()) + await numbers(new, sidecar.taken) == list(range(1, sidecar.taken + 1))


async def test_disconnect_reaches_every_replica(pair: tuple[Running, Running], logs: Logs) -> None:
    one, other = pair
    sockets = [(await replica.opened())[0] for replica in (one, other, other)]
    stream = await other.http.get(f"{other.url}/sse", params={"user_id": "u1"})
    stranger, _ = await other.opened("u2")
    async with one.http.post(f"{one.url}/users/u1/disconnect") as response:
        assert response.status == 202
    assert [await closed(ws) for ws in sockets] == [(4509, "force_disconnect")] * 3
    assert b'"code":4509' in await stream.content.read()
    assert await other.publish({"user_id": "u2", "n": 1}) == "SUCCESS"
    assert await numbers(stranger, 1) == [1]


async def test_disconnect_with_unavailable_redis_is_503(pair: tuple[Running, Running], valkey: Valkey) -> None:
    ws, _ = await pair[0].opened()
    valkey.freeze()
    async with pair[0].http.post(f"{pair[0].url}/users/u1/disconnect") as response:
        assert response.status == 503
        assert "Try again" in (await response.json())["detail"]
    assert await closed(ws) == (4509, "force_disconnect")
    status, body = await pair[0].get("/users/u1")
    assert (status, body["last_event_id"]) == (200, None)


async def test_replica_unsubscribes_users_that_have_left(
    start: Start, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.broker.GRACE", 0.0)
    monkeypatch.setattr("wsbridge.sessions.reconciler.INTERVAL", 0.1)
    bridge = await start(REDIS_URL=valkey.url)
    stays, _ = await bridge.opened("stays")

    async def come_and_go(place: int) -> None:
        ws, _ = await bridge.opened(f"u{place}")
        await ws.close()

    await asyncio.gather(*(come_and_go(place) for place in range(300)))
    broker = bridge.bridge.broker
    assert isinstance(broker, RedisBroker)
    await until(lambda: broker.subscriptions == 1)

    async def one_user() -> bool:  # and the channel of the replicas
        return len(await valkey.ask("PUBSUB", "SHARDCHANNELS")) == 2

    await until_told(one_user)
    assert await bridge.publish({"user_id": "stays", "n": 1}) == "SUCCESS"
    assert await numbers(stays, 1) == [1]


async def test_redis_keys_all_expire(pair: tuple[Running, Running], valkey: Valkey) -> None:
    await pair[0].opened()
    await Sidecar("u1", *pair).deliver(3)
    keys = await valkey.ask("KEYS", "wsbridge:*")
    assert len(keys) == 3
    assert all([await valkey.ask("PTTL", key.decode()) > 0 for key in keys])


async def test_full_redis_is_a_retry_and_stores_nothing(pair: tuple[Running, Running], valkey: Valkey) -> None:
    ws, _ = await pair[0].opened()
    await valkey.ask("CONFIG", "SET", "maxmemory", "1")
    assert await pair[0].publish({"user_id": "u1", "n": 1}, id="e", source="s") == "RETRY"
    await valkey.ask("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: trouble(pair[0]) is None)
    assert await pair[0].publish({"user_id": "u1", "n": 1}, id="e", source="s") == "SUCCESS"
    assert await numbers(ws, 1) == [1]


async def test_cluster_with_moved_slots_and_a_failed_primary_keeps_the_promise(start: Start, tmp_path: Path) -> None:
    """Each event that got SUCCESS arrives once and in order, or there is a gap:

    a lagging replica may have been promoted.
    """
    async with Cluster(tmp_path) as cluster:
        settings = {"REDIS_URL": cluster.url, "PING_INTERVAL": "3600"}  # clients answer pings at the end only
        one, other = await start(**settings), await start(**settings)
        await until(lambda: trouble(one) is None and trouble(other) is None)
        users = [f"u{place}" for place in range(9)]
        sockets = {user: [(await replica.opened(user))[0] for replica in (one, other)] for user in users}
        sidecars = {user: Sidecar(user, one, other) for user in users}
        async with contextlib.AsyncExitStack() as stack:
            for sidecar in sidecars.values():
                await stack.enter_async_context(sidecar.delivering())
            await until(lambda: min(sidecar.taken for sidecar in sidecars.values()) > 10)
            keys = sorted({key.decode() for node in cluster.nodes for key in await node.ask("KEYS", "wsbridge:*}")})
            assert len(keys) == len(users)
            for key in keys[:3]:
                owner = await cluster.node_of(key)
                slot = await owner.ask("CLUSTER", "KEYSLOT", key)
                await cluster.move_slot(slot, next(node for node in cluster.nodes[:3] if node is not owner))
            await cluster.fail_over(await cluster.node_of(keys[-1]))
            taken = {user: sidecar.taken for user, sidecar in sidecars.items()}
            await until(lambda: all(sidecars[user].taken > before + 5 for user, before in taken.items()))
        for user, sidecar in sidecars.items():
            await sidecar.deliver()
            for ws in sockets[user]:
                await check(ws, sidecar.taken)


async def check(ws: aiohttp.ClientWebSocketResponse, last: int) -> None:
    """Contiguous from 1 to the last, except for events that a gap explains."""
    expected, told = 1, False
    while expected <= last:
        message = await receive(ws)
        if message["type"] == "gap":
            told = True
            continue
        number = message["event"]["n"]
        assert number == expected or (told and number > expected)
        expected, told = number + 1, False


@pytest.mark.fault("E1")
async def test_replica_with_a_wrong_password_of_redis_is_never_ready(tmp_path: Path, spawn: Spawn) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.ask("ACL", "SETUSER", "bridge", "on", ">right", "allkeys", "allchannels", "+@all")
        replica = await spawn(REDIS_URL=valkey.url.replace("//", "//bridge:wrong@"))
        for _ in range(3):
            status, health = await replica.get("/health")
            assert status == 503, health
            assert await replica.publish({"user_id": "u1"}) == "RETRY"  # by then a right password would have worked
        assert "invalid username-password" in json.dumps(health)
