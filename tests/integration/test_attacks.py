"""Attacks of outsiders and of authenticated users, on raw sockets."""

import gc
import re

import pytest
from aiohttp import web

from tests.support.frames import CLOSE, GOOD, TEXT, Peer, WebSocketPeer, frame
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
VICTIM, SENDER = "203.0.113.9", "198.51.100.7"


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers)


@pytest.mark.parametrize("bad", ["Expect: x\r\n\r\n", f"X: {'x' * 33_000}\r\n\r\n"])
async def test_bad_request_with_two_forwarded_lines_counts_for_the_client_in_the_second(
    start: Start, logs: Logs, bad: str
) -> None:
    """A proxy may append its line after one that the client has forged (HAProxy's `option forwardfor`)."""
    bridge = await start(TRUSTED_PROXIES="127.0.0.1")
    async with Peer(bridge.port) as peer:
        await peer.send(HEALTH + f"X-Forwarded-For: {VICTIM}\r\nX-Forwarded-For: {SENDER}\r\n{bad}".encode())
        await peer.rest()
    assert (await logs.line("request.bad"))["peer"] == SENDER


async def test_malformed_pipelined_head_is_answered_after_the_request_before_it(bridge: Running) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send(HEALTH + b"\r\nGET /healthz HTTP/9.9\r\nHost: a\r\n\r\n")
        assert statuses(await peer.rest()) == [b"200", b"400"]


@pytest.mark.parametrize("target", ["/ws", "http://localhost/ws", "/%77s", "HTTP://a/w%73"])
async def test_handshake_in_any_spelling_keeps_no_headers(bridge: Running, target: str) -> None:
    text = GOOD.replace("/ws?", f"{target}?") + f"X-Junk: {'j' * 20_000}\r\n\r\n"
    async with Peer(bridge.port) as peer:
        assert (await peer.request(text))[0] == 101
        kept = [held for held in gc.get_objects() if issubclass(type(held), web.Request) and "X-Junk" in held.headers]
        assert not kept


async def test_body_behind_an_unknown_upgrade_arrives_in_pieces(bridge: Running) -> None:
    """Java's HttpClient offers h2c with its first request, whatever its body."""
    body = b'{"x":"' + b"y" * 60_000 + b'"}'
    head = b"POST /events/task-updates HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    async with Peer(bridge.port) as peer:
        await peer.send(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        await peer.until(b"100 Continue\r\n\r\n")  # the head is read
        await peer.send(body)
        assert statuses(await peer.rest()) == [b"200"]


@pytest.mark.parametrize(
    "rest",
    [
        b"X: y\nContent-Length: 50\r\n\r\n",
        b"\nGET /healthz HTTP/1.1\r\nHost: b\r\n\r\n",
        b"Content-Length : 5\r\n\r\nabcde",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX0\r\n\r\n",
        b"X: a\rContent-Length: 5\r\n\r\nabcde",
        b"X\x00: a\r\n\r\n",
    ],
)
async def test_head_that_two_parsers_could_read_differently_gets_one_answer(bridge: Running, rest: bytes) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send(HEALTH + rest + HEALTH + b"\r\n")
        assert statuses(await peer.rest()) == [b"400"]


@pytest.mark.parametrize("header", ["Authorization: Bearer \xff.\xff.\xff", "Origin: http://\xff", "User-Agent: \xff"])
async def test_header_that_is_not_utf8_causes_no_internal_error(start: Start, logs: Logs, header: str) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade(headers=f"{header}\r\n")
        code, _ = await peer.closed()
    assert code in (4401, 4503)
    assert "internal.error" not in logs.text


async def test_thousands_of_query_tokens_are_refused_as_one(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade(query="".join(f"&token={n}.y.z" for n in range(2_000)))
        assert (await peer.closed())[0] == 4401
    assert "internal.error" not in logs.text


async def test_frames_sent_with_the_handshake_are_answered_after_connected(bridge: Running) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.send(GOOD.encode() + b"\r\n" + frame(TEXT, b'{"type":"ping"}') + frame(CLOSE, b"\x03\xe8"))
        await peer.until(b"\r\n\r\n")
        assert (await peer.message())["type"] == "connected"
        assert (await peer.message())["type"] == "pong"
        assert (await peer.closed())[0] == 1000


@pytest.mark.parametrize(
    "stage", [b"", b"GET", HEALTH, HEALTH + b"Content-Length: 5\r\n\r\nab", GOOD.encode() + b"\r\n"]
)
async def test_half_close_at_any_stage_ends_the_connection(bridge: Running, stage: bytes) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send(stage)
        peer.sock.shutdown(1)
        await peer.rest()
    sockets = bridge.bridge.metrics.registry.get_sample_value
    await until(lambda: sockets("wsbridge_sockets") == 0)
