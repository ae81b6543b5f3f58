"""`wsbridge doctor` through real reverse proxies that are configured wrongly on purpose."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.doctor import FAILURE, NOT_CHECKED, NOWHERE, OK, WARNING, found
from tests.support.reverse_proxies import UPGRADING, ReverseProxy
from tests.support.running import DEADLINE, SECRET, Running, Served, Start, token, until
from tests.support.valkey import Valkey
from wsbridge.cli.doctor import ingress
from wsbridge.cli.doctor.ingress import USER

CHECKS = ("websocket", "stream", "idle-websocket", "idle-stream", "histories", "origin", "guarded-routes")
LIVELY = {"PING_INTERVAL": "0.5"}  # comments in streams come soon
Behind = Callable[[str, Running], Awaitable[str]]


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    """The URL of a proxy in front of a bridge."""
    async with AsyncExitStack() as stack:

        async def starting(name: str, bridge: Running) -> str:
            return (await stack.enter_async_context(ReverseProxy(name, tmp_path, bridge.port))).url

        yield starting


@pytest.mark.parametrize("name", UPGRADING)
async def test_checks_through_a_proxy_as_documented_are_ok(start: Start, behind: Behind, name: str) -> None:
    settings = {"JWT_SECRET": SECRET, "ALLOWED_ORIGINS": "https://app.example.com"} | LIVELY
    url = await behind(name, await start(**settings))
    for check in CHECKS:
        finding = await found(check, settings, public_url=url, token=token(), idle=0.5)
        assert finding.state is OK, (check, finding)


async def test_checks_without_a_public_url_are_not_checked() -> None:
    for check in CHECKS:
        assert (await found(check)).state is NOT_CHECKED


async def test_checks_of_an_ingress_that_does_not_run_fail_or_are_not_checked() -> None:
    for check in CHECKS:
        state = (await found(check, public_url=NOWHERE)).state
        assert state is (FAILURE if check in ("websocket", "stream") else NOT_CHECKED), check


async def test_websocket_through_a_proxy_without_upgrade_fails(start: Start, behind: Behind) -> None:
    url = await behind("nginx without upgrade", await start(**LIVELY))
    finding = await found("websocket", public_url=url)
    assert (finding.state, "pass on Upgrade" in finding.cure) == (FAILURE, True), finding
    assert (await found("stream", public_url=url)).state is OK


class Pages(Served):
    """An application that serves a page at every path."""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/{path:.*}", self._page),)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text="<title>App</title>", content_type="text/html")


async def test_checks_of_an_application_that_serves_a_page_at_every_path_do_not_take_it_for_the_bridge() -> None:
    async with Pages() as app:
        url = f"http://127.0.0.1:{app.port}"
        assert "it answers 200" in (await found("websocket", public_url=url)).text
        assert "/sse answers 200 (text/html)" in (await found("stream", public_url=url)).text
        assert (await found("idle-stream", public_url=url)).state is NOT_CHECKED
        assert (await found("guarded-routes", public_url=url)).state is OK


async def test_histories_of_replicas_without_redis_behind_one_ingress_warn(start: Start, tmp_path: Path) -> None:
    settings = {"JWT_SECRET": SECRET}
    first, second = await start(**settings), await start(**settings)
    async with ReverseProxy("haproxy to two", tmp_path, first.port, second.port) as service:
        finding = await found("histories", settings, public_url=service.url, token=token())
        assert (finding.state, "8 connections got 2 histories" in finding.text) == (WARNING, True), finding
    finding = await found("histories", settings, public_url=first.url, token=token())
    assert finding == (OK, "8 connections got the same history", "")


async def test_histories_of_replicas_that_share_redis_are_one(start: Start, tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        first, second = await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)
        async with ReverseProxy("haproxy to two", tmp_path, first.port, second.port) as service:
            assert (await found("histories", public_url=service.url)).state is OK


@pytest.mark.parametrize("name", ["nginx that cuts", "haproxy that cuts", "caddy that cuts", "envoy that cuts"])
async def test_idle_connections_through_a_proxy_that_cuts_them_fail(bridge: Running, behind: Behind, name: str) -> None:
    url = await behind(name, bridge)
    finding = await found("idle-websocket", public_url=url, idle=6.0)
    assert (finding.state, "was cut after " in finding.text) == (FAILURE, True), finding
    if not name.startswith("caddy"):  # its limit is for upgraded connections only
        finding = await found("idle-stream", public_url=url, idle=6.0)
        assert (finding.state, "was cut after " in finding.text) == (FAILURE, True), finding


class Cutting(Served):
    """Opens a WebSocket, sends `first` if there is one, and cuts the connection after half a second."""

    def __init__(self, first: dict[str, Any] | None) -> None:
        self._first = first

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/ws", self._open),)

    async def _open(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if self._first:
            await ws.send_json(self._first)
        await asyncio.sleep(0.5)  # what is tested: the connection lives for a time
        if request.transport is not None:
            request.transport.abort()
        return ws


@pytest.mark.parametrize(("interval", "cure"), [(100, ingress.DURATION), (600_000, ingress.CUTTING)])
async def test_idle_websocket_that_is_cut_after_a_ping_blames_the_limit_of_the_duration(
    monkeypatch: pytest.MonkeyPatch, interval: int, cure: str
) -> None:
    """The ping interval is the bridge's, not that of the settings here."""
    monkeypatch.setattr(ingress, "LATE", 0.1)
    async with Cutting({"type": "connected", "ping_interval_ms": interval}) as proxy:
        finding = await found("idle-websocket", public_url=f"http://127.0.0.1:{proxy.port}")
    assert (finding.state, finding.cure) == (FAILURE, cure), finding


async def test_idle_websocket_without_a_message_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "TIMEOUT", 0.1)
    async with Cutting(None) as proxy:
        finding = await found("idle-websocket", public_url=f"http://127.0.0.1:{proxy.port}")
    assert finding == (NOT_CHECKED, "the WebSocket got no message: see websocket", "")


async def test_idle_connections_that_the_bridge_closes_are_not_checked(start: Start) -> None:
    bridge = await start()
    for check in ("idle-websocket", "idle-stream"):
        waiting = asyncio.create_task(found(check, public_url=bridge.url, idle=DEADLINE))
        await until(lambda: bridge.bridge.registry.of(USER))
        await bridge.publish({"user_id": USER})  # not a close
        bridge.bridge.registry.disconnect(USER)
        finding = await waiting
        assert (finding.state, "the bridge closed" in finding.text) == (NOT_CHECKED, True), finding
        await until(lambda: not bridge.bridge.registry.of(USER))


@pytest.mark.parametrize("check", ["idle-websocket", "idle-stream"])
async def test_connection_whose_user_has_events_says_nothing_about_idle_ones(bridge: Running, check: str) -> None:
    """An ingress that cuts idle connections does not cut it."""
    waiting = asyncio.create_task(found(check, public_url=bridge.url, idle=1.0))
    await until(lambda: bridge.bridge.registry.of(USER))
    await bridge.publish({"user_id": USER})
    finding = await waiting
    assert (finding.state, "got events of its user meanwhile (1)" in finding.text) == (NOT_CHECKED, True), finding


async def test_guarded_routes_of_the_bridge_itself_are_not_checked(bridge: Running) -> None:
    assert (await found("guarded-routes", url=bridge.url, public_url=bridge.url)).state is NOT_CHECKED


async def test_origin_through_a_proxy_that_replaces_host_fails(start: Start, behind: Behind) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    url = await behind("nginx", bridge)
    finding = await found("origin", public_url=url, token=token())
    assert (finding.state, finding.text) == (FAILURE, f"pages of {url} may not connect")
    url = await behind("haproxy", bridge)
    assert (await found("origin", public_url=url, token=token())).state is OK
    assert (await found("origin", public_url=url, token=token(), origin="https://other.example.com")).state is FAILURE


async def test_guarded_routes_that_are_open_to_the_public_fail(start: Start, behind: Behind) -> None:
    bridge = await start(HOST="0.0.0.0", AUTH="none", DEMO="true")
    finding = await found("guarded-routes", public_url=await behind("haproxy", bridge))
    assert (finding.state, "/stats, /metrics, /dapr/subscribe" in finding.text) == (FAILURE, True), finding


async def test_checks_without_a_token_that_the_bridge_requires_are_not_checked(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    for check in ("stream", "idle-websocket", "idle-stream", "histories"):
        finding = await found(check, public_url=bridge.url)
        assert (finding.state, finding.text) == (NOT_CHECKED, "a session needs --token"), check
    assert (await found("websocket", public_url=bridge.url)).state is OK


async def test_websocket_of_a_user_who_is_refused_fails_with_the_close(start: Start) -> None:
    bridge = await start(MAX_CONNECTIONS="1")
    await bridge.opened()
    finding = await found("websocket", public_url=bridge.url)
    assert (finding.state, "1013 overloaded" in finding.text) == (FAILURE, True), finding


async def test_websocket_with_doctors_own_token_says_what_it_does_not_prove(start: Start) -> None:
    settings = {"JWT_SECRET": SECRET, "JWT_AUDIENCE": "tasks"}
    bridge = await start(**settings)
    finding = await found("websocket", settings, public_url=bridge.url, token=token(aud="tasks"))
    assert finding == (OK, "a WebSocket opens through the ingress", "")
    finding = await found("websocket", settings, public_url=bridge.url, token=token(aud="tasks"), is_own_token=True)
    assert finding.state is OK
    assert finding.text == (
        "a WebSocket opens through the ingress, with a token that doctor made (audience tasks); whether your identity "
        "provider's tokens are accepted is not checked: give one with --token"
    )


async def test_websocket_with_a_token_for_another_audience_names_both(start: Start) -> None:
    settings = {"JWT_SECRET": SECRET, "JWT_AUDIENCE": "tasks"}
    bridge = await start(**settings)
    finding = await found("websocket", settings, public_url=bridge.url, token=token(aud="account"))
    assert (finding.state, "its aud is account, but WSBRIDGE_JWT_AUDIENCE is tasks" in finding.text) == (FAILURE, True)
    finding = await found("websocket", public_url=bridge.url, token=token(aud="account"))  # nothing to compare with
    assert finding.text == "the bridge closed the WebSocket with 4401 token_invalid"


async def test_token_that_the_bridge_refuses_fails(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    finding = await found("websocket", public_url=bridge.url, token="a.b.c")
    assert (finding.state, "4401 token_invalid" in finding.text) == (FAILURE, True), finding
    for check in ("stream", "idle-websocket", "idle-stream", "histories"):
        finding = await found(check, public_url=bridge.url, token="a.b.c")
        assert (finding.state, finding.text.endswith(": see websocket")) == (NOT_CHECKED, True), finding
