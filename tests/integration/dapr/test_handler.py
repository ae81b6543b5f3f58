"""Deliveries as a Dapr 1.18 sidecar makes them, and the answers of docs/protocol.md."""

import asyncio
import base64
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import pytest

from tests.support.bugs import BlockedBroadcaster
from tests.support.console import watching
from tests.support.deliveries import bulk_bytes, bulk_of, cloud_event, enveloped
from tests.support.frames import Peer
from tests.support.logs import Logs
from tests.support.running import DEADLINE, Running, Start, receive, until
from wsbridge.broker.base import STORED, Outcome, retried
from wsbridge.core.events import Event
from wsbridge.core.reasons import Retry

JSON = "application/json"
TASK = {"event_type": "task.created", "user_id": "u1", "task_id": "456"}
SUCCESS = {"status": "SUCCESS"}
TOO_LARGE = {"status": "DROP", "reason": "too_large"}


def statuses(answer: Any) -> list[str]:
    """The status of each entry, in order."""
    assert [entry["entryId"] for entry in answer["statuses"]] == [str(n) for n in range(len(answer["statuses"]))]
    return [entry["status"] for entry in answer["statuses"]]


def encoded(data: Any) -> str:
    return base64.b64encode(json.dumps(data).encode()).decode()


def as_base64(data: Any, **envelope: Any) -> dict[str, Any]:
    """An envelope around data that was published as bytes."""
    event = cloud_event(None, datacontenttype="application/octet-stream", data_base64=encoded(data)) | envelope
    del event["data"]
    return event


async def events_until_now(ws: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """The events that have arrived so far."""
    await ws.send_str('{"type":"ping"}')
    found = []
    while (message := await receive(ws))["type"] != "pong":
        found.append(message["event"])
    return found


async def settled(bridge: Running) -> None:
    await until(bridge.bridge.bus.is_empty)


async def test_subscriptions_by_default_are_one_topic_verbatim_in_bulk(bridge: Running) -> None:
    status, found = await bridge.get("/dapr/subscribe")
    assert (status, found) == (
        200,
        [
            {
                "pubsubname": "pubsub-kafka",
                "topic": "task-updates",
                "route": "/events/task-updates",
                "metadata": {"rawPayload": "true"},  # a string: a sidecar refuses the whole list for anything else
                "bulkSubscribe": {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 1},
            }
        ],
    )


async def test_subscriptions_with_head_are_not_counted_as_read(bridge: Running, logs: Logs) -> None:
    async with bridge.http.head(f"{bridge.url}/dapr/subscribe") as response:
        assert response.status == 200
    assert (bridge.bridge.metrics.subscription_read_at, logs.of("subscriptions.read")) == (0.0, [])


@pytest.mark.parametrize(("seconds", "milliseconds"), [("0.001", 1), ("0.0149", 15), ("0.02", 20), ("10", 10_000)])
async def test_subscriptions_bulk_wait_is_the_setting_in_milliseconds(
    start: Start, seconds: str, milliseconds: int
) -> None:
    bridge = await start(BULK_WAIT=seconds)
    _, [subscription] = await bridge.get("/dapr/subscribe")
    assert subscription["bulkSubscribe"]["maxAwaitDurationMs"] == milliseconds


async def test_subscriptions_with_several_topics_and_a_dead_letter_topic_list_them(start: Start) -> None:
    bridge = await start(PUBSUB_NAME="kafka", TOPICS="a=one,b.c=two", DEAD_LETTER_TOPIC="dead")
    _, found = await bridge.get("/dapr/subscribe")
    assert [(s["pubsubname"], s["topic"], s["route"], s["deadLetterTopic"]) for s in found] == [
        ("kafka", "a", "/events/a", "dead"),
        ("kafka", "b.c", "/events/b.c", "dead"),
    ]
    assert await bridge.post(cloud_event(TASK), topic="b.c") == SUCCESS


async def test_dapr_config_is_404(bridge: Running) -> None:
    assert (await bridge.get("/dapr/config"))[0] == 404


SINGLE = {
    "JSON value": (cloud_event(TASK), "application/cloudevents+json"),
    "with charset": (cloud_event(TASK), "application/cloudevents+json; charset=utf-8"),
    "tracing": (cloud_event(TASK, traceid="00-1", traceparent="00-1", tracestate=""), "application/cloudevents+json"),
    "JSON string": (cloud_event(json.dumps(TASK), datacontenttype="text/plain"), "application/cloudevents+json"),
    "base64": (as_base64(TASK), "application/cloudevents+json"),
    "raw payload": (as_base64(TASK, source="Dapr"), "application/cloudevents+json"),
    "raw payload that is an envelope": (as_base64(cloud_event(TASK), source="Dapr"), "application/cloudevents+json"),
    "bare": (TASK, "application/cloudevents+json"),
    "bare, as JSON": (TASK, JSON),
    "enveloped, as JSON": (cloud_event(TASK), JSON),
    "no content type that says anything": (cloud_event(TASK), "text/plain"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "content_type"), SINGLE.values(), ids=SINGLE)
async def test_single_delivery_in_every_form_is_delivered(bridge: Running, body: Any, content_type: str) -> None:
    ws, _ = await bridge.opened()
    assert await bridge.post(body, content_type) == SUCCESS
    assert (await receive(ws))["event"] == TASK


ENTRIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "JSON value": (cloud_event(TASK), {}),
    "JSON string": (cloud_event(json.dumps(TASK)), {}),
    "base64": (as_base64(TASK), {}),
    "raw": (encoded(TASK), {"contentType": "application/octet-stream"}),
    "raw envelope": (encoded(cloud_event(TASK)), {"contentType": "application/octet-stream"}),
    "bare": (TASK, {}),
    "no metadata": (cloud_event(TASK), {"metadata": None}),
    "unknown fields": (cloud_event(TASK), {"future": {"a": 1}}),
}


@pytest.mark.parametrize(("event", "entry"), ENTRIES.values(), ids=ENTRIES)
async def test_bulk_delivery_in_every_form_is_delivered(bridge: Running, event: Any, entry: dict[str, Any]) -> None:
    ws, _ = await bridge.opened()
    assert await bridge.post(bulk_of(event, **entry), JSON) == {"statuses": [{"entryId": "0", "status": "SUCCESS"}]}
    assert (await receive(ws))["event"] == TASK


async def test_bulk_delivery_keeps_the_data_verbatim(bridge: Running) -> None:
    ws, _ = await bridge.opened()
    datas = [b'{ "user_id":"u1",  "n":%d1234567890123456789 }' % n for n in (1, 2, 3)]
    body = bulk_bytes(*(enveloped(data) for data in datas))
    assert statuses(await bridge.post(body, JSON)) == ["SUCCESS"] * 3
    for data in datas:
        assert data.decode() in await ws.receive_str()


async def test_bulk_delivery_without_entries_has_an_empty_answer(bridge: Running) -> None:
    assert await bridge.post(bulk_of(), JSON) == {"statuses": []}


async def test_answers_are_compact_json(bridge: Running) -> None:
    async with bridge.http.post(f"{bridge.url}/events/task-updates", json=cloud_event(TASK)) as response:
        assert await response.read() == b'{"status":"SUCCESS"}'
        assert response.content_type == JSON
    async with bridge.http.post(f"{bridge.url}/events/task-updates", json=bulk_of(cloud_event(TASK))) as response:
        assert await response.read() == b'{"statuses":[{"status":"SUCCESS","entryId":"0"}]}'


async def test_event_of_a_user_who_is_not_connected_is_stored(bridge: Running) -> None:
    assert await bridge.publish({"user_id": "nobody"}) == "SUCCESS"
    _, found = await bridge.get("/users/nobody")
    assert found["last_event_id"].endswith(":1")


@pytest.mark.parametrize(
    ("users", "reached"),
    [("u1", {"u1"}), (7, {"7"}), (10**30, {str(10**30)}), (["u1", 7, "u1"], {"u1", "7"}), (["u1"], {"u1"})],
    ids=["string", "integer", "big integer", "list", "list of one"],
)
async def test_event_reaches_the_users_of_its_field_only(bridge: Running, users: Any, reached: set[str]) -> None:
    sockets = {user: (await bridge.opened(user))[0] for user in ("u1", "7", str(10**30), "other")}
    assert await bridge.publish({"user_id": users}) == "SUCCESS"
    await settled(bridge)
    assert {user for user, ws in sockets.items() if await events_until_now(ws) == [{"user_id": users}]} == reached


async def test_event_for_1000_users_is_accepted_and_for_1001_dropped(bridge: Running) -> None:
    users = [f"u{n}" for n in range(1_001)]
    assert await bridge.publish({"user_id": users}) == "DROP"
    ws, _ = await bridge.opened("u999")
    assert await bridge.publish({"user_id": users[:-1]}) == "SUCCESS"
    assert (await receive(ws))["event"]["user_id"] == users[:-1]


@pytest.mark.parametrize(
    ("field", "event", "headers"),
    [
        ("owner.id", cloud_event({"owner": {"id": "u1"}}), {}),
        ("@subject", cloud_event({"n": 1}, subject="u1"), {}),
        ("@key", cloud_event({"n": 1}), {"__key": "u1"}),
    ],
)
async def test_event_reaches_the_user_of_the_configured_field(
    start: Start, field: str, event: Any, headers: dict[str, str]
) -> None:
    bridge = await start(USER_ID_FIELD=field)
    ws, _ = await bridge.opened()
    assert await bridge.post(event, **headers) == SUCCESS
    assert await bridge.post(bulk_of(event | {"id": "2"}, metadata=headers), JSON) == {
        "statuses": [{"entryId": "0", "status": "SUCCESS"}]
    }
    assert (await receive(ws))["event"] == (await receive(ws))["event"] == event["data"]


async def test_delivery_for_an_unknown_topic_is_404(bridge: Running, logs: Logs) -> None:
    async with bridge.http.post(f"{bridge.url}/events/other", json=cloud_event(TASK)) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        assert await response.json() == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "The topic other is not in WSBRIDGE_TOPICS.",
            "topics": ["task-updates"],
        }
    assert logs.of("topic.unknown", topic="other")


async def test_delivery_with_a_wrong_or_missing_app_token_is_401(start: Start) -> None:
    bridge = await start(APP_API_TOKEN="the sidecar's token")
    for headers in ({}, {"dapr-api-token": "another"}, {"Authorization": "Bearer the sidecar's token"}):
        async with bridge.http.post(f"{bridge.url}/events/other", json=cloud_event(TASK), headers=headers) as response:
            assert response.status == 401
    assert await bridge.post(cloud_event(TASK), **{"dapr-api-token": "the sidecar's token"}) == SUCCESS


async def test_event_of_two_mebibytes_in_every_form_is_dropped(bridge: Running, logs: Logs) -> None:
    """aiohttp's own limit would answer 413, which a sidecar retries forever."""
    ws, _ = await bridge.opened()
    big = {"user_id": "u1", "padding": "x" * 2 * 2**20}
    assert await bridge.post(cloud_event(big)) == TOO_LARGE
    assert await bridge.post(as_base64(big)) == TOO_LARGE
    assert await bridge.post(big, JSON) == TOO_LARGE
    assert statuses(await bridge.post(bulk_of(cloud_event(TASK), cloud_event(big), cloud_event(TASK)), JSON)) == [
        "SUCCESS",
        "DROP",
        "SUCCESS",
    ]
    assert len(logs.of("event.dropped", reason="too_large")) == 4
    await settled(bridge)
    assert await events_until_now(ws) == [TASK, TASK]


async def test_size_limit_counts_the_data_without_the_envelope(start: Start) -> None:
    bridge = await start(MAX_EVENT_BYTES="1000")
    data = b'{"user_id":"u1","padding":""}'
    exact = data[:-2] + b"x" * (1_000 - len(data)) + data[-2:]
    assert await bridge.post(enveloped(exact, comment="y" * 2_000)) == SUCCESS
    assert await bridge.post(enveloped(exact[:-1] + b" }")) == TOO_LARGE


@pytest.fixture
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge with low limits; otherwise a body would need 140 MB."""
    monkeypatch.setattr("wsbridge.dapr.handler.BROKER_BYTES", 1)


async def test_single_delivery_over_every_limit_is_dropped_unread(low_limits: None, start: Start, logs: Logs) -> None:
    bridge = await start(MAX_EVENT_BYTES="1")
    assert await bridge.post(b"x" * 5_000_000) == TOO_LARGE
    assert logs.of("event.dropped", reason="too_large")
    assert await bridge.post(cloud_event(TASK)) == TOO_LARGE  # the connection, or a new one, still works


async def test_bulk_delivery_over_every_limit_is_retried(low_limits: None, start: Start, logs: Logs) -> None:
    bridge = await start(MAX_EVENT_BYTES="1")
    assert await bridge.post(b"x" * 5_000_000, JSON) == {"status": "RETRY", "reason": "body_too_large"}
    assert "WSBRIDGE_MAX_EVENT_BYTES" in (await logs.line("event.retried", why="body_too_large"))["detail"]
    assert bridge.bridge.metrics.retries["body_too_large"] == 1
    assert not logs.of("event.dropped")


async def test_bulk_delivery_with_the_largest_messages_of_a_broker_drops_them_alone(start: Start) -> None:
    bridge = await start(MAX_EVENT_BYTES="100")
    large = base64.b64encode(b"x" * 1_000_000).decode()
    bulk = bulk_of(*([large] * 20), encoded(TASK), contentType="application/octet-stream")
    assert statuses(await bridge.post(bulk, JSON)) == ["DROP"] * 20 + ["SUCCESS"]


async def test_bulk_delivery_of_a_hundred_largest_events_is_accepted(start: Start) -> None:
    bridge = await start(MAX_EVENT_BYTES="20000", MAX_BACKLOG_BYTES="10000000")
    ws, _ = await bridge.opened()
    data = {"user_id": "u1", "padding": "x" * 19_900}
    bulk = bulk_of(*(as_base64(data) for _ in range(100)))
    assert statuses(await bridge.post(bulk, JSON)) == ["SUCCESS"] * 100
    assert [(await receive(ws))["event"] for _ in range(100)] == [data] * 100


async def test_duplicate_is_acknowledged_and_sent_once(bridge: Running, logs: Logs) -> None:
    """In single deliveries, in bulk, and across both."""
    ws, _ = await bridge.opened()
    event, other = cloud_event(TASK | {"n": 1}), cloud_event(TASK | {"n": 2})
    assert await bridge.post(event) == SUCCESS
    assert await bridge.post(event) == SUCCESS
    assert statuses(await bridge.post(bulk_of(event, other, other), JSON)) == ["SUCCESS"] * 3
    assert statuses(await bridge.post(bulk_of(event, other, other), JSON)) == ["SUCCESS"] * 3
    assert await bridge.post(other) == SUCCESS
    assert await bridge.post(cloud_event(TASK | {"n": 3}, id=event["id"], source="another")) == SUCCESS
    await settled(bridge)
    assert [e["n"] for e in await events_until_now(ws)] == [1, 2, 3]
    assert logs.of("event.duplicate", count=1, events=[event["id"]])
    assert logs.of("event.duplicate", count=3)
    assert bridge.bridge.metrics.events["duplicate"] == 7


async def test_duplicate_of_an_event_for_many_users_is_sent_to_each_once(bridge: Running) -> None:
    first, _ = await bridge.opened("u1")
    second, _ = await bridge.opened("u2")
    event = cloud_event({"user_id": ["u1", "u2"]})
    assert [await bridge.post(event) for _ in range(3)] == [SUCCESS] * 3
    await settled(bridge)
    assert len(await events_until_now(first)) == len(await events_until_now(second)) == 1


async def test_duplicate_of_a_verbatim_message_is_recognised_by_its_coordinates(bridge: Running, logs: Logs) -> None:
    ws, _ = await bridge.opened()
    raw = {"contentType": "application/octet-stream"}
    at = {"__key": "k", "__partition": "3", "__offset": "7"}
    assert statuses(await bridge.post(bulk_of(encoded(TASK), **raw, metadata=at), JSON)) == ["SUCCESS"]
    assert statuses(await bridge.post(bulk_of(encoded(TASK), **raw, metadata=at), JSON)) == ["SUCCESS"]
    for event in (TASK, as_base64(TASK, source="Dapr"), as_base64(TASK, source="Dapr")):  # a new envelope id each time
        assert await bridge.post(event, **at) == SUCCESS
    await settled(bridge)
    assert len(await events_until_now(ws)) == 1
    assert logs.of("event.duplicate", events=["task-updates/3/7"])
    for other in ({"__offset": "8"}, {"__partition": "4"}):
        assert await bridge.post(TASK, **(at | other)) == SUCCESS
    await settled(bridge)
    assert len(await events_until_now(ws)) == 2


async def test_duplicate_after_the_dedupe_ttl_is_sent_again(start: Start) -> None:
    bridge = await start(DEDUPE_TTL="0")
    ws, _ = await bridge.opened()
    event = cloud_event(TASK)
    for _ in range(3):  # two generations of ids
        assert await bridge.post(event) == SUCCESS
        assert await bridge.publish({"user_id": "other"}) == "SUCCESS"
        assert await bridge.publish({"user_id": "other"}) == "SUCCESS"
    await settled(bridge)
    assert len(await events_until_now(ws)) == 3


async def test_delivery_with_a_full_queue_is_retried_in_order(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RETRY, also for later events of the same user."""
    broadcaster = BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_SIZE="5")
    ws, _ = await bridge.opened("a")
    events = [cloud_event({"user_id": user, "n": n}) for n, user in enumerate("abaabbabc")]
    async with asyncio.timeout(DEADLINE):
        assert statuses(await bridge.post(bulk_of(*events), JSON)) == ["SUCCESS"] * 5 + ["RETRY"] * 4
        for event in events[5:]:
            assert await bridge.post(event) == {"status": "RETRY", "reason": "queue_full"}
    assert bridge.bridge.bus.depth == 5
    assert logs.of("event.retried", count=1, why="queue_full")
    assert logs.of("event.retried", count=1, why="follows_retry")
    assert bridge.bridge.metrics.events["retried"] == 8
    assert (await bridge.get("/health"))[1]["checks"]["queue"] == "nearly full"
    broadcaster.release()
    await settled(bridge)
    assert statuses(await bridge.post(bulk_of(*events), JSON)) == ["SUCCESS"] * 9  # the whole batch is delivered again
    await settled(bridge)
    assert [e["n"] for e in await events_until_now(ws)] == [0, 2, 3, 6]


async def test_later_events_of_a_retried_user_are_retried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event for two users does not fit; a later one for one of them would fit."""
    BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_SIZE="2")
    events = [cloud_event({"user_id": users}) for users in ("a", ["b", "c"], "d", "b", ["c", "e"], "e")]
    answer = await bridge.post(bulk_of(*events), JSON)
    assert statuses(answer) == ["SUCCESS", "RETRY", "SUCCESS", "RETRY", "RETRY", "RETRY"]


async def test_event_for_more_users_than_the_queue_holds_is_taken_when_it_is_empty(start: Start) -> None:
    bridge = await start(QUEUE_SIZE="2")
    ws, _ = await bridge.opened("u4")
    assert await bridge.publish({"user_id": [f"u{n}" for n in range(5)]}) == "SUCCESS"
    assert (await receive(ws))["type"] == "task_update"


async def test_answer_to_a_bulk_has_the_entry_ids_verbatim(bridge: Running) -> None:
    bulk = bulk_of(cloud_event(TASK), cloud_event(TASK))
    ids = [str(uuid.uuid4()), 'with "quotes" and ünïcode']
    for entry, name in zip(bulk["entries"], ids, strict=True):
        entry["entryId"] = name
    answer = await bridge.post(bulk, JSON)
    assert [status["entryId"] for status in answer["statuses"]] == ids


async def test_other_methods_on_the_events_route_are_405(bridge: Running) -> None:
    for method in ("GET", "PUT", "DELETE"):
        async with bridge.http.request(method, f"{bridge.url}/events/task-updates") as response:
            assert response.status == 405
            assert response.content_type == "application/problem+json"
            assert response.headers["Allow"] == "POST"


async def test_log_line_of_an_event_has_its_trace(bridge: Running, logs: Logs) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    raw = {"contentType": "application/octet-stream"}
    await bridge.post(bulk_of(encoded(cloud_event(TASK, id="e-1", traceparent=trace)), **raw), JSON)
    await bridge.publish(TASK, id="e-2")
    assert (await logs.line("event.received", event_id="e-1"))["traceparent"] == trace
    assert "traceparent" not in await logs.line("event.received", event_id="e-2")


@pytest.mark.fault("E3")
async def test_delivery_with_redis_unavailable_is_reported_in_answer_log_and_metric(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(events: Sequence[Event], is_wanted: Callable[[], bool]) -> list[Outcome]:
        return [retried(Retry.REDIS_UNAVAILABLE, "no answer within 1 s") for _ in events]

    monkeypatch.setattr(bridge.bridge.broker, "append", unavailable)
    answer = await bridge.post(bulk_of(cloud_event(TASK), cloud_event(TASK)), JSON)
    assert answer["statuses"][1] == {"entryId": "1", "status": "RETRY", "reason": "redis_unavailable"}
    assert logs.of("event.retried", count=2, why="redis_unavailable", detail="no answer within 1 s")
    assert bridge.bridge.metrics.retries == Counter(dict.fromkeys(Retry, 0) | {Retry.REDIS_UNAVAILABLE: 2})


async def test_delivery_for_an_unknown_topic_with_a_very_long_name_keeps_little_of_it(bridge: Running) -> None:
    url = f"{bridge.url}/events/{'x' * 20_000}"
    async with (
        watching(bridge, show="tail") as console,
        bridge.http.post(url, json=cloud_event(TASK, id="e1")) as response,
    ):
        assert response.status == 404
        assert len(await response.text()) < 500
        line = await console.line("tail", lambda line: line["events"])
    assert bridge.bridge.stations.bytes < 1_000
    assert len(line["events"][0]["topic"]) == 256


@pytest.mark.fault("E3", "E7")
async def test_delivery_for_an_unknown_topic_is_counted(bridge: Running) -> None:
    async with bridge.http.post(f"{bridge.url}/events/other", json=cloud_event(TASK)) as response:
        assert response.status == 404
    assert bridge.bridge.metrics.drops["unknown_topic"] == bridge.bridge.metrics.events["dropped"] == 1


async def test_bulk_over_the_bytes_of_the_queue_stores_the_events_that_fit(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcaster = BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_MAX_BYTES="65536")
    events = [cloud_event({"user_id": f"u{n}", "padding": "x" * 20_000}) for n in range(5)]
    assert statuses(await bridge.post(bulk_of(*events), JSON)) == ["SUCCESS"] * 3 + ["RETRY"] * 2
    assert logs.of("event.retried", count=2, why="queue_bytes")
    assert bridge.bridge.metrics.retries["queue_bytes"] == 2
    assert (await bridge.get("/health"))[1]["checks"]["queue"] == "nearly full"
    broadcaster.release()
    await settled(bridge)
    assert statuses(await bridge.post(bulk_of(*events), JSON)) == ["SUCCESS"] * 5


@pytest.mark.fault("E6")
async def test_event_that_waited_in_kafka_shows_its_age(bridge: Running) -> None:
    stamp = str(round((time.time() - 20) * 1000))
    delivery = bulk_of(cloud_event({"user_id": "u1"}))
    delivery["entries"][0]["metadata"]["__timestamp"] = stamp
    await bridge.post(delivery, "application/json")
    read = bridge.bridge.metrics.registry.get_sample_value
    assert read("wsbridge_event_age_seconds_count") == 1
    assert read("wsbridge_event_age_seconds_sum") == pytest.approx(20, abs=10)


async def test_delivery_whose_connection_is_closed_is_abandoned(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker on Redis then stops between two slices of a large bulk."""
    wanted: list[Callable[[], bool]] = []
    done = asyncio.Event()

    async def slow(events: Sequence[Event], is_wanted: Callable[[], bool]) -> list[Outcome]:
        wanted.append(is_wanted)
        assert is_wanted()
        await done.wait()
        return [STORED] * len(events)

    monkeypatch.setattr(bridge.bridge.broker, "append", slow)
    async with Peer(bridge.port) as peer:
        body = json.dumps(cloud_event({"user_id": "u1"}))
        await peer.send(
            f"POST /events/task-updates HTTP/1.1\r\nHost: a\r\nContent-Type: application/cloudevents+json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await until(lambda: wanted)
    await until(lambda: not wanted[0]())
    done.set()
