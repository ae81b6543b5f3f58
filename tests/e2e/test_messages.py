"""Every form that a message can have in Kafka, and what the bridge does with it."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.e2e.chain import WITH_REDIS, App, Chain, Start
from tests.e2e.kafka import Kafka
from tests.support.identity import Provider
from tests.support.running import DEADLINE, until
from tests.support.valkey import Valkey, settled

LONG_AGO = 3_600.0  # seconds
USER = "zoë/1"  # as key and header it is not ASCII
TASK = b'{"z":1, "user_id":"zo\xc3\xab/1","n":12345678901234567890,"f":1.10}'
SORTED = b'{"f":1.10,"n":12345678901234567890,"user_id":"zo\xc3\xab/1","z":1}'  # as the publishing sidecar sorts it
EVENT = b'{"specversion":"1.0","id":"%b","source":"s","type":"t","data":%b}'
GOOD = b'{"user_id":"zo\xc3\xab/1","good":%d}'
ODD = {
    "x-odd": b"\x00\xff\r\n: \xe2\x82\xac",
    "content-type": b"text/html",
    "content-length": b"7",
    "host": b"elsewhere",
    "dapr-api-token": b"forged",
    "ce_id": b"",
}


async def next_event(tab: aiohttp.ClientWebSocketResponse) -> bytes:
    """The next event, byte for byte."""
    async with asyncio.timeout(DEADLINE):  # the argument `timeout` of aiohttp begins again at each ping
        text = await tab.receive_str()
    assert json.loads(text)["type"] == "task_update"
    return text.partition('"event":')[2].rpartition(',"timestamp":')[0].encode()


async def drops(bridge: App, count: int) -> list[dict[str, Any]]:
    """The log lines of dropped events, once there are this many.

    A thread writes them, perhaps after the next event has arrived.
    """
    await until(lambda: len(bridge.log.of("event.dropped")) >= count)
    return bridge.log.of("event.dropped")


# Published through the backend's sidecar: content type, published data, expected data.
THROUGH_DAPR: dict[str, tuple[str | None, bytes, bytes]] = {
    "JSON": ("application/json", TASK, SORTED),
    "no content type": (None, TASK, TASK),
    "text": ("text/plain", TASK, TASK),
    "bytes": ("application/octet-stream", TASK, TASK),
    "a CloudEvent": ("application/cloudevents+json", EVENT % (b"e-1", TASK), SORTED),
}
# Stored in Kafka by other producers: value and headers. The value, or the data in it, must arrive.
WITHOUT_DAPR: dict[str, tuple[bytes, Mapping[str, bytes], bytes]] = {
    "a bare object": (TASK, {}, TASK),
    "a bare object with white space around it": (b" \n" + TASK + b"\n", {}, TASK),
    "a CloudEvent": (EVENT % (b"e-2", TASK), {}, TASK),
    "a CloudEvent in binary mode": (TASK, {"ce_specversion": b"1.0", "ce_id": b"e-3", "ce_source": b"s"}, TASK),
    "odd headers": (TASK, ODD, TASK),
}
# Never accepted: the value, and the reason in the log.
POISON: dict[str, tuple[bytes | None, str]] = {
    "text": (b"hello", "not_json"),
    "nothing": (b"", "not_json"),
    "bytes": (bytes(range(1, 256)), "bad_utf8"),
    "UTF-16": (TASK.decode().encode("utf-16"), "utf16"),
    "bytes of a schema registry": (bytes(range(256)), "schema_registry"),
    "half an object": (TASK[:-1], "not_json"),
    "an array": (b"[1]", "not_an_object"),
    "a string": (b'"hello"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "a tombstone": (None, "not_an_object"),
    "bad UTF-8": (TASK.replace(b"\xab", b"\xff"), "bad_utf8"),
    "no user": (b'{"n":1}', "no_user"),
    "a user of the wrong type": (b'{"user_id":{}}', "bad_user"),
    "a CloudEvent without data": (b'{"specversion":"1.0","id":"e-4","source":"s"}', "no_data"),
    "a CloudEvent whose time is over": (
        EVENT[:-1] % (b"e-5", TASK) + b',"expiration":"2026-01-01T00:00:00Z"}',
        "expired",
    ),
    "nested too deeply": (b'{"user_id":"u","x":' + b"[" * 600 + b"]" * 600 + b"}", "not_json"),
}


async def test_message_published_through_dapr_arrives(chain: Chain) -> None:
    [bridge] = chain.bridges
    tab, _ = await bridge.opened(USER)
    for name, (content_type, sent, arrives) in THROUGH_DAPR.items():
        await chain.publisher.publish(sent, USER, content_type)
        assert await next_event(tab) == arrives, name
    await until(lambda: bridge.log.of("event.received", event_id="e-1"))


async def test_message_to_a_user_of_auth0_arrives_by_its_token(chained: Start, redis: Valkey) -> None:
    """The user id of docs/identity.md has a `|`, and passes through Kafka's key, the sidecars, Redis and the token."""
    async with Provider("Auth0") as provider:
        chain = await chained(WITH_REDIS, REDIS_URL=redis.url, AUTH="required", **provider.settings)
        [bridge] = chain.bridges
        tab, connected = await bridge.opened(provider.user, token=provider.token())
        assert connected["user_id"] == provider.user
        await chain.publish(provider.user, n=1)
        assert json.loads(await next_event(tab)) == {"user_id": provider.user, "n": 1}


async def test_message_of_another_producer_arrives_byte_for_byte(chain: Chain, kafka: Kafka) -> None:
    [bridge] = chain.bridges
    tab, _ = await bridge.opened(USER)
    for name, (value, headers, arrives) in WITHOUT_DAPR.items():
        await kafka.produce(value, key=USER, headers=headers)
        assert await next_event(tab) == arrives, name
    assert not bridge.log.of("request.denied")


async def test_attributes_of_a_binary_cloudevent_arrive_unchanged(chained: Start, kafka: Kafka) -> None:
    """The shipped component escapes headers, and the shipped bridge is configured for that."""
    chain = await chained(USER_ID_FIELD="@subject")
    [bridge] = chain.bridges
    tab, _ = await bridge.opened(USER)
    binary = {"ce_specversion": b"1.0", "ce_source": b"s", "ce_subject": USER.encode()}
    await kafka.produce(TASK, headers=binary | {"ce_id": "1 + 2 = 3 €".encode()}, at=time.time() - LONG_AGO)
    assert await next_event(tab) == TASK
    await until(lambda: bridge.log.of("event.received", event_id="1 + 2 = 3 €"))
    _, metrics = await bridge.internal.get("/metrics")
    [age] = re.findall(r"^wsbridge_event_age_seconds_sum (.+)$", metrics, re.MULTILINE)
    assert LONG_AGO <= float(age) < 2 * LONG_AGO
    await kafka.produce(TASK, headers=binary | {"ce_id": b"late", "ce_expiration": b"2026-01-01T00:00:00+01:00"})
    await until(lambda: bridge.log.of("event.dropped", event_id="late", reason="expired"))


async def test_message_that_cannot_be_read_is_dropped_and_blocks_nothing(chain: Chain, kafka: Kafka) -> None:
    [bridge] = chain.bridges
    tab, _ = await bridge.opened(USER)
    before = await kafka.ends()
    for place, (name, (value, reason)) in enumerate(POISON.items()):
        await kafka.produce(value, partition=1)
        await kafka.produce(GOOD % place, partition=1)
        assert await next_event(tab) == GOOD % place, name
        dropped = await drops(bridge, place + 1)
        assert (len(dropped), dropped[-1]["reason"]) == (place + 1, reason), name
        assert dropped[-1]["event_id"] in (f"task-updates/1/{before[1] + 2 * place}", "e-4", "e-5"), name
    [group] = chain.groups
    ends = await kafka.ends()

    async def is_committed() -> bool:
        return (await kafka.committed(group))[1] == ends[1]

    await settled(is_committed)  # it will not be delivered again


async def test_delivery_with_unreadable_messages_accepts_the_others(chain: Chain, kafka: Kafka) -> None:
    """If the sidecar sends all in one bulk, the dropped entries must not affect the others."""
    [bridge] = chain.bridges
    tab, _ = await bridge.opened(USER)
    for place, (value, _) in enumerate(POISON.values()):
        await asyncio.gather(kafka.produce(GOOD % place, partition=2), kafka.produce(value, partition=2))
    assert [await next_event(tab) for _ in POISON] == [GOOD % place for place, _ in enumerate(POISON)]
    await until(lambda: len(bridge.log.of("event.dropped")) == len(POISON))
