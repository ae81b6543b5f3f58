"""Handshakes do without aiohttp's connection protocol, unless it must answer them."""

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.support.frames import GOOD, PING, Peer, WebSocketPeer, frame
from tests.support.logs import Logs
from tests.support.running import Running, until


def protocols(bridge: Running) -> int:
    """The number of aiohttp's connection protocols."""
    (runner,) = bridge.server._runners
    return len(runner.server.connections) if runner.server else 0


async def test_handshake_is_answered_without_aiohttps_protocol(bridge: Running, logs: Logs) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        assert protocols(bridge) == 0
    line = await logs.line("http.request", path="/ws")
    assert (line["level"], line["status"], line["query"]) == ("debug", 101, "user_id=u1")


async def test_handshake_sends_small_frames_at_once_and_probes_an_idle_peer(bridge: Running) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        (session,) = bridge.bridge.registry.of("u1")
        transport: Any = session.connection._transport  # type: ignore[attr-defined]  # no public name
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        assert all(transport.get_extra_info("socket").getsockopt(*option) for option in options)


async def test_handshake_that_is_refused_gets_a_problem_document_and_the_connection_ends(bridge: Running) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send((GOOD.replace("Version: 13", "Version: 8") + "\r\n").encode() + frame(PING))
        head, _, body = (await peer.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert {b"Sec-WebSocket-Version: 13", b"Upgrade: websocket", b"Connection: close"} < set(head.split(b"\r\n"))
    assert json.loads(body)["detail"] == "Expected 'Sec-WebSocket-Version: 13'."
    assert f"Content-Length: {len(body)}".encode() in head
    assert protocols(bridge) == 0


@pytest.mark.parametrize(("line", "status"), [("Expect: 100-continue", 100), ("Bad Name: x", 400)])
async def test_handshake_that_needs_aiohttps_protocol_gets_it(bridge: Running, line: str, status: int) -> None:
    async with Peer(bridge.port) as peer:
        assert (await peer.request(f"{GOOD}{line}\r\n\r\n"))[0] == status


async def test_handshake_with_an_internal_error_of_aiohttp_ends_the_connection(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected = {"internal.error"}

    async def broken(request: Any) -> Any:
        raise OSError("broken")

    (upgrades,) = bridge.server._upgrades
    monkeypatch.setattr(upgrades.server, "request_handler", broken)
    async with Peer(bridge.port) as peer:
        assert await peer.request(GOOD + "\r\n") == (0, "")
    assert (await logs.line("internal.error"))["doing"] == "upgrade"


async def test_stop_closes_a_handshake_that_waits_with_1012(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    async def resume(*_: Any, **__: Any) -> Any:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    (upgrades,) = bridge.server._upgrades
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade()
        await waits.wait()
        upgrades.close()
        assert (await peer.message())["type"] == "goodbye"
        assert await peer.closed() == (1012, "shutdown")
        await until(lambda: not upgrades._tasks and not len(bridge.bridge.registry))
