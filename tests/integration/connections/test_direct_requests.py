"""Handshakes and posts do without aiohttp's connection protocol, unless it must answer them."""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from tests.support.frames import GOOD, PING, Peer, WebSocketPeer, frame
from tests.support.logs import Logs
from tests.support.running import Running, Start, until
from wsbridge import server
from wsbridge.connections import direct_requests


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

    (direct,) = bridge.server._direct
    monkeypatch.setattr(direct.server, "request_handler", broken)
    async with Peer(bridge.port) as peer:
        assert await peer.request(GOOD + "\r\n") == (0, "")
    assert (await logs.line("internal.error"))["doing"] == "request"


async def test_stop_closes_a_handshake_that_waits_with_1012(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    async def resume(*_: Any, **__: Any) -> Any:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    (direct,) = bridge.server._direct
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade()
        await waits.wait()
        await direct.close(0)
        assert (await peer.message())["type"] == "goodbye"
        assert await peer.closed() == (1012, "shutdown")
        await until(lambda: not direct._tasks and not len(bridge.bridge.registry))


# Posts.

EVENT = json.dumps({"user_id": "u1"})


def post(body: str = EVENT, path: str = "/events/task-updates", headers: Mapping[str, str] = {}) -> tuple[bytes, bytes]:
    """The head and the body of a post."""
    fields = {"Host": "a", "Content-Type": "application/json", "Content-Length": str(len(body))} | dict(headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode(), body.encode()


async def answered(peer: Peer) -> bytes:
    """One response with the length of its body, without the date."""
    head = await peer.until(b"\r\n\r\n")
    size = re.search(rb"Content-Length: (\d+)", head)
    assert size, head
    return re.sub(rb"Date: [^\r]+ GMT", b"Date:", head) + await peer.exactly(int(size[1]))


async def in_parts(peer: Peer, bridge: Running, head: bytes, body: bytes) -> None:
    """Send a post whose body follows once aiohttp's protocol has the head."""
    await peer.send(head)
    await until(lambda: protocols(bridge))
    await peer.send(body)


@pytest.mark.parametrize(
    "request_",
    [
        post(),
        post('{"user_id":'),
        post(path="/events/nope"),
        post(path="/health"),
        post(path="/nope"),
        post(headers={"Content-Encoding": "gzip"}),
        post(headers={"Host": "evil.example", "Origin": "http://elsewhere"}),
        post(headers={"dapr-caller-app-id": "other"}),
        post(""),
    ],
    ids=["stored", "dropped", "unknown-topic", "method", "no-route", "compressed", "foreign", "invoked", "empty"],
)
async def test_post_is_answered_as_by_aiohttps_protocol_without_it(
    bridge: Running, request_: tuple[bytes, bytes]
) -> None:
    head, body = request_
    chunked = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    async with Peer(bridge.port) as peer, Peer(bridge.port) as other:
        await peer.send(head + body)
        direct = await answered(peer)
        assert protocols(bridge) == 0
        await other.send(chunked + chunks)
        assert await answered(other) == direct
        assert protocols(bridge) == 1


async def test_posts_on_one_connection_change_between_both_ways(bridge: Running, logs: Logs) -> None:
    head, body = post()
    async with Peer(bridge.port) as peer:
        for _ in range(3):
            await in_parts(peer, bridge, head, body)
            assert b"SUCCESS" in await answered(peer)
            await peer.send(head + body + head + body)  # pipelined
            assert b"SUCCESS" in await answered(peer)
            assert b"SUCCESS" in await answered(peer)
            assert protocols(bridge) == 0
    lines = [line for line in logs.of("http.request", path="/events/task-updates") if line["status"] == 200]
    assert len(lines) == 9


async def test_post_is_handled_at_once_unless_another_request_follows_it(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[object] = []
    start_task = direct_requests._start

    def counted(*args: Any) -> asyncio.Task[None]:
        at_once.append(args)
        return start_task(*args)

    monkeypatch.setattr(direct_requests, "_start", counted)
    head, body = post()
    async with Peer(bridge.port) as peer:
        await peer.send(head + body)
        assert b"SUCCESS" in await answered(peer)
        assert len(at_once) == 1
        await peer.send((head + body) * 3)
        for _ in range(3):
            assert b"SUCCESS" in await answered(peer)
        assert len(at_once) == 2  # the last one


@pytest.mark.parametrize("line", ["Expect: 100-continue", "Connection: close", "Transfer-Encoding: chunked"])
async def test_post_that_needs_aiohttps_protocol_gets_it(bridge: Running, line: str) -> None:
    head, body = post()
    head = head.replace(b"Host: a", b"Host: a\r\n" + line.encode())
    if "chunked" in line:
        head, body = re.sub(rb"Content-Length: \d+\r\n", b"", head), b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with Peer(bridge.port) as peer:
        await peer.send(head + body)
        await peer.until(b"\r\n\r\n")
    (runner,) = bridge.server._runners
    assert runner.server
    assert runner.server.requests_count == 1


async def test_connection_that_is_idle_after_a_post_is_closed_by_the_keep_alive(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.1)
    bridge = await start()
    async with Peer(bridge.port) as peer:
        await peer.send(b"".join(post()))
        assert b"SUCCESS" in await answered(peer)
        assert await peer.rest() == b""
    assert not any(bridge.bridge.metrics.refusals.values())  # nothing is wrong


class Halt:
    """An asynchronous function that waits for `go_on` first."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, *args: Any) -> Any:
        self.begun.set()
        await self.go_on.wait()
        return await self._function(*args)


async def test_stop_waits_for_a_post_and_closes_its_connection(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Halt(bridge.bridge.broker.append)
    monkeypatch.setattr(bridge.bridge.broker, "append", append)
    async with Peer(bridge.port) as peer:
        await peer.send(b"".join(post()))
        await append.begun.wait()
        stopping = asyncio.create_task(bridge.server.stop())
        await until(lambda: bridge.server._direct[0].is_stopping)
        append.go_on.set()
        assert b"SUCCESS" in await answered(peer)
        assert await peer.rest() == b""
        await stopping


async def test_post_whose_connection_is_lost_is_stored(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    append = Halt(bridge.bridge.broker.append)
    monkeypatch.setattr(bridge.bridge.broker, "append", append)
    async with Peer(bridge.port) as peer:
        await peer.send(b"".join(post()))
        await append.begun.wait()
        peer.reset()
    await until(lambda: not len(bridge.bridge.connection_limit._members))
    append.go_on.set()
    await until(lambda: bridge.bridge.metrics.events["stored"] == 1)
