"""`GET /users/{id}/events/{event_id}`. Each staged history publishes an event `e1` for user u1 and has one answer."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import AsyncMock
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from tests.support.bugs import BlockedBroadcaster, Buggy
from tests.support.deliveries import bulk_bytes, bulk_of, cloud_event, enveloped
from tests.support.frames import Peer, StalledReader
from tests.support.running import SECRET, Running, Start, receive, until, until_told
from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.memory import MemoryBroker
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.dapr.handler import max_body

A_MINUTE_AGO = 60_000  # ms


async def publish(bridge: Running, event_id: str = "e1", **data: Any) -> str:
    return await bridge.publish({"user_id": "u1"} | data, id=event_id)


async def from_kafka(bridge: Running, event_id: str, offset: int, ago: int = 40) -> None:
    """Deliver an event of partition 3 that Kafka got `ago` ms before now."""
    metadata = {"__partition": "3", "__offset": str(offset), "__timestamp": str(int(time.time() * 1_000) - ago)}
    await bridge.post(bulk_of(cloud_event({"user_id": "u1"}, id=event_id), metadata=metadata), "application/json")


async def leave(bridge: Running, ws: aiohttp.ClientWebSocketResponse) -> None:
    before = len(bridge.bridge.registry)
    await ws.close()
    await until(lambda: len(bridge.bridge.registry) < before)


async def live(bridge: Running) -> None:
    for _ in range(2):
        await bridge.opened()
    await from_kafka(bridge, "e1", 41)


async def without_kafka(bridge: Running) -> None:
    await bridge.opened()
    await publish(bridge)


async def left_before(bridge: Running) -> None:
    await leave(bridge, (await bridge.opened())[0])
    await publish(bridge)


async def resumed_after_absence(bridge: Running) -> None:
    ws, hello = await bridge.opened()
    await leave(bridge, ws)
    await publish(bridge)
    await receive((await bridge.opened(last_event_id=hello["last_event_id"]))[0])


async def resumed_past(bridge: Running) -> None:
    await publish(bridge)
    position = await bridge.bridge.broker.find("u1", "e1")
    await bridge.opened(last_event_id=str(position))


async def first_connection_later(bridge: Running) -> None:
    await publish(bridge)
    await bridge.opened()


async def gap_after_trim(bridge: Running) -> None:
    ws, hello = await bridge.opened()
    await leave(bridge, ws)
    for n in range(1, 5):
        await publish(bridge, f"e{n}")
    await bridge.opened(last_event_id=hello["last_event_id"])


async def closed_then_resumed(bridge: Running) -> None:
    """One of three connections reads nothing. The event fills its backlog, so it is closed and resumes."""
    readers = [asyncio.create_task(_read((await bridge.opened())[0])) for _ in range(2)]
    async with StalledReader(bridge.port) as peer:
        hello = await peer.opened("u1")
        stalled = next(s for s in bridge.bridge.registry.of("u1") if s.id == hello["session_id"])
        padding, n = "x" * 100_000, 0
        while not stalled.unsent():
            await publish(bridge, f"before-{(n := n + 1)}", padding=padding)
        await publish(bridge, padding=padding)
        while stalled.unsent() <= 1_000_000 and len(bridge.bridge.registry) == 3:
            await publish(bridge, f"after-{(n := n + 1)}", padding=padding)
        await until(lambda: len(bridge.bridge.registry) == 2)
    assert not any(reader.done() for reader in readers)
    ws, _ = await bridge.opened(last_event_id=hello["last_event_id"])
    while (await receive(ws)).get("event_id") != "e1":
        pass


async def _read(ws: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in ws:
        pass


async def lost_and_gone(bridge: Running) -> None:
    """One of two connections is lost just after the event, and its client does not reconnect."""
    await bridge.opened()
    async with StalledReader(bridge.port) as peer:
        await peer.opened("u1")
        await publish(bridge)
        peer.reset()
    await until(lambda: len(bridge.bridge.registry) == 1)


async def no_user(bridge: Running) -> None:
    await bridge.publish({"user": "u1"}, id="e1")


async def unknown_topic(bridge: Running) -> None:
    async with bridge.http.post(f"{bridge.url}/events/other", json=cloud_event({"user_id": "u1"}, id="e1")) as response:
        assert response.status == 404


async def unknown_topic_in_bulk(bridge: Running) -> None:
    bulk = bulk_of(cloud_event({"user_id": "u1"}, id="e0"), cloud_event({"user_id": "u1"}, id="e1"))
    async with bridge.http.post(f"{bridge.url}/events/other", json=bulk) as response:
        assert response.status == 404


async def not_json(bridge: Running) -> None:
    await bridge.post(enveloped(b'{"user_id":"u1","x":NaN}', id="e1"))


async def not_json_in_bulk(bridge: Running) -> None:
    await bridge.post(
        bulk_bytes(enveloped(b'{"x":NaN}', id="e0"), enveloped(b'{"x":NaN}', id="e1")), "application/json"
    )


async def broken_store(bridge: Running) -> None:
    bridge.bridge.broker.append = Buggy(MemoryBroker.append)  # type: ignore[method-assign] # ends with the test
    await publish(bridge)


async def too_large(bridge: Running) -> None:
    """A single delivery that is not read. Its id is in a header, as that of a CloudEvent in binary mode is."""
    body = b"x" * (max_body(bridge.bridge.settings.max_event_bytes) + 1)
    assert (await bridge.post(body, ce_id="e1"))["status"] == "DROP"


async def abandoned(bridge: Running) -> None:
    """The connection ends before the body does."""
    head = "POST /events/task-updates HTTP/1.1\r\nHost: a\r\nce_id: e1\r\nContent-Length: 9\r\n\r\n"
    async with Peer(bridge.port) as peer:
        await peer.send(head.encode() + b"{")
        await until(lambda: bridge.bridge.metrics.delivered_at)

    async def is_recorded() -> bool:
        return bool((await bridge.get("/user/events?user_id=u1&event_id=e1"))[1]["stations"])

    await until_told(is_recorded)


async def late_body(bridge: Running) -> None:
    head = "POST /events/task-updates HTTP/1.1\r\nHost: a\r\n__partition: 3\r\n__offset: 7\r\nContent-Length: 9\r\n\r\n"
    async with Peer(bridge.port) as peer:
        assert (await peer.request(head))[0] == 408


async def denied(bridge: Running) -> None:
    for _ in range(2):
        async with bridge.http.post(
            f"{bridge.url}/events/task-updates", json=cloud_event({"user_id": "u1"})
        ) as response:
            assert response.status == 401


async def other_user(bridge: Running) -> None:
    await bridge.publish({"user_id": ["u2", "u3"]}, id="e1")


async def duplicate(bridge: Running) -> None:
    await bridge.opened()
    await from_kafka(bridge, "e1", 41)
    await from_kafka(bridge, "e1", 57)


async def queue_full(bridge: Running) -> None:
    await publish(bridge, "e0", padding="x" * 60_000)
    await publish(bridge, padding="x" * 60_000)


async def silent_partition(bridge: Running) -> None:
    await from_kafka(bridge, "e0", 40)
    (place,) = bridge.bridge.stations.deliveries
    bridge.bridge.stations.deliveries[place] -= 240


async def never_published(bridge: Running) -> None:
    await from_kafka(bridge, "e0", 40)


async def never_published_from_several(bridge: Running) -> None:
    for place in ("1", "0"):
        await bridge.post(cloud_event({"user_id": "u1"}, id=f"e-{place}"), __partition=place, __offset="7")


async def only_drops(bridge: Running) -> None:
    await bridge.publish({"userId": "u1"}, id="e0")


async def nothing_delivered(bridge: Running) -> None:
    await bridge.opened()


async def forgotten(bridge: Running) -> None:
    """All records of the event were dropped, and it is still in the history."""
    await bridge.opened()
    await publish(bridge)
    for n in range(30):
        await publish(bridge, f"after-{n}")


async def switched_off(bridge: Running) -> None:
    await publish(bridge, "e0")


class History(NamedTuple):
    stage: Callable[[Running], Awaitable[None]]
    code: str
    answer: str  # a regular expression
    settings: Mapping[str, str] = MappingProxyType({})


POSITION, DELAY = r"\w+:\d+", r"\d+(\.\d)? (ms|s|min)"
ABSENT = "no connection when it arrived"
WAITING = rf"{ABSENT}; in the history at {POSITION}"
HISTORIES = [
    History(live, "delivered", rf"delivered to 2 of 2 connections {DELAY} after its Kafka timestamp"),
    History(without_kafka, "delivered", rf"delivered to 1 of 1 connection {DELAY} after the bridge received it"),
    History(
        left_before,
        "stored",
        rf"{WAITING}; the user has not connected since",
    ),
    History(
        resumed_after_absence,
        "delivered",
        rf"{ABSENT}; replayed to 1 connection {DELAY} later",
    ),
    History(
        resumed_past,
        "stored",
        rf"{WAITING}; the next connection resumed past it",
    ),
    History(
        first_connection_later,
        "stored",
        rf"{WAITING}; the next connection sent no position, so it gets later events only",
    ),
    History(
        gap_after_trim,
        "stored",
        rf"{ABSENT}; no longer in the history; the next connection got a gap \(trimmed\) instead, and its client "
        "must refetch",
        {"HISTORY_SIZE": "2"},
    ),
    History(
        closed_then_resumed,
        "delivered",
        rf"delivered to 2 of 3 connections {DELAY} after the bridge received it; one was closed as a slow "
        rf"consumer and its client resumed {DELAY} later",
        {"MAX_BACKLOG_BYTES": "1000000"},
    ),
    History(
        lost_and_gone,
        "partly_delivered",
        rf"delivered to 1 of 2 connections {DELAY} after the bridge received it; "
        "the other was lost and its client has not resumed",
    ),
    History(
        no_user,
        "dropped",
        r"dropped: user_id has no user; .* did you mean user\? Publish it in user_id, .* \(no_user\)",
    ),
    History(unknown_topic, "dropped", r"dropped: its topic is not in WSBRIDGE_TOPICS \(unknown_topic\)"),
    History(unknown_topic_in_bulk, "dropped", r"dropped: its topic is not in WSBRIDGE_TOPICS \(unknown_topic\)"),
    History(not_json, "dropped", r"dropped: the data is not JSON; .* \(not_json\)"),
    History(not_json_in_bulk, "dropped", r"dropped: the data is not JSON; .* \(not_json\)"),
    History(broken_store, "retried", rf"not stored yet \(RETRY {DELAY} ago: internal, see internal.error\); .*"),
    History(too_large, "dropped", r"dropped: .* \(too_large\)", {"MAX_EVENT_BYTES": "1"}),
    History(abandoned, "retried", rf"not stored yet \(RETRY {DELAY} ago: abandoned, its body is incomplete\); .*"),
    History(
        denied,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: no sidecar has delivered a valid event; 2 calls to the "
        rf"sidecar's routes were refused, the last one {DELAY} ago: see request.denied in the log",
        {"JWT_SECRET": SECRET},
    ),
    History(other_user, "other_user", r"published for 2 other users, not for u1 \(task-updates\)"),
    History(
        duplicate,
        "delivered",
        rf"delivered to 1 of 1 connection {DELAY} after its Kafka timestamp; "
        rf"a duplicate was skipped \(task-updates/3/57, {DELAY} later\)",
    ),
    History(
        queue_full,
        "retried",
        rf"not stored yet \(RETRY {DELAY} ago: queue_bytes\); the sidecar will deliver it again",
        {"QUEUE_MAX_BYTES": "65536"},
    ),
    History(
        silent_partition,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: the user's partition, 3 of task-updates, "
        r"has delivered nothing for 4 min",
    ),
    History(
        never_published,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: the user's partition, 3 of task-updates, "
        rf"delivered {DELAY} ago. If u1 is not the partition key, another consumer may have this event: run wsbridge "
        r"doctor --canary\. Otherwise check id and topic at the publisher",
    ),
    History(
        never_published_from_several,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: u1's events come from several partitions \(0 and 1 of .*",
    ),
    History(
        only_drops,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: no sidecar has delivered a valid event, but 1 was dropped "
        rf"\(no_user, the last one {DELAY} ago: user_id has no user; .*: did you mean userId\? .*\)",
    ),
    History(
        nothing_delivered,
        "never_received",
        rf"has not reached this bridge in the last {DELAY}: no sidecar has delivered a valid event",
    ),
    History(
        forgotten,
        "delivered",
        "delivered to 1 connection; the time of its arrival is forgotten",
        {"STATIONS_MAX_BYTES": "2000"},
    ),
    History(
        switched_off,
        "not_recorded",
        "not in the history; nothing is recorded, because WSBRIDGE_STATIONS_MAX_BYTES is 0",
        {"STATIONS_MAX_BYTES": "0"},
    ),
]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.stage.__name__)
async def test_event_of_a_staged_history_has_its_answer(
    start: Start, monkeypatch: pytest.MonkeyPatch, history: History
) -> None:
    if history.stage is queue_full:
        BlockedBroadcaster(monkeypatch)
    bridge = await start(**history.settings)
    await history.stage(bridge)
    await until(lambda: bridge.bridge.bus.is_empty() or history.stage is queue_full)
    status, found = await bridge.get("/users/u1/events/e1")
    assert (status, found["code"]) == (200, history.code), found
    assert re.fullmatch(history.answer, found["answer"]), found["answer"]


async def test_event_has_its_stations_in_order(bridge: Running) -> None:
    ws, hello = await bridge.opened()
    await from_kafka(bridge, "e1", 41)
    position = (await receive(ws))["id"]
    await leave(bridge, ws)
    _, found = await bridge.get("/users/u1/events/e1")
    assert (found["user_id"], found["event_id"]) == ("u1", "e1")
    stations = found["stations"]
    assert [station["name"] for station in stations] == [
        "opened", "resumed", "received", "relayed", "written", "closed",
    ]  # fmt: skip
    assert [station["at"] for station in stations] == sorted(station["at"] for station in stations)
    assert {station["replica"] for station in stations} == set(found["replicas"])
    assert stations[2]["text"].startswith("task-updates/3/41, stored, ")
    assert position in stations[3]["text"]
    assert {station.get("session") for station in stations} == {None, hello["session_id"]}


async def test_event_without_an_id_is_found_by_its_place_in_kafka(bridge: Running) -> None:
    entry = {"metadata": {"__partition": "3", "__offset": "41"}, "contentType": "application/json"}
    await bridge.post(bulk_of({"user_id": "u1"}, **entry), "application/json")
    _, found = await bridge.get("/users/u1/events/task-updates%2F3%2F41")
    assert found["code"] == "stored"


async def test_event_whose_body_is_late_is_found_by_its_place_in_kafka(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.dapr.handler.BODY_TIMEOUT", 0.05)
    await late_body(bridge)
    _, found = await bridge.get("/users/u1/events/task-updates%2F3%2F7")
    assert re.fullmatch(rf"not stored yet \(RETRY {DELAY} ago: body_timeout, its body .*\); .*", found["answer"])


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", 'a"b\\c', "ключ/1", "{e}", "%2e%2e"])
async def test_event_with_a_hostile_id_is_found(bridge: Running, text: str) -> None:
    await bridge.publish({"user_id": text}, id=text)
    by_path, by_query = quote(text, safe=""), urlencode({"user_id": text, "event_id": text})
    for path in (f"/users/{by_path}/events/{by_path}", f"/user/events?{by_query}"):
        _, found = await bridge.get(path)
        assert (found["user_id"], found["event_id"], found["code"]) == (text, text, "stored")


async def test_event_answer_with_an_unavailable_history_uses_the_records(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: str) -> None:
        raise BrokerUnavailable

    await publish(bridge)
    monkeypatch.setattr(bridge.bridge.broker, "find", unavailable)
    _, found = await bridge.get("/users/u1/events/e1")
    assert found["answer"].startswith("no connection when it arrived; no longer in the history")


async def test_event_stations_contain_no_data(bridge: Running) -> None:
    await bridge.opened()
    await publish(bridge, title="Confidential")
    await until(bridge.bridge.bus.is_empty)
    records = [r async for r in bridge.bridge.stations.search("", range(9))]
    assert len(records) == 3
    assert "Confidential" not in repr(records)


# Several replicas, which share a Redis.


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def pair(start: Start, valkey: Valkey) -> tuple[Running, Running]:
    """Two replicas that answer each other's questions."""
    one, other = await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)

    async def both_answer() -> bool:
        return len((await why(one))["replicas"]) == 2

    await until_told(both_answer)
    return one, other


async def why(bridge: Running) -> dict[str, Any]:
    status, found = await bridge.get("/users/u1/events/e1")
    assert status == 200
    return dict(found)


async def test_event_received_by_another_replica_is_delivered(pair: tuple[Running, Running]) -> None:
    taker, other = pair
    ws, _ = await other.opened()
    await from_kafka(taker, "e1", 41)
    await receive(ws)
    await until(other.bridge.bus.is_empty)
    for asked in pair:
        found = await why(asked)
        assert re.fullmatch(rf"delivered to 1 of 1 connection {DELAY} after its Kafka timestamp", found["answer"])
        assert set(found["replicas"]) == {taker.bridge.stations.replica, other.bridge.stations.replica}
        names = {(station["name"], station["replica"]) for station in found["stations"]}
        assert ("received", taker.bridge.stations.replica) in names
        assert ("written", other.bridge.stations.replica) in names


async def test_event_of_a_client_that_resumed_on_another_replica_is_delivered(pair: tuple[Running, Running]) -> None:
    one, other = pair
    async with StalledReader(one.port) as peer:
        hello = await peer.opened("u1")
        await publish(one)
        await until(lambda: one.bridge.registry.of("u1")[0].position.offset == 1)
        peer.reset()
    await until(lambda: not len(one.bridge.registry))
    await receive((await other.opened(last_event_id=hello["last_event_id"]))[0])
    answer = (await why(other))["answer"]
    assert re.fullmatch(rf"the connection was lost and its client resumed {DELAY} later", answer)


async def test_event_without_a_connection_is_in_the_shared_history(pair: tuple[Running, Running]) -> None:
    await publish(pair[0])
    for asked in pair:
        assert re.fullmatch(
            rf"{WAITING}; the user has not connected since",
            (await why(asked))["answer"],
        )


async def test_event_that_redis_has_lost_is_reported_as_lost(pair: tuple[Running, Running], valkey: Valkey) -> None:
    await publish(pair[0])
    await valkey.ask("FLUSHALL")
    answer = (await why(pair[0]))["answer"]
    assert re.match(rf"{ABSENT}; no longer in the history after {DELAY}, though histories are kept for 300 s: ", answer)


async def test_event_that_no_replica_received_is_never_received(pair: tuple[Running, Running]) -> None:
    assert re.fullmatch(
        rf"has not reached any of 2 replicas in the last {DELAY}: no sidecar has delivered a valid event",
        (await why(pair[0]))["answer"],
    )


async def test_event_with_a_replica_that_does_not_answer_has_the_number_of_missing_answers(
    pair: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(pair[0])
    broker = pair[1].bridge.broker
    assert isinstance(broker, RedisBroker)
    monkeypatch.setattr(broker.replicas, "take", AsyncMock())
    found = await why(pair[0])
    assert found["answer"].endswith("; 1 of 2 replicas did not answer")
    assert found["replicas"] == [pair[0].bridge.stations.replica]


async def test_event_while_redis_is_unavailable_is_answered_by_one_replica(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    await publish(pair[0])
    await valkey.kill()
    found = await why(pair[0])
    assert found["code"] == "stored"
    assert "; the other replicas could not be asked: " in found["answer"]
