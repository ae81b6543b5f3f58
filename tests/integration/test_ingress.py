"""The configurations of docs/ingress.md in the real programs, in front of a bridge."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.doctor import OK, found
from tests.support.reverse_proxies import DOCUMENTED, IDLE, SHRINK, ReverseProxy
from tests.support.running import DEADLINE, SECRET, Start, data_of, token, until
from tests.support.spawned import Spawn
from tests.support.valkey import free_port
from wsbridge.client import Client, Message
from wsbridge.config.settings import Settings

CHECKS = ("websocket", "stream", "idle-websocket", "idle-stream", "origin", "guarded-routes")
CLIENT = "127.0.0.2"  # an address of this machine that is not the proxy's
FORGED = {"X-Forwarded-For": "203.0.113.9"}
LARGE = "x" * 1_000_000
pytestmark = pytest.mark.once
proxies = pytest.mark.parametrize("name", DOCUMENTED)


@proxies
async def test_documented_proxy_passes_every_check_of_doctor_beyond_its_idle_timeout(
    start: Start, tmp_path: Path, name: str
) -> None:
    settings = {"JWT_SECRET": SECRET, "PING_INTERVAL": f"{Settings().ping_interval / SHRINK}"}
    bridge = await start(**settings)
    async with ReverseProxy(name, tmp_path, bridge.port) as proxy:
        options: dict[str, Any] = {"public_url": proxy.url, "token": token(), "idle": 1.5 * IDLE / SHRINK}
        findings = await asyncio.gather(*(found(check, settings, **options) for check in CHECKS))
    assert {finding.state for finding in findings} == {OK}, findings


@proxies
async def test_documented_proxy_passes_on_large_events_the_clients_address_and_a_restart(
    spawn: Spawn, tmp_path: Path, name: str
) -> None:
    settings = {"JWT_SECRET": SECRET, "TRUSTED_PROXIES": "127.0.0.1", "DRAIN_TIMEOUT": "1", "PORT": str(free_port())}
    bridge = await spawn(**settings)
    async with (
        ReverseProxy(name, tmp_path, bridge.port) as proxy,
        Client(f"{proxy.url}/ws", token=token(), new_delays=lambda: itertools.repeat(0.2)) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(CLIENT, 0)), headers=FORGED) as http,
    ):
        await following(client, "connected")
        async with http.get(f"{proxy.url}/sse?token={token()}", read_bufsize=4 * len(LARGE)) as stream:
            assert (await data_of(stream))["type"] == "connected"
            assert await bridge.publish({"user_id": "u1", "text": LARGE}) == "SUCCESS"
            assert (await data_of(stream))["event"]["text"] == LARGE
            assert (await following(client, "task_update")).data["text"] == LARGE
        await until(lambda: "sse" in [line["transport"] for line in bridge.of("session.opened")])
        assert {line["transport"]: line["peer"] for line in bridge.of("session.opened")}["sse"] == CLIENT
        bridge.terminate()
        assert (await following(client, "goodbye")).reason == "shutdown"
        assert await bridge.code() == 0
        bridge = await spawn(**settings)
        await following(client, "connected")
        assert await bridge.publish({"user_id": "u1", "n": 1}) == "SUCCESS"
        assert (await following(client, "task_update")).data["n"] == 1


async def following(client: Client, kind: str) -> Message:
    """The next message of that type."""
    async with asyncio.timeout(DEADLINE):
        async for message in client:
            if message.type == kind:
                return message
    raise AssertionError
