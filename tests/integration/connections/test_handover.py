"""Connections are handed over by aiohttp: it keeps no memory for them, and no byte is lost."""

import asyncio
import gc
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from tests.support.frames import PING, UPGRADE, Peer, frame
from tests.support.running import Running, receive, until
from wsbridge.app import Bridge
from wsbridge.config.settings import Settings
from wsbridge.sessions.outbox import HIGH_WATER


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


STREAM = "GET /sse?user_id=u1 HTTP/1.1\r\nHost: a\r\n"


async def test_bytes_pipelined_behind_a_stream_are_freed(bridge: Running) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send(f"{STREAM}\r\n".encode() + b"x" * 1_000)
        await peer.until(b"connected")
        assert bridge.bridge.metrics.registry.get_sample_value("wsbridge_request_head_bytes") == 0


@pytest.mark.parametrize("head", [UPGRADE.format(path="/ws?user_id=u1"), STREAM], ids=["ws", "sse"])
async def test_session_behind_unread_responses_waits_for_its_peer(bridge: Running, head: str) -> None:
    async with Peer(bridge.port) as peer:
        await peer.request("GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        (guard,) = bridge.bridge.connection_limit._members  # no public name
        transport: Any = guard.transport  # type: ignore[attr-defined]
        while transport.get_write_buffer_size() <= HIGH_WATER:  # as a response that the peer does not read
            transport.write(bytes(8_192))
            await asyncio.sleep(0)
        await peer.send(f"{head}\r\n".encode())
        await until(lambda: bridge.bridge.slow_consumers.bytes > HIGH_WATER)
        await bridge.publish({"user_id": "u1", "text": "x" * 100_000})
        assert (
            bridge.bridge.slow_consumers.ledger.bytes > 100_000
        )  # not in the transport's buffer, which nothing bounds
        assert b"xxx" in await peer.until(b"xxx")
        await until(lambda: not bridge.bridge.slow_consumers.ledger.bytes)


async def test_stream_whose_request_has_a_large_body_is_read_again(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read, real = asyncio.Event(), bridge.bridge.broker.resume

    async def resume(*args: Any, **options: Any) -> Any:
        await is_read.wait()
        return await real(*args, **options)

    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    async with Peer(bridge.port) as peer, asyncio.TaskGroup() as group:
        group.create_task(peer.send(f"{STREAM}Content-Length: 1000000\r\n\r\n".encode() + bytes(1_000_000)))
        await until(lambda: bridge.bridge.registry.of("u1"))
        (guard,) = bridge.bridge.connection_limit._members  # no public name
        transport: Any = guard.transport  # type: ignore[attr-defined]
        await until(lambda: not transport.is_reading())
        is_read.set()
        await until(lambda: transport.is_reading() or transport.is_closing())


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
