"""`wsbridge publish`: the event, and the explanation of each answer."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.running import DEADLINE, Running, Start, receive
from wsbridge.cli.http import Unreachable
from wsbridge.cli.options import Failed
from wsbridge.cli.publish import cloud_event, to_bridge, to_sidecar

EVENT = cloud_event("task.created", ["u1"], {"title": "Buy milk"})


async def answering(
    aiohttp_server: AiohttpServer, status: int, text: str = "", charset: str = "utf-8"
) -> tuple[str, list[web.Request]]:
    """The URL of a server that gives one answer to every request, and the requests."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        asked.append(request)
        return web.Response(status=status, text=text, charset=charset)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    server = await aiohttp_server(app)
    return str(server.make_url("")).rstrip("/"), asked


async def post(url: str, event: dict[str, Any] = EVENT, topic: str = "task-updates", token: str | None = None) -> str:
    """Why the event is not in the history, or ""."""
    return await _problem(partial(to_bridge, event, url, topic=topic, token=token))


async def _problem(post: Callable[[], None]) -> str:
    try:
        await asyncio.to_thread(post)
    except Failed as failed:
        return failed.message
    return ""


def test_cloud_event_of_words_has_all_attributes() -> None:
    event = cloud_event("task.created", ["u1"], {"title": "Buy milk", "n": msgspec.Raw(b"1.10")})
    assert len(event.pop("id")) == 36
    time = event.pop("time")
    assert time.endswith("Z")
    assert json.loads(msgspec.json.encode(event)) == {
        "specversion": "1.0",
        "source": "wsbridge-cli",
        "type": "task.created",
        "datacontenttype": "application/json",
        "data": {"event_type": "task.created", "user_id": "u1", "title": "Buy milk", "n": 1.1, "timestamp": time},
    }
    assert list(event["data"]) == ["event_type", "user_id", "title", "n", "timestamp"]


async def test_to_sidecar_with_a_partition_names_it_in_the_query(aiohttp_server: AiohttpServer) -> None:
    url, asked = await answering(aiohttp_server, 204)
    options: dict[str, Any] = {"key": "u1", "pubsub": "p", "topic": "t", "token": None}
    await asyncio.to_thread(partial(to_sidecar, EVENT, url, **options, partition=3))
    assert dict(asked[0].query) == {"metadata.partitionKey": "u1", "metadata.partitionNumber": "3"}


def test_cloud_event_keeps_given_users_id_and_timestamp() -> None:
    event = cloud_event("t", ["u1", "u2"], {"timestamp": "then"}, event_id="7")
    assert event["id"] == "7"
    assert event["data"] == {"event_type": "t", "user_id": ["u1", "u2"], "timestamp": "then"}


async def test_to_bridge_data_arrives_verbatim(bridge: Running) -> None:
    tabs = [await bridge.opened(user) for user in ("u1", "u2")]
    event = cloud_event("task.created", ["u1", "u2"], {"n": msgspec.Raw(b"12345678901234567890123.10"), "ü": "→"})
    assert await post(bridge.url, event) == ""
    for tab, _ in tabs:
        async with asyncio.timeout(DEADLINE):
            text = await tab.receive_str()
        assert (
            '"event":{"event_type":"task.created","user_id":["u1","u2"],"n":12345678901234567890123.10,"ü":"→"' in text
        )


async def test_to_bridge_same_id_is_delivered_once(bridge: Running) -> None:
    tab, _ = await bridge.opened("u1")
    for kind in ("first", "second"):
        assert await post(bridge.url, cloud_event(kind, ["u1"], {}, event_id="7")) == ""
    assert await post(bridge.url, cloud_event("third", ["u1"], {})) == ""
    assert [(await receive(tab))["event"]["event_type"] for _ in range(2)] == ["first", "third"]


async def test_to_bridge_refused_by_a_real_bridge_says_why(start: Start) -> None:
    bridge = await start(APP_API_TOKEN="right" * 4, MAX_EVENT_BYTES="200")
    assert (await post(bridge.url)).startswith("401: the bridge refuses the token: set APP_API_TOKEN")
    assert (await post(bridge.url, token="wrong")).startswith("401: ")
    assert await post(bridge.url + "/", token="right" * 4) == ""
    large = cloud_event("t", ["u1"], {"title": "x" * 200})
    assert (await post(bridge.url, large, token="right" * 4)).startswith("DROP: the bridge cannot use this event")


async def test_to_bridge_with_an_unknown_topic_names_the_option_and_the_topics(start: Start) -> None:
    bridge = await start(TOPICS="orders=order_update,audit.log=audit")
    assert await post(bridge.url, topic="no/such") == (
        "404: the bridge is not subscribed to no/such. Name one of its topics with --topic: orders, audit.log"
    )


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (200, '{"status":"SUCCESS"}', ""),
        (200, '{"status":"RETRY"}', "RETRY: the bridge cannot store it now"),
        (200, '{"status":"OTHER"}', "200: unexpected response"),
        (200, '["SUCCESS"]', "200: unexpected response"),
        (200, "<html>", "200: unexpected response"),
        (403, "", "403: the bridge refuses events: set APP_API_TOKEN"),
        (404, "", "404: no such route: if the bridge has a WSBRIDGE_INTERNAL_PORT"),
        (404, '{"topics":[]}', "404: no such route"),
        (404, '{"topics":"orders"}', "404: no such route"),
        (429, "", "429: the bridge refuses this address"),
        (503, "", "503: the bridge is about to exit"),
        (502, '{"status":"SUCCESS"}', "502: unexpected response"),
    ],
)
async def test_to_bridge_answer_is_explained(aiohttp_server: AiohttpServer, status: int, text: str, said: str) -> None:
    url, _ = await answering(aiohttp_server, status, text)
    problem = await post(url)
    assert problem.startswith(said) if said else problem == ""


@pytest.mark.fault("A1")
async def test_to_bridge_answer_that_is_not_utf8_is_unexpected(aiohttp_server: AiohttpServer) -> None:
    url, _ = await answering(aiohttp_server, 200, '{"status":"é"}', charset="latin-1")
    assert (await post(url)).startswith("200: unexpected response")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (204, ""),
        (200, "200: unexpected response"),
        (400, "400: the sidecar does not know that pub/sub component"),
        (401, "401: the sidecar refuses the token: set DAPR_API_TOKEN"),
        (403, "403: the sidecar does not allow that topic"),
        (404, "404: the sidecar does not know that pub/sub component"),
        (500, "500: the sidecar could not publish it"),
    ],
)
async def test_to_sidecar_answer_is_explained(aiohttp_server: AiohttpServer, status: int, said: str) -> None:
    url, asked = await answering(aiohttp_server, status)
    event = cloud_event("t", ["user 1/ü", "u2"], {}, event_id="7")
    options: dict[str, Any] = {"key": "user 1/ü", "pubsub": "pubsub-kafka", "topic": "task-updates", "token": "api"}
    problem = await _problem(partial(to_sidecar, event, url + "/", **options))
    assert problem.startswith(said) if said else problem == ""
    (request,) = asked
    assert request.method == "POST"
    assert request.raw_path == "/v1.0/publish/pubsub-kafka/task-updates?metadata.partitionKey=user+1%2F%C3%BC"
    assert request.content_type == "application/cloudevents+json"
    assert request.headers["dapr-api-token"] == "api"
    assert json.loads(await request.read()) == event


async def test_to_sidecar_without_a_token_sends_no_header(aiohttp_server: AiohttpServer) -> None:
    url, asked = await answering(aiohttp_server, 204)
    await asyncio.to_thread(to_sidecar, EVENT, url, key="u1", pubsub="p", topic="t", token=None)
    assert "dapr-api-token" not in asked[0].headers
    assert asked[0].query["metadata.partitionKey"] == "u1"


async def test_to_bridge_on_a_closed_port_is_unreachable(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        await post(f"http://127.0.0.1:{unused_tcp_port}")


@pytest.mark.fault("A7")
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("owner.id", {"data": {"event_type": "t", "owner": {"id": "u1"}, "timestamp": "now"}}),
        ("@subject", {"subject": "u1", "data": {"event_type": "t", "timestamp": "now"}}),
        ("@key", {"data": {"event_type": "t", "timestamp": "now"}}),
    ],
)
def test_cloud_event_has_the_user_where_the_bridge_looks(field: str, expected: dict[str, Any]) -> None:
    event = cloud_event("t", ["u1"], {"timestamp": "now"}, user_field=field)
    assert {name: event[name] for name in ("subject", "data") if name in event} == expected
