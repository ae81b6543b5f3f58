"""`wsbridge verify` on deployments that are broken on purpose: each fault has its name. All parts are real."""

import asyncio
import contextlib
import json
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.chaos.replica import Replica
from tests.e2e.proxy import Proxy
from tests.support.broken_ingress import BrokenIngress
from tests.support.command import finished
from tests.support.reverse_proxies import ReverseProxy
from tests.support.running import Running, Served, Start
from tests.support.valkey import DURABLE, Valkey

OUTAGE = 6.0  # seconds


async def verify(url: str, publish_url: str, *words: str) -> dict[str, Any]:
    words = ("--url", url, "--publish-url", publish_url, "--direct", "--rate", "30", "--json", *words)
    code, out, notes = await finished("verify", *words)
    found = json.loads(out)
    assert code == (not found["passed"]), notes
    return dict(found)


def codes(found: dict[str, Any]) -> list[str]:
    """The codes of the findings, without those that a slow machine causes by itself."""
    return [finding["code"] for finding in found["findings"] if finding["code"] not in {"dark", "late"}]


class Commanded(Served):
    """Does what `--during` asks for."""

    @property
    def command(self) -> str:
        program = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{self.port}/do')"
        return shlex.join([sys.executable, "-c", program])

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get("/do", self.do)]

    async def do(self, request: web.Request) -> web.Response:
        raise NotImplementedError


class Operator(Commanded):
    """Restarts the replicas, one after the other, behind a balancer."""

    def __init__(self, replicas: Sequence[Replica], balancer: Proxy) -> None:
        self._replicas = replicas
        self._balancer = balancer

    async def do(self, request: web.Request) -> web.Response:
        for replica in self._replicas:
            self._balancer.ports.remove(replica.port)
            await replica.drain()
            await replica.start()
            self._balancer.ports.append(replica.port)
        return web.Response()


class Outage(Commanded):
    """An ingress that is down for longer than a client's first attempts to reconnect take."""

    def __init__(self, ingress: Proxy) -> None:
        self._ingress = ingress

    async def do(self, request: web.Request) -> web.Response:
        ports = list(self._ingress.ports)
        self._ingress.ports.clear()
        self._ingress.cut()
        asyncio.get_running_loop().call_later(OUTAGE, self._ingress.ports.extend, ports)
        return web.Response()


@contextlib.asynccontextmanager
async def deployed(replicas: int, **settings: str) -> AsyncIterator[tuple[Proxy, Operator]]:
    """Replicas behind a balancer, and their operator."""
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        balancer = await stack.enter_async_context(Proxy())
        running = [
            await stack.enter_async_context(Replica(http, f"replica {number}", {"DRAIN_TIMEOUT": "1"} | settings))
            for number in range(replicas)
        ]
        balancer.ports.extend(replica.port for replica in running)
        yield balancer, await stack.enter_async_context(Operator(running, balancer))


async def test_verify_rolling_restart_with_redis_loses_nothing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Valkey(Path(folder), **DURABLE) as valkey, deployed(2, REDIS_URL=valkey.url) as (balancer, operator):
            words = ("--seconds", "9", "--during", operator.command)
            found = await verify(f"{balancer.url}/ws", balancer.url, *words)
    assert (codes(found), found["passed"]) == ([], True)
    assert found["arrived"] == found["expected"] > 300
    assert found["during"]["exit_code"] == 0
    assert found["reconnects"] >= found["clients"]
    assert max(found["dark_ms"].values()) > 0


async def test_verify_restart_without_redis_has_gaps_with_a_cause() -> None:
    async with deployed(1) as (balancer, operator):
        words = ("--seconds", "6", "--during", operator.command)
        found = await verify(f"{balancer.url}/ws", balancer.url, *words)
    assert (codes(found), found["passed"]) == (["history-lost"], True)
    assert found["gaps"]["unexplained"] == 0
    assert found["gaps"]["reasons"] == {"reset": found["gaps"]["explained"]}


async def test_verify_waits_for_clients_that_connect_again_after_the_last_event(bridge: Running) -> None:
    async with Proxy() as ingress, Outage(ingress) as outage:
        ingress.ports.append(bridge.port)
        words = ("--seconds", "3", "--wait", "2", "--during", outage.command)
        found = await verify(f"{ingress.url}/ws", bridge.url, *words)
    assert (codes(found), found["passed"]) == ([], True)
    assert max(found["dark_ms"].values()) > 1_000 * OUTAGE


async def test_verify_replicas_that_compete_without_redis_are_named() -> None:
    async with deployed(2) as (balancer, _):
        found = await verify(f"{balancer.url}/ws", balancer.url, "--seconds", "3", "--wait", "1")
    assert codes(found) == ["competing-replicas"]
    assert found["lost"] > 0


async def test_verify_ingress_that_loses_frames_is_named(bridge: Running) -> None:
    async with BrokenIngress(bridge.port, lose=7) as ingress:
        found = await verify(ingress.url, bridge.url, "--seconds", "6", "--wait", "1")  # each gets more than 7 events
    assert codes(found) == ["frames-dropped"]


async def test_verify_ingress_that_holds_frames_back_is_named(bridge: Running) -> None:
    async with BrokenIngress(bridge.port, hold=2.5) as ingress:
        found = await verify(ingress.url, bridge.url, "--seconds", "6")
    assert codes(found) == ["held-back"]
    assert found["lost"] == 0


@pytest.mark.parametrize("name", ["nginx that cuts", "haproxy that cuts"])
async def test_verify_ingress_that_cuts_idle_connections_is_named(name: str, bridge: Running, tmp_path: Path) -> None:
    async with ReverseProxy(name, tmp_path, bridge.port) as proxy:
        found = await verify(f"{proxy.url}/ws", bridge.url, "--seconds", "6")
    assert codes(found) == ["idle-cut"]
    assert "cut after 2." in found["findings"][0]["text"]
    assert found["lost"] == 0


async def test_verify_ingress_that_does_not_upgrade_is_named(bridge: Running, tmp_path: Path) -> None:
    async with ReverseProxy("nginx without upgrade", tmp_path, bridge.port) as nginx:
        found = await verify(f"{nginx.url}/ws", bridge.url)
    assert codes(found) == ["unreachable"]
    assert "HTTP status 426" in found["findings"][0]["text"]


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_verify_through_a_reverse_proxy_passes(name: str, bridge: Running, tmp_path: Path) -> None:
    async with ReverseProxy(name, tmp_path, bridge.port) as proxy:
        found = await verify(f"{proxy.url}/ws", bridge.url, "--seconds", "1")
    assert (codes(found), found["lost"]) == ([], 0)


async def test_verify_bridge_that_nobody_publishes_to_gets_nothing(bridge: Running, start: Start) -> None:
    other = await start()
    found = await verify(f"{bridge.url}/ws", other.url, "--seconds", "1", "--wait", "1")
    assert codes(found) == ["nothing-arrives"]
