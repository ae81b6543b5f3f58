"""Ended connections are freed by reference counts alone, without the garbage collector."""

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.support.frames import CLOSE, GOOD, TEXT, WebSocketPeer
from tests.support.running import SECRET, Start, until
from wsbridge.connections.guard import ConnectionGuard
from wsbridge.sessions.heartbeat import Heartbeat
from wsbridge.sessions.session import Session
from wsbridge.transports.inbox import Inbox


async def _send_close(peer: WebSocketPeer) -> None:
    await peer.send_frame(CLOSE, b"\x03\xe8")
    await peer.rest()


async def _send_bad_messages(peer: WebSocketPeer) -> None:
    """The server closes with 1008."""
    for _ in range(10):
        await peer.send_frame(TEXT, b"x")
    await peer.rest()


async def _send_malformed_frame(peer: WebSocketPeer) -> None:
    await peer.send(b"\xff" * 4_096)
    await peer.rest()


async def _wait_for_close(peer: WebSocketPeer) -> None:
    """The server has closed, and waits for the peer's close."""
    await peer.until(b"\x88")
    await peer.send_frame(CLOSE, b"\x03\xe8")
    await peer.rest()


async def _half_close(peer: WebSocketPeer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)
    await peer.rest()


async def _disconnect(peer: WebSocketPeer) -> None:
    peer.sock.close()


async def _reset(peer: WebSocketPeer) -> None:
    peer.reset()


End = Callable[[WebSocketPeer], Awaitable[None]]
EMPTY_LINE = "\r\n"
STARTS = {
    "websocket": GOOD + EMPTY_LINE,
    "refused websocket": GOOD.replace("user_id=u1", "token=eyJhbGciOiJIUzI1NiJ9.e30.bad") + EMPTY_LINE,
    "sse": "GET /sse?user_id=u1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "not found": "GET /nope HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a body": "POST /events/task-updates HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{",
}
ENDS: list[tuple[str, End]] = [
    ("websocket", _send_close),
    ("websocket", _send_bad_messages),
    ("websocket", _send_malformed_frame),
    ("refused websocket", _wait_for_close),
    *((start, end) for start in STARTS for end in (_half_close, _disconnect, _reset)),
]
KEPT_FOR_A_CONNECTION = (ConnectionGuard, Inbox, RequestHandler, Session, web.BaseRequest)


def kept() -> Counter[str]:
    """The objects in memory that belong to connections."""
    return Counter(type(found).__name__ for found in gc.get_objects() if issubclass(type(found), KEPT_FOR_A_CONNECTION))


@pytest.fixture
def only_reference_counts() -> Iterator[None]:
    """Turn the garbage collector off: only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("only_reference_counts")
@pytest.mark.parametrize(("begin", "end"), ENDS, ids=lambda value: getattr(value, "__name__", value))
async def test_ended_connection_leaves_no_reference_cycle(start: Start, begin: str, end: End) -> None:
    """Full collections are rare. In a flood, connections that wait for one would fill the memory."""
    is_refused = begin == "refused websocket"
    bridge = await start(**({"AUTH": "required", "JWT_SECRET": SECRET} if is_refused else {}))
    before = kept()
    sockets = bridge.bridge.metrics.registry.get_sample_value
    async with WebSocketPeer(bridge.port) as peer:
        await peer.send(STARTS[begin].encode())
        if begin == "half a body":
            await until(lambda: kept()["Request"] > before["Request"])
        else:
            await peer.until(b"\r\n\r\n")
        await end(peer)
        await until(lambda: sockets("wsbridge_sockets") == 0)
    await until(lambda: kept() == before)


@pytest.mark.usefixtures("only_reference_counts")
async def test_session_after_a_look_of_the_heartbeat_is_freed_at_its_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat's endless loop must not keep the last sessions that it looked at."""
    looked = asyncio.Event()
    check = Heartbeat.check

    def checking(self: Heartbeat, session: Session, now: float) -> None:
        check(self, session, now)
        looked.set()

    monkeypatch.setattr(Heartbeat, "check", checking)
    bridge = await start()
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        looked.clear()
        await looked.wait()
    await until(lambda: kept()["Session"] == 0)
