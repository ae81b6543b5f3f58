"""Statements of docs/dapr.md that a bridge cannot show: a stand-in for the app sees every delivery."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.e2e.kafka import TOPIC, Kafka
from tests.e2e.process import Log
from tests.e2e.sidecar import Manifest, Sidecar, components
from tests.support.running import until
from tests.support.valkey import settled

GROUP = "websocket-service"  # the resiliency policy applies to this app id
RAW = {"metadata": {"rawPayload": "true"}}
BULK = {"bulkSubscribe": {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 20}}


class App:
    """Subscribes as configured. Answers RETRY to the events in `unlucky` and SUCCESS to all others."""

    def __init__(self, subscription: Mapping[str, Any] | None) -> None:
        """Without a subscription the route does not exist."""
        self.asked = 0
        self.seen: list[list[str]] = []  # the ids of each delivery, in order
        self.metadata: list[dict[str, str]] = []  # of each message: of its bulk entry, or the request's headers
        self.unlucky: set[str] = set()
        self._subscription = subscription

    async def subscriptions(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self._subscription is None:
            return web.Response(status=404)
        return web.json_response(
            [{"pubsubname": "pubsub-kafka", "topic": TOPIC, "route": "/take", **self._subscription}]
        )

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        entries = body.get("entries", [{"entryId": "0", "event": body.get("data_base64", body)}])
        ids = [_id(entry["event"]) for entry in entries]
        self.seen.append(ids)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.metadata += [entry.get("metadata", headers) for entry in entries]
        statuses = [
            {"entryId": entry["entryId"], "status": "RETRY" if event_id in self.unlucky else "SUCCESS"}
            for entry, event_id in zip(entries, ids, strict=True)
        ]
        return web.json_response({"statuses": statuses} if "entries" in body else statuses[0])


def _id(event: Any) -> str:
    decoded = json.loads(base64.b64decode(event)) if isinstance(event, str) else event
    return str(decoded["id"])


def event(event_id: str) -> bytes:
    return json.dumps({"specversion": "1.0", "id": event_id, "source": "s", "type": "t", "data": {}}).encode()


Beside = Callable[[App], Awaitable[Sidecar]]


@pytest.fixture
async def beside(kafka: Kafka, tmp_path: Path, aiohttp_server: AiohttpServer) -> AsyncIterator[Beside]:
    """Start a sidecar for an app: `await beside(App(…))`; it ends with the test."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        manifest = Manifest({"dapr.io/app-id": GROUP, "dapr.io/app-protocol": "http"}, {})

        async def starting(app: App) -> Sidecar:
            await kafka.ready()
            await kafka.make(TOPIC)
            await kafka.commit_latest(GROUP)
            routes = web.Application()
            routes.add_routes([web.get("/dapr/subscribe", app.subscriptions), web.post("/take", app.take)])
            port = (await aiohttp_server(routes)).port
            resources = components(tmp_path, kafka.address)
            log = Log(tmp_path / "daprd.log")
            sidecar = Sidecar(manifest, resources, log, http, name="pod-0", app_port=port)
            sidecar.start()
            stack.callback(sidecar.kill)
            stack.push_async_callback(kafka.read_by, GROUP, 0)
            stack.callback(sidecar.terminate)
            await sidecar.ready()
            return sidecar

        yield starting


async def test_sidecar_reads_subscriptions_once_and_takes_404_as_none(beside: Beside) -> None:
    app = App(None)
    sidecar = await beside(app)
    await until(lambda: any("dapr initialized" in line for line in sidecar.log.lines))
    assert app.asked == 1
    assert await sidecar.subscriptions() == []


@pytest.mark.parametrize("mode", [{}, BULK], ids=["single", "bulk"])
async def test_sidecar_retries_a_message_that_it_cannot_decode_forever(
    beside: Beside, kafka: Kafka, mode: dict[str, Any]
) -> None:
    """The reason why the bridge subscribes with `rawPayload`."""
    app = App(mode)
    sidecar = await beside(app)
    await kafka.read_by(GROUP, 1)

    async def has_tried_again(times: int = 0) -> bool:
        return sum("error deserializing" in line for line in sidecar.log.lines) > times

    await kafka.produce(b"no JSON", partition=1)
    await settled(has_tried_again)
    await kafka.produce(event("behind"), partition=1)
    await settled(lambda: has_tried_again(1))
    assert app.seen == []


async def test_sidecar_retries_only_failed_bulk_entries_and_blocks_other_partitions(
    beside: Beside, kafka: Kafka
) -> None:
    app = App(RAW | BULK)
    app.unlucky = {"b"}
    await beside(app)
    await kafka.read_by(GROUP, 1)
    await kafka.produce(event("b"), partition=0)
    await until(lambda: app.seen == [["b"]])
    await kafka.produce(event("elsewhere"), partition=1)
    await until(lambda: len(app.seen) > 2)
    assert app.seen[:3] == [["b"]] * 3
    app.unlucky.clear()
    await until(lambda: app.seen[-1] == ["elsewhere"])


async def test_sidecar_retrying_a_single_delivery_does_not_block_other_partitions(beside: Beside, kafka: Kafka) -> None:
    app = App(RAW)
    app.unlucky = {"b"}
    await beside(app)
    await kafka.read_by(GROUP, 1)
    await kafka.produce(event("b"), partition=0)
    await until(lambda: app.seen)
    await kafka.produce(event("elsewhere"), partition=1)
    await until(lambda: ["elsewhere"] in app.seen)
    assert app.seen[0] == ["b"]
    app.unlucky.clear()


@pytest.mark.parametrize("mode", [RAW, RAW | BULK], ids=["single", "bulk"])
async def test_sidecar_escapes_headers_and_sends_the_time_in_milliseconds(
    beside: Beside, kafka: Kafka, mode: dict[str, Any]
) -> None:
    app = App(mode)
    await beside(app)
    await kafka.read_by(GROUP, 1)
    attributes = {"ce_specversion": b"1.0", "ce_id": "zoë 1+2/%".encode(), "ce_expiration": b"2030-01-01T00:00:00Z"}
    await kafka.produce(event("b"), key="zoë 1", headers=attributes, at=1_700_000_000.123)
    await until(lambda: app.metadata)
    [found] = app.metadata
    assert {name: found.get(name) for name in (*attributes, "__key", "__timestamp")} == {
        "ce_specversion": "1.0",
        "ce_id": "zo%C3%AB+1%2B2%2F%25",
        "ce_expiration": "2030-01-01T00%3A00%3A00Z",
        "__key": "zo%C3%AB+1",
        "__timestamp": "1700000000123",
    }
