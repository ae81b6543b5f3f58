"""Connections are handed over by aiohttp: it keeps no memory for them, and no byte is lost."""

import gc

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from tests.support.frames import PING, UPGRADE, Peer, frame
from tests.support.running import Running, receive, until
from wsbridge.app import Bridge
from wsbridge.config.settings import Settings


@pytest.mark.fault("C9")
@pytest.mark.parametrize("path", ["/ws", "/sse"])
async def test_open_session_keeps_neither_request_nor_handler_of_aiohttp(bridge: Running, path: str) -> None:
    head = UPGRADE.format(path="/ws?user_id=u1&mark=this")
    if path == "/sse":
        head = "GET /sse?user_id=u1&mark=this HTTP/1.1\r\nHost: a\r\n"
    async with Peer(bridge.port) as peer:
        await peer.send(f"{head}\r\n".encode())
        await peer.until(b"connected")
        requests = [found for found in gc.get_objects() if issubclass(type(found), web.Request)]
        assert not [found for found in requests if "mark" in found.query]
        (session,) = bridge.bridge.registry.of("u1")
        transport = session.connection._transport  # type: ignore[attr-defined]  # no public name
        assert transport.get_protocol() is session.connection


@pytest.mark.parametrize("size", [1, 100])
async def test_bytes_sent_together_with_the_handshake_are_taken(bridge: Running, size: int) -> None:
    payload = b"x" * size
    pong = bytes((0x8A, size)) + payload
    async with Peer(bridge.port) as peer:
        await peer.send(f"{UPGRADE.format(path='/ws?user_id=u1')}\r\n".encode() + frame(PING, payload))
        assert (await peer.until(pong)).endswith(pong)


async def test_application_under_aiohttps_own_server_hands_connections_over(aiohttp_client: AiohttpClient) -> None:
    bridge = Bridge(Settings(auth="none", app_api_token=None))
    async with bridge.running():
        client = await aiohttp_client(bridge.application(public=True, internal=True))
        ws = await client.ws_connect("/ws", params={"user_id": "u1"})
        assert (await receive(ws))["type"] == "connected"
        await ws.send_json({"type": "ping"})
        assert await receive(ws) == {"type": "pong"}
        await ws.close()
        await until(lambda: not len(bridge.registry))
