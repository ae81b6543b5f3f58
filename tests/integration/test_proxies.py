"""A bridge behind real reverse proxies on the same host: the reachable routes, sockets and streams."""

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.deliveries import cloud_event
from tests.support.logs import Logs
from tests.support.reverse_proxies import TEXTS, UPGRADING, ReverseProxy
from tests.support.running import (
    ADMIN_TOKEN,
    APP_TOKEN,
    DEADLINE,
    SECRET,
    Start,
    closed,
    data_of,
    receive,
    token,
    until,
)

GUARDED = [
    ("POST", "/events/task-updates"),
    ("GET", "/dapr/subscribe"),
    ("GET", "/stats"),
    ("GET", "/users/alice"),
    ("POST", "/users/alice/disconnect"),
    ("GET", "/metrics"),
]
# Headers with which an outside client may pretend to be on this machine.
DISGUISES: list[dict[str, str]] = [
    {},
    {"Host": "localhost:8004"},
    {"Host": "127.0.0.1:8004", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
    {"Connection": "close, X-Forwarded-For, Forwarded", "Forwarded": "for=127.0.0.1"},
]
NO_TOKENS = {"APP_API_TOKEN": "", "ADMIN_TOKEN": ""}
TOKENS = {"APP_API_TOKEN": APP_TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN, "METRICS_TOKEN": "what only Prometheus knows"}

pytestmark = pytest.mark.once
upgrading = pytest.mark.parametrize("fronting", UPGRADING, indirect=True)
Fronting = Callable[[int], Awaitable[ReverseProxy]]


@pytest.fixture(params=TEXTS)
async def fronting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fronting]:
    """Start each kind of proxy in front of a port."""
    async with AsyncExitStack() as stack:

        async def starting(upstream: int) -> ReverseProxy:
            return await stack.enter_async_context(ReverseProxy(request.param, tmp_path, upstream))

        yield starting


@pytest.mark.fault("B1")
@pytest.mark.parametrize(
    ("settings", "status"),
    [(NO_TOKENS, 403), (TOKENS, 401), (NO_TOKENS | {"INTERNAL_PORT": "0"}, 404)],
    ids=["no tokens", "tokens", "internal port"],
)
async def test_routes_of_sidecar_and_operators_are_refused_behind_a_proxy_on_this_host(
    start: Start, logs: Logs, fronting: Fronting, settings: dict[str, str], status: int
) -> None:
    bridge = await start(JWT_SECRET=SECRET, **settings)
    proxy = await fronting(bridge.port)
    ws, _ = await bridge.opened("alice", token=token("alice"))
    for (method, path), disguise in itertools.product(GUARDED, DISGUISES):
        body: Any = cloud_event({"user_id": "alice"}) if method == "POST" else None
        async with bridge.http.request(method, proxy.url + path, json=body, headers=disguise) as response:
            assert response.status == status, (path, disguise, await response.text())
    refused = len(GUARDED) * len(DISGUISES) if status != 404 else 0
    assert len(logs.of("request.denied")) == refused
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}  # no event and no close arrived before


@upgrading
async def test_socket_through_a_proxy_gets_events(start: Start, fronting: Fronting) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    proxy = await fronting(bridge.port)
    async with bridge.http.ws_connect(f"{proxy.url}/ws", protocols=["wsbridge.v1", f"bearer.{token('alice')}"]) as ws:
        assert (await receive(ws))["user_id"] == "alice"
        for number in range(3):
            assert await bridge.publish({"user_id": "alice", "n": number}) == "SUCCESS"
            assert (await receive(ws))["event"]["n"] == number
    await until(lambda: len(bridge.bridge.registry) == 0)  # the end is forwarded as well


async def test_stream_through_a_proxy_gets_each_event_at_once(start: Start, fronting: Fronting) -> None:
    """The next event is published when the previous one has arrived. A proxy that buffers would block it forever."""
    bridge = await start(JWT_SECRET=SECRET)
    proxy = await fronting(bridge.port)
    timeout = aiohttp.ClientTimeout(sock_read=DEADLINE)
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br, zstd"}
    url = f"{proxy.url}/sse?token={token('alice')}"
    async with bridge.http.get(url, headers=headers, timeout=timeout) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert (await data_of(response))["type"] == "connected"
        for number in range(3):
            assert await bridge.publish({"user_id": "alice", "n": number}) == "SUCCESS"
            assert (await data_of(response))["event"]["n"] == number
    await until(lambda: len(bridge.bridge.registry) == 0)


@pytest.mark.fault("B3")
async def test_client_and_health_are_public_through_a_proxy(start: Start, fronting: Fronting) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    proxy = await fronting(bridge.port)
    async with bridge.http.get(f"{proxy.url}/client.js") as response:
        assert (response.status, response.content_type) == (200, "text/javascript")
        assert re.search(r"export\b.*\bcreateClient\b", await response.text())  # also if it is minified
    async with bridge.http.get(f"{proxy.url}/health") as response:
        assert (response.status, await response.json()) == (200, {"status": "healthy"})


@upgrading
async def test_page_of_the_proxys_origin_may_connect_as_documented(start: Start, fronting: Fronting) -> None:
    """nginx changes `Host`, so the page's origin must be listed, or nginx configured to keep `Host`."""
    page = "https://app.example.com"
    bridge = await start(JWT_SECRET=SECRET, ALLOWED_ORIGINS=page)
    proxy = await fronting(bridge.port)
    url = f"{proxy.url}/ws?token={token('alice')}"
    async with bridge.http.ws_connect(url, origin=page) as ws:
        assert (await receive(ws))["type"] == "connected"
    async with bridge.http.ws_connect(url, origin="https://evil.net") as ws:
        assert await closed(ws) == (4503, "origin_forbidden")
