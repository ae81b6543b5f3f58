"""Faults of clients, sidecars and of the bridge itself, for one replica without Redis, on real sockets.

docs/reliability.md lists the faults. Those of replicas are in test_replicas.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import random
import signal
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.bugs import Buggy, Counted
from tests.support.bystander import Bystander
from tests.support.deliveries import bulk_bytes, enveloped
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    GOOD,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Peer,
    StalledReader,
    VanishedPeer,
    WebSocketPeer,
    frame,
)
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, receive, token, until, until_told
from tests.support.slow_peers import Dripping, SilentFromTheStart, SlowBody, SlowHeaders, SlowSecondHeaders
from tests.support.spawned import Spawn
from wsbridge import server
from wsbridge.broker.memory import MemoryBroker
from wsbridge.core.messages import read_message
from wsbridge.dapr import delivery
from wsbridge.dapr import handler as dapr
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.transports import base, inbox
from wsbridge.transports.client_frames import FrameReader
from wsbridge.transports.websocket import WebSocketConnection

pytestmark = pytest.mark.usefixtures("logs")


# Tokens and origins.


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


GARBLED = {
    "word": "nonsense",
    "three words": "a.b.c",
    "not ASCII": "\xff",
    "no UTF-8 inside": "\x80\xfe.\xff.\xff",
    "dots": "." * 500,
    "long": "x" * 7_000,
    "header that is a list": f"{encoded([])}.{encoded({})}.x",
    "header without alg": f"{encoded({})}.{encoded({})}.x",
    "alg that is a number": f"{encoded({'alg': 7})}.{encoded({})}.x",
    "kid that is a list": f"{encoded({'alg': 'HS256', 'kid': [1]})}.{encoded({})}.x",
    "deep header": "{}.{}.x".format(base64.urlsafe_b64encode(b"[" * 3_000).decode(), encoded({})),
}


@pytest.mark.parametrize("text", GARBLED.values(), ids=GARBLED)
async def test_garbled_token_is_refused(start: Start, logs: Logs, text: str) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    async with Bystander(bridge, token=token("bystander")), WebSocketPeer(bridge.port) as peer:
        await peer.upgrade(headers=f"Authorization: Bearer {text}\r\n")
        assert await peer.closed() == (4401, "token_invalid")
        assert await logs.line("auth.failed", code=4401, reason="token_invalid", user="u1")
    assert bridge.closes("4401") == bridge.bridge.metrics.errors["auth"] == 1
    assert text[:50].encode("latin-1").decode(errors="replace") not in logs.text


RSA = generate_private_key(65_537, 2_048)
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed_with_the_public_key() -> str:
    """A token of the algorithm confusion attack, which PyJWT refuses to make."""
    text = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded({'sub': 'u1', 'exp': time.time() + 60})}"
    mac = hmac.new(PEM.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def rsa(**claims: Any) -> Callable[[], str]:
    return lambda: token(key=RSA, algorithm="RS256", **claims)


FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: f"{encoded({'alg': 'none'})}.{encoded({'sub': 'u1', 'exp': time.time() + 60})}.",
    "HS256 with the public key": signed_with_the_public_key,
    "HS256 with another key": lambda: token(key=SECRET),
    "another key": lambda: token(key=generate_private_key(65_537, 2_048), algorithm="RS256"),
    "PS256 with another key": lambda: token(key=generate_private_key(65_537, 2_048), algorithm="PS256"),
    "unknown crit": lambda: jwt.encode(
        {"sub": "u1", "exp": time.time() + 60}, RSA, algorithm="RS256", headers={"crit": ["x"], "x": 1}
    ),
    "no exp": rsa(exp=None),
    "exp that is no number": rsa(exp="soon"),
    "exp that is infinite": rsa(exp=float("inf")),
    "exp that is not a number": rsa(exp=float("nan")),
    "not yet": rsa(nbf=int(time.time()) + 3_600),
    "no sub": rsa(sub=None),
    "empty sub": rsa(sub=""),
    "sub that is true": rsa(sub=True),
    "sub that is a list": rsa(sub=["u1"]),
    "cut": lambda: rsa()()[:-9],
    "changed": lambda: rsa()().replace(".", "x.", 1),
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_forged_or_incomplete_token_is_refused(start: Start, logs: Logs, forge: Callable[[], str]) -> None:
    bridge = await start(JWT_PUBLIC_KEY=PEM)
    async with Bystander(bridge, token=token("bystander", key=RSA, algorithm="RS256")):
        assert await closed(await bridge.connect("u1", token=forge())) == (4401, "token_invalid")
        assert await logs.line("auth.failed", code=4401, reason="token_invalid")
    assert bridge.bridge.metrics.errors["auth"] == 1


async def test_expired_token_is_refused(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    assert await closed(await bridge.connect("u1", token=token(ttl=-60))) == (4401, "token_expired")
    assert logs.of("auth.failed", code=4401, reason="token_expired")


async def test_token_with_a_far_expiry_is_accepted(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    _, hello = await bridge.opened("u1", token=token(exp=10**300))
    assert hello["expires_in_ms"] > 0


async def test_weak_secret_is_refused_at_start(spawn: Spawn) -> None:
    spawned = await spawn(JWT_SECRET="short")
    assert await spawned.code() != 0
    (line,) = spawned.errors.decode().splitlines()
    assert "WSBRIDGE_JWT_SECRET" in line
    assert "short" not in line
    assert "32 bytes" in line


@pytest.mark.parametrize("origin", ["https://example.com.evil.net", "https://evil.net", "null", "\xff", "x" * 5_000])
async def test_foreign_origin_is_refused(start: Start, logs: Logs, origin: str) -> None:
    bridge = await start(ALLOWED_ORIGINS="https://example.com")
    async with Bystander(bridge), WebSocketPeer(bridge.port) as peer:
        await peer.upgrade(headers=f"Origin: {origin}\r\n")
        assert await peer.frame() == (CLOSE, (4503).to_bytes(2, "big") + b"origin_forbidden")
        line = await logs.line("session.refused", code=4503, reason="origin_forbidden")
        assert "WSBRIDGE_ALLOWED_ORIGINS" in line["why"]
    assert bridge.closes("4503") == 1


# Handshakes.


def without(name: str, instead: str = "") -> str:
    """The handshake with one line replaced."""
    lines = UPGRADE.format(path="/ws?user_id=u1").split("\r\n")
    return (
        "\r\n".join(instead if line.startswith(name) else line for line in lines).replace("\r\n\r\n", "\r\n") + "\r\n"
    )


HANDSHAKES: dict[str, str] = {
    "no key": without("Sec-WebSocket-Key"),
    "bad key": without("Sec-WebSocket-Key", "Sec-WebSocket-Key: short"),
    "two keys": GOOD + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "no host": without("Host"),
    "two hosts": GOOD + "Host: other\r\n\r\n",
    "200 headers": GOOD + "".join(f"X-{n}: {n}\r\n" for n in range(200)) + "\r\n",
    "no colon": GOOD + "nonsense\r\n\r\n",
    "space in a name": GOOD + "X Y: z\r\n\r\n",
    "control character": GOOD + "X: \x00\r\n\r\n",
    "bare LF": GOOD + "X: a\nY: b\n\r\n\r\n",
    "HTTP/9.9": GOOD.replace("HTTP/1.1", "HTTP/9.9") + "\r\n",
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two lengths": GOOD + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "bad length": GOOD + "Content-Length: -1\r\n\r\n",
    "length and chunks": GOOD + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_malformed_handshake_is_answered_with_4xx(bridge: Running, logs: Logs, handshake: str) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        status, answer = await peer.request(handshake.encode("latin-1"))
        assert status == 400, answer
        assert "Traceback" not in answer
        await logs.line("request.bad", peer="127.0.0.1")
        assert len(logs.of("request.bad")) == 1
    assert bridge.bridge.metrics.errors["bad_request"] == 1


POST = "POST /events/task-updates HTTP/1.1\r\nHost: a\r\n"
BODIES_THAT_BREAK = {
    "bad chunk size": (f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n", b"zz\r\n"),
    "chunk that is too long": (f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}", b"xx\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize(("head", "rest"), BODIES_THAT_BREAK.values(), ids=BODIES_THAT_BREAK)
async def test_malformed_body_is_answered_with_400(bridge: Running, logs: Logs, head: str, rest: bytes) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        before = len(asyncio.all_tasks())
        await peer.send(head.encode())
        await until(lambda: len(asyncio.all_tasks()) > before)  # its handler reads the body
        status, _ = await peer.request(rest)
        assert status == 400
        await logs.line("request.bad", peer="127.0.0.1")
        assert len(logs.of("request.bad")) == bridge.bridge.metrics.errors["bad_request"] == 1


# Compressed bodies.


class CountingZlib:
    """Counts decompressed bytes anywhere in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        real = zlib.decompressobj

        def decompressobj(*args: Any, **named: Any) -> Any:
            self.made += 1
            return real(*args, **named)

        monkeypatch.setattr(zlib, "decompressobj", decompressobj)


def bomb() -> bytes:
    """100 MB of zeros in 100 kB."""
    squeeze = zlib.compressobj(wbits=31)
    return b"".join(squeeze.compress(bytes(1_000_000)) for _ in range(100)) + squeeze.flush()


@pytest.mark.fault("C1")
@pytest.mark.parametrize("route", ["/nope", "/events/task-updates", "/users/u1/disconnect", "/health", "/ws", "/sse"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "nope", "identity, gzip"])
async def test_compressed_body_is_refused_and_never_decompressed(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch, route: str, coding: str
) -> None:
    body = bomb() if coding == "gzip" else b"x" * 20
    zlibs = CountingZlib(monkeypatch)
    async with Bystander(bridge), Peer(bridge.port) as peer:
        head = f"POST {route} HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
        status, answer = await peer.request(head.encode() + body)
        assert status == 415
        assert "accept-encoding: identity" in answer.lower()
        assert logs.of("request.bad", error="the body is compressed (Content-Encoding)", peer="127.0.0.1")
    assert zlibs.made == 0
    assert bridge.bridge.metrics.errors["bad_request"] == 1


@pytest.mark.fault("C1")
async def test_body_in_the_identity_coding_is_read(bridge: Running) -> None:
    for coding in ("identity", "Identity", ""):
        answer = await bridge.post(enveloped(b'{"user_id":"u1"}'), **{"Content-Encoding": coding})
        assert answer == {"status": "SUCCESS"}


async def test_handshake_of_another_version_gets_the_supported_one(bridge: Running) -> None:
    async with Peer(bridge.port) as peer:
        status, answer = await peer.request(without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"))
        assert status == 426
        assert "sec-websocket-version: 13" in answer.lower()


# Frames.

FRAMES: dict[str, tuple[bytes, set[int]]] = {
    "17 kB": (frame(TEXT, b"x" * 17_000), {1009}),
    "17 kB in fragments": (
        frame(TEXT, b"x" * 9_000, final=False) + frame(CONTINUATION, b"x" * 9_000),
        {1009},
    ),
    "2 GB announced": (frame(TEXT, b"x" * 100, claims=2**31), {1009}),
    "2⁶³ announced": (frame(TEXT, b"x" * 100, claims=2**63), {1009, 1002}),
    "compressed, which nobody offered": (frame(TEXT, b"x" * 100, reserved=4), {1002}),
    "bad UTF-8": (frame(TEXT, b"\xc3\x28"), {1007}),
    "bad UTF-8 in fragments": (frame(TEXT, b"\xc3", final=False) + frame(CONTINUATION, b"\x28"), {1007}),
    "bad UTF-8 in a close": (frame(CLOSE, b"\x03\xe8\xff"), {1007}),
    "opcode 3": (frame(3), {1002}),
    "opcode 11": (frame(11), {1002}),
    "reserved bit 2": (frame(TEXT, b"x", reserved=2), {1002}),
    "reserved bit 3": (frame(TEXT, b"x", reserved=1), {1002}),
    "fragmented ping": (frame(PING, b"x", final=False), {1002}),
    "ping of 126 bytes": (frame(PING, b"x" * 126), {1002}),
    "continuation of nothing": (frame(CONTINUATION, b"x"), {1002}),
    "text within fragments": (frame(TEXT, b"x", final=False) + frame(TEXT, b"x"), {1002}),
    "close of one byte": (frame(CLOSE, b"x"), {1002}),
    "close with code 1005": (frame(CLOSE, (1005).to_bytes(2, "big")), {1002}),
    **{
        f"close with code {code}": (frame(CLOSE, code.to_bytes(2, "big")), {1002})
        for code in (0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
    "not masked": (b"\x81\x0f" + b'{"type":"ping"}', {1002}),
    "a close that is not masked": (b"\x88\x02\x03\xe8", {1002}),
    "binary": (frame(BINARY, b"x"), {1003}),
}


@pytest.mark.fault("C11")
@pytest.mark.parametrize(("data", "codes"), FRAMES.values(), ids=FRAMES)
async def test_invalid_frame_is_closed_with_its_code(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch, data: bytes, codes: set[int]
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.2)
    async with Bystander(bridge), WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened()
        await peer.send(data)
        code, _ = await peer.closed()
        assert code in codes
        await logs.line("session.closed", session=hello["session_id"], code=code)
    assert bridge.closes(str(code)) == 1


FLOODS: dict[str, bytes] = {
    "pings": frame(TEXT, b'{"type":"ping"}'),
    "protocol pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG),
    "empty fragments": frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 1_000,
    "bad messages": frame(TEXT, b"bad"),
}


@pytest.mark.fault("C7")
@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_flood_of_any_frames_is_closed_with_policy(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.2)
    taken = Counted(FrameReader.take)
    monkeypatch.setattr(FrameReader, "take", taken)
    async with Bystander(bridge), WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened()
        flood = asyncio.create_task(peer.send((data * 20_000)[:2_000_000]))
        assert (await peer.closed())[0] in (1008, 1006)  # unread bytes make the kernel reset the connection
        line = await logs.line("session.closed", session=hello["session_id"], code=1008, reason="policy")
        assert line["received"] <= inbox.FRAMES_PER_SECOND
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    assert taken.calls < 3 * inbox.FRAMES_PER_SECOND  # of some 300,000 empty ones


@pytest.mark.fault("C7")
async def test_few_frames_over_the_rate_are_read_in_the_next_second(bridge: Running) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        started = time.monotonic()
        await peer.send(frame(PING, b"x") * (inbox.FRAMES_PER_SECOND + 20) + frame(TEXT, b'{"type":"ping"}'))
        for _ in range(inbox.FRAMES_PER_SECOND + 20):
            assert await peer.frame() == (PONG, b"x")
        assert await peer.message() == {"type": "pong"}
        assert time.monotonic() - started > 0.5


@pytest.mark.fault("C7")
async def test_flood_after_the_servers_close_is_cut_before_its_time_out(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 3_600.0)
    taken = Counted(FrameReader.take)
    monkeypatch.setattr(FrameReader, "take", taken)
    async with Bystander(bridge), WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened()
        await peer.send_frame(BINARY, b"x")
        assert await peer.closed() == (1003, "binary")
        flood = asyncio.create_task(peer.send(frame(CONTINUATION + PING) * 300_000))
        await logs.line("session.closed", session=hello["session_id"], code=1003)
        assert bridge.bridge.registry.of("u1") == []
        await asyncio.gather(flood, return_exceptions=True)
    assert taken.calls < 3 * inbox.FRAMES_PER_SECOND


@pytest.mark.fault("C7")
async def test_flood_after_a_protocol_error_is_cut_unread(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 3_600.0)
    async with Bystander(bridge), WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened()
        await peer.send_frame(3)
        assert (await peer.closed())[0] == 1002
        flood = asyncio.create_task(peer.send(b"x" * 100_000_000))
        await logs.line("session.closed", session=hello["session_id"], code=1002)
        await asyncio.gather(flood, return_exceptions=True)


@pytest.mark.fault("C7")
async def test_frames_sent_byte_by_byte_over_the_rate_wait_for_the_next_second(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "READS_PER_SECOND", 3)
    fed = Counted(inbox.Inbox.data_received)
    monkeypatch.setattr(inbox.Inbox, "data_received", fed)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        started = time.monotonic()
        data = frame(TEXT, b'{"type":"ping"}')
        for n in range(3):
            await peer.send(data[n : n + 1])
            await until(lambda n=n: fed.calls > n)  # type: ignore[misc]  # the default binds it
        await peer.send(data[3:])
        assert await peer.message() == {"type": "pong"}
        assert fed.calls == 4
        assert time.monotonic() - started > 0.5


@pytest.mark.fault("C8")
@pytest.mark.parametrize("leave", [Peer.reset, lambda peer: peer.sock.close()], ids=["reset", "fin"])
async def test_lost_connection_with_unread_messages_leaves_the_limits_at_once(
    bridge: Running, logs: Logs, leave: Callable[[Peer], None]
) -> None:
    async with Bystander(bridge):
        peers = [WebSocketPeer(bridge.port) for _ in range(20)]
        for peer in peers:
            await peer.__aenter__()
            await peer.opened()
            await peer.send(frame(TEXT, b'{"type":"ping"}') * 2_000)  # twenty seconds of them, at a hundred a second
        begun = time.monotonic()
        for peer in peers:
            leave(peer)
        await until(lambda: not bridge.bridge.registry.of("u1"))
        assert time.monotonic() - begun < 5
        _, hello = await bridge.opened("u1")  # and the limit of connections of one user has room again
        assert hello["type"] == "connected"


@pytest.mark.fault("C8")
async def test_connection_lost_during_its_admission_leaves_the_limits(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    real = bridge.bridge.broker.resume

    async def slow(user: str, after: str | None, **how: Any) -> Any:
        if user == "u1":
            await gate.wait()
        return await real(user, after, **how)

    monkeypatch.setattr(bridge.bridge.broker, "resume", slow)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade()
        await until(lambda: bridge.bridge.registry.of("u1"))
        peer.reset()
        await bridge.opened("other")  # by now the reset is read
        gate.set()
        await logs.line("session.closed", user="u1", code=1006)
    assert bridge.bridge.registry.of("u1") == []


async def test_peer_that_pings_and_never_reads_is_a_slow_consumer(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "FRAMES_PER_SECOND", 10**9)
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.2)
    bridge = await start(MAX_BACKLOG_BYTES="10000")
    async with Bystander(bridge), StalledReader(bridge.port) as peer:
        hello = await peer.opened()
        flood = asyncio.create_task(peer.send(frame(PING, b"x" * 125) * 50_000))
        await logs.line("session.closed", session=hello["session_id"], code=4408, reason="slow_consumer")
        await asyncio.gather(flood, return_exceptions=True)


# Peers that stall, vanish, disconnect in the middle, or are slow.


def footprint() -> tuple[int, int]:
    """Number of tasks and descriptors of this process."""
    return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))


async def test_stalled_reader_is_closed_and_freed(start: Start, logs: Logs) -> None:
    bridge = await start(MAX_BACKLOG_BYTES="1000000")
    await bridge.publish({"user_id": "nobody"})
    before = footprint()
    async with StalledReader(bridge.port) as peer:
        async with Bystander(bridge):
            hello = await peer.opened("stalled")
            (session,) = bridge.bridge.registry.of("stalled")
            while session.state is State.LIVE:
                if session.unsent() <= 1_000_000:
                    over = time.monotonic()
                    assert await bridge.publish({"user_id": "stalled", "padding": "x" * 100_000}) == "SUCCESS"
                assert session.messages_sent < 200
                await asyncio.sleep(0)
            line = await logs.line("session.closed", session=hello["session_id"], code=4408, reason="slow_consumer")
            assert line["by"] == "server"
            assert session.unsent() == 0
            assert len(bridge.bridge.slow_consumers) == bridge.bridge.slow_consumers.bytes == 0
            assert time.monotonic() - over < 2 + 2  # and some patience on a busy machine
        await bridge.hang_up()
        await until(lambda: footprint() <= (before[0], before[1] + 1))  # the test's own socket is still open
    assert bridge.closes("4408") == 1


@pytest.mark.fault("D4")
async def test_fast_reader_of_a_large_bulk_stays_connected(bridge: Running) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        events = [enveloped(b'{"user_id":"u1","n":%d,"padding":"%b"}' % (n, b"x" * 100_000)) for n in range(100)]
        answer = await bridge.post(bulk_bytes(*events), "application/json")
        assert {entry["status"] for entry in answer["statuses"]} == {"SUCCESS"}
        assert [(await peer.message())["event"]["n"] for _ in range(100)] == list(range(100))
        await peer.send_frame(TEXT, b'{"type":"ping"}')
        assert await peer.message() == {"type": "pong"}
    assert bridge.closes("4408") == 0


@pytest.mark.fault("C5")
async def test_unread_sockets_share_frames_and_the_slowest_are_closed(start: Start, logs: Logs) -> None:
    bridge = await start(MAX_BACKLOG_BYTES="100000000", MAX_UNSENT_BYTES="8000000")
    slow_consumers = bridge.bridge.slow_consumers
    async with Bystander(bridge), contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            peer = await stack.enter_async_context(StalledReader(bridge.port))
            await peer.opened("stalled")
        sent = 0
        while not logs.of("session.closed", code=4408) and sent < 200:
            assert await bridge.publish({"user_id": "stalled", "padding": "x" * 200_000}) == "SUCCESS"
            sent += 1
            begun = 10 * 200_500  # of a frame that is sent in pieces, each socket has its own
            assert slow_consumers.bytes < 200_500 * sent + begun + 10 * 100_000  # and not ten times as many
        await logs.line("session.closed", code=4408, reason="slow_consumer", user="stalled")
        await until(lambda: slow_consumers.bytes <= 8_000_000)
        assert bridge.bridge.registry.of("bystander")
    assert not logs.of("session.closed", code=4408, user="bystander")


@contextlib.contextmanager
def held_admission(bridge: Running, monkeypatch: pytest.MonkeyPatch, user: str) -> Iterator[asyncio.Event]:
    """The user's history cannot be read before the event is set."""
    gate, real = asyncio.Event(), bridge.bridge.broker.resume

    async def resume(asked: str, after: str | None, **how: Any) -> Any:
        if asked == user:
            await gate.wait()
        return await real(asked, after, **how)

    with monkeypatch.context() as patched:
        patched.setattr(bridge.bridge.broker, "resume", resume)
        yield gate


@pytest.mark.fault("E9")
@pytest.mark.parametrize("path", ["/ws", "/sse"])
@pytest.mark.parametrize("how", ["operator", "drain"])
async def test_session_ended_during_its_admission_gets_its_messages_in_order(
    start: Start, monkeypatch: pytest.MonkeyPatch, path: str, how: str
) -> None:
    bridge = await start(DRAIN_TIMEOUT="0.3")
    with held_admission(bridge, monkeypatch, "u1") as gate:
        async with Peer(bridge.port) as peer:
            head = UPGRADE.format(path=path + "?user_id=u1")
            await peer.send((head if path == "/ws" else head.replace("Upgrade", "X-None")).encode() + b"\r\n")
            await until(lambda: bridge.bridge.registry.of("u1"))
            leaving = None
            if how == "operator":
                bridge.bridge.bus.disconnect("u1")
            else:
                leaving = asyncio.create_task(bridge.bridge.drain())
                await until(lambda: bridge.bridge.admission.draining)
            gate.set()
            answer = await peer.rest()
            if leaving is not None:
                await leaving
    assert answer.startswith(b"HTTP/1.1 101" if path == "/ws" else b"HTTP/1.1 200")
    code = b"4509" if how == "operator" else b"1012"
    places = [answer.find(b'"type":"connected"'), answer.find(b'"type":"goodbye","code":' + code)]
    assert 0 < places[0] < places[1]
    if path == "/ws":
        assert answer.find(int(code).to_bytes(2, "big"), places[1]) > places[1]


@pytest.mark.parametrize("padding", [0, 5_000_000], ids=["idle", "with a full buffer"])
async def test_vanished_peer_is_dropped(start: Start, logs: Logs, padding: int) -> None:
    settings = {"MAX_EVENT_BYTES": "9000000", "MAX_BACKLOG_BYTES": "90000000"}
    bridge = await start(PING_INTERVAL="0.5", PING_TIMEOUT="1", **settings)
    await bridge.publish({"user_id": "nobody"})
    before = footprint()
    async with VanishedPeer(bridge.port) as peer:
        async with Bystander(bridge):
            hello = await peer.opened("vanished")
            await bridge.publish({"user_id": "vanished", "padding": "x" * padding})
            line = await logs.line("session.closed", session=hello["session_id"], reason="ping_timeout")
            assert line["code"] == 1006
            assert 1.5 <= line["seconds"] < 1.5 + 3
            assert bridge.bridge.registry.of("vanished") == []
        await bridge.hang_up()
        await until(lambda: footprint() <= (before[0], before[1] + 1))
    assert bridge.closes("1006") == 1


@pytest.mark.fault("D9")
async def test_pause_of_the_bridge_closes_no_connection(spawn: Spawn) -> None:
    bridge = await spawn(PING_INTERVAL="0.5", PING_TIMEOUT="1")
    sockets = [(await bridge.opened())[0] for _ in range(10)]
    readers = [asyncio.create_task(receive(ws)) for ws in sockets]  # reading also answers pings
    bridge.process.send_signal(signal.SIGSTOP)
    try:
        paused = time.monotonic()
        await until(lambda: time.monotonic() > paused + 4)
    finally:
        bridge.process.send_signal(signal.SIGCONT)
    resumed = time.monotonic()
    await until(lambda: time.monotonic() > resumed + 1)  # it has looked at every session
    assert not bridge.of("session.closed")
    await bridge.publish({"user_id": "u1", "n": 1})
    assert [message["event"]["n"] for message in await asyncio.gather(*readers)] == [1] * 10


async def test_peer_that_answers_pings_stays_connected(start: Start) -> None:
    bridge = await start(PING_INTERVAL="0.1", PING_TIMEOUT="0.1")
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        for _ in range(10):  # 0.75 s at least
            assert await peer.frame() == (PING, b"")
            await peer.send_frame(PONG)
        await bridge.publish({"user_id": "u1"})
        assert (await peer.message())["type"] == "task_update"


async def test_thousand_broken_connections_at_once_are_freed(spawn: Spawn) -> None:
    asyncio.get_running_loop().set_debug(False)
    bridge = await spawn(MAX_CONNECTIONS_PER_USER="0")
    ws, _ = await bridge.opened("bystander")
    peers = [WebSocketPeer(bridge.port) for _ in range(1_000)]

    async def join(peer: WebSocketPeer) -> None:
        await peer.__aenter__()
        await peer.opened()

    for some in range(0, 1_000, 100):
        await asyncio.gather(*(join(peer) for peer in peers[some : some + 100]))
    assert (await bridge.get("/stats"))[1]["total_connections"] == 1_001
    for n, peer in enumerate(peers):
        peer.reset() if n % 2 else peer.sock.close()

    async def cleaned() -> bool:
        return bool((await bridge.get("/stats"))[1]["total_connections"] == 1)

    await until_told(cleaned)
    await until(lambda: len(bridge.of("session.closed")) == 1_000)
    assert {line["code"] for line in bridge.of("session.closed")} == {1006}
    await bridge.publish({"user_id": "bystander"})
    assert (await receive(ws))["type"] == "task_update"
    assert not bridge.of("internal.error")


@contextlib.asynccontextmanager
async def stalled_in_its_replay(bridge: Running) -> AsyncIterator[tuple[StalledReader, str]]:
    """A reader in the middle of a replay that is larger than the kernel's buffers, and the id of its session."""
    for _ in range(50):
        assert await bridge.publish({"user_id": "u1", "padding": "x" * 200_000}) == "SUCCESS"
    epoch = (await bridge.bridge.broker.resume("u1", None)).position.epoch
    async with StalledReader(bridge.port) as peer:  # only now, because the deadline for headers starts here
        hello = await peer.opened(query=f"&last_event_id={epoch}:0")
        (session,) = bridge.bridge.registry.of("u1")
        await until(lambda: session.connection.unsent() > 0)
        assert session.state is State.REPLAYING
        yield peer, hello["session_id"]


async def test_connection_broken_during_its_replay_is_freed(bridge: Running, logs: Logs) -> None:
    async with Bystander(bridge), stalled_in_its_replay(bridge) as (peer, session):
        peer.reset()
        await logs.line("session.closed", session=session, code=1006)
        assert bridge.bridge.registry.of("u1") == []


async def test_reader_stalled_during_its_replay_is_closed(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.sessions.slow_consumers.REPLAY_PATIENCE", 1.0)
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.2)
    async with Bystander(bridge), stalled_in_its_replay(bridge) as (_, session):
        await logs.line("session.closed", session=session, code=4408, reason="slow_consumer")


async def test_delivery_that_breaks_off_does_not_affect_others(bridge: Running, logs: Logs) -> None:
    async with Bystander(bridge):
        for leave in (Peer.reset, lambda peer: peer.sock.close()):
            async with Peer(bridge.port) as peer:
                await peer.send(SlowBody.start + b'{"user_id":')
                await until(lambda: len(asyncio.all_tasks()))
                leave(peer)
    assert not logs.of("event.dropped")


@pytest.mark.parametrize("fault", [SlowHeaders, SlowSecondHeaders, SilentFromTheStart, SlowBody])
async def test_slow_request_is_cut(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch, fault: type[Dripping]
) -> None:
    assert max(server.HEADER_TIMEOUT, dapr.BODY_TIMEOUT + server.LINGER) <= 12
    monkeypatch.setattr(server, "KEEP_ALIVE", 1.0)
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 1.0)  # long enough for the bystander's requests on a busy machine
    monkeypatch.setattr(dapr, "BODY_TIMEOUT", 1.0)
    monkeypatch.setattr(server, "LINGER", 1.0)  # time to read the response, which a reset would discard
    bridge = await start()
    async with Bystander(bridge), fault(bridge.port) as peer:
        answer = await peer.drip()
        if fault is SlowBody:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"application/problem+json" in answer
            await logs.line("request.timeout", path="/events/task-updates", peer="127.0.0.1")
            assert bridge.bridge.metrics.errors["timeout"] == 1
            assert bridge.bridge.metrics.retries["body_timeout"] == 1  # a sidecar treats 408 as RETRY
        else:
            assert answer.startswith(b"HTTP/1.1 200 OK" if fault is SlowSecondHeaders else b"")
            assert not logs.of("http.request", path="/health")


# Limits.


async def test_connection_over_the_users_limit_is_closed(bridge: Running, logs: Logs) -> None:
    async with Bystander(bridge):
        for _ in range(20):
            await bridge.opened()
        assert await closed(await bridge.connect()) == (4429, "too_many_connections")
        await logs.line("session.refused", code=4429, reason="too_many_connections", user="u1")
    assert bridge.closes("4429") == 1


async def test_connection_over_the_servers_limit_is_closed(start: Start, logs: Logs) -> None:
    bridge = await start(MAX_CONNECTIONS="2")
    async with Bystander(bridge):
        await bridge.opened()
        assert await closed(await bridge.connect("u2")) == (1013, "overloaded")
        await logs.line("session.refused", code=1013, reason="overloaded", user="u2")
    assert bridge.closes("1013") == 1


# Bugs of the bridge.


async def test_bug_while_a_message_is_read_closes_its_connection_only(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected = {"internal.error"}
    monkeypatch.setattr("wsbridge.transports.client_messages.read_message", Buggy(read_message))
    async with Bystander(bridge):
        ws, hello = await bridge.opened()
        await ws.send_str('{"type":"ping"}')
        assert await closed(ws) == (1011, "internal")
        line = await logs.line("internal.error", doing="client_frame", session=hello["session_id"])
        assert "Bug" in line["exception"]
        await logs.line("session.closed", session=hello["session_id"], code=1011)
    assert bridge.bridge.metrics.errors["internal"] == 1


async def test_bug_while_a_session_opens_closes_its_connection_only(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected = {"internal.error"}
    real = bridge.bridge.broker.resume
    monkeypatch.setattr(bridge.bridge.broker, "resume", Buggy(real, lambda user, *_: user == "unlucky"))
    async with Bystander(bridge):
        assert await closed(await bridge.connect("unlucky")) == (1011, "internal")
        await logs.line("internal.error", doing="admit")
        async with bridge.http.get(f"{bridge.url}/sse?user_id=unlucky") as response:
            assert response.status == 200  # an `EventSource` does not try again after any other status
            text = await response.text()
            assert text.startswith("retry: 30000\nevent: goodbye\n")
            assert '"code":1011,' in text
        assert bridge.bridge.registry.of("unlucky") == []


UNLUCKY: dict[str, tuple[Any, Callable[..., bool]]] = {
    "update": (WebSocketConnection, lambda _, entry: b"unlucky" in entry.data),
    "deliver": (Session, lambda session, _: session.user == "u1"),
}


@pytest.mark.parametrize("part", UNLUCKY)
async def test_bug_in_the_broadcaster_loses_no_event(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The broadcaster continues.

    A session that missed an event gets it from the history, at once or after a reconnect.
    """
    logs.expected = {"internal.error"}
    owner, unlucky = UNLUCKY[part]
    async with Bystander(bridge):
        ws, hello = await bridge.opened()
        monkeypatch.setattr(owner, part, Buggy(getattr(owner, part), unlucky))
        assert await bridge.publish({"user_id": "u1", "title": "unlucky"}) == "SUCCESS"
        await logs.line("internal.error")
        monkeypatch.undo()
        assert await bridge.publish({"user_id": "u1", "title": "next"}) == "SUCCESS"
        if part != "update":
            assert (await closed(ws))[0] == 1006
            ws, _ = await bridge.opened(last_event_id=hello["last_event_id"])
        assert [(await receive(ws))["event"]["title"] for _ in range(2)] == ["unlucky", "next"]


async def test_batch_lost_by_a_bug_is_read_from_the_history(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected = {"internal.error"}
    ws, _ = await bridge.opened()
    monkeypatch.setattr(Registry, "of", Buggy(Registry.of))
    assert await bridge.publish({"user_id": "u1", "n": 1}) == "SUCCESS"
    await logs.line("internal.error", doing="broadcast")
    monkeypatch.undo()
    assert await bridge.publish({"user_id": "u1", "n": 2}) == "SUCCESS"
    assert [(await receive(ws))["event"]["n"] for _ in range(2)] == [1, 2]
    line = await logs.line("session.mended", user="u1", replayed=2, gap=None)
    assert bridge.bridge.metrics.catch_ups == 1, line


async def test_bug_in_a_route_is_a_500_without_its_traceback(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected = {"internal.error"}
    monkeypatch.setattr(bridge.bridge.registry, "users", Buggy(bridge.bridge.registry.users))
    async with bridge.http.get(f"{bridge.url}/stats") as response:
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "Traceback" not in await response.text()
    assert "Bug" in logs.of("internal.error", doing="GET /stats")[0]["exception"]


# Events.

BAD_DATA: dict[str, tuple[bytes, str]] = {
    "trailing comma": (b'{"user_id":"u1",}', "not_json"),
    "word": (b"nope", "not_json"),
    "single quotes": (b"{'user_id':'u1'}", "not_json"),
    "array": (b'[{"user_id":"u1"}]', "not_an_object"),
    "null": (b"null", "no_data"),
    "number": (b"7", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "string": (b'"nope"', "not_json"),
    "string of an array": (b'"[1]"', "not_an_object"),
    "empty string": (b'""', "not_json"),
    "depth bomb": (b'{"user_id":"u1","deep":' + b"[" * 2_000 + b"]" * 2_000 + b"}", "not_json"),
    "deeper bomb": (b'{"user_id":"u1","deep":' + b'{"a":' * 90_000 + b"1" + b"}" * 90_001, "not_json"),
    "NaN": (b'{"user_id":"u1","n":NaN}', "not_json"),
    "Infinity": (b'{"user_id":"u1","n":-Infinity}', "not_json"),
    "bad UTF-8": (b'{"user_id":"u1","title":"\xff\xfe"}', "bad_utf8"),
    "overlong UTF-8": (b'{"user_id":"u1","title":"\xc0\xaf"}', "bad_utf8"),
    "encoded surrogate": (b'{"user_id":"u1","title":"\xed\xa0\x80"}', "bad_utf8"),
    "lone surrogate": (b'{"user_id":"u1","title":"\\ud800"}', "not_json"),
    "lone surrogate in a name": (b'{"user_id":"u1","\\udc00":1}', "not_json"),
    "raw newline in a string": (b'{"user_id":"u1","title":"a\nb"}', "not_json"),
    "no user": (b'{"title":"x"}', "no_user"),
    "null as user": (b'{"user_id":null}', "no_user"),
    "empty user": (b'{"user_id":""}', "no_user"),
    "no users": (b'{"user_id":[]}', "no_user"),
    "true as user": (b'{"user_id":true}', "bad_user"),
    "fraction as user": (b'{"user_id":1.5}', "bad_user"),
    "object as user": (b'{"user_id":{"id":"u1"}}', "bad_user"),
    "empty user in a list": (b'{"user_id":["u1",""]}', "bad_user"),
    "null in a list": (b'{"user_id":["u1",null]}', "bad_user"),
    "list in a list": (b'{"user_id":[["u1"]]}', "bad_user"),
    "long user": (b'{"user_id":"' + b"x" * 257 + b'"}', "bad_user"),
    "10 kB user": (b'{"user_id":"' + b"x" * 10_000 + b'"}', "bad_user"),
    "2 MiB": (b'{"user_id":"u1","padding":"' + b"x" * 2**21 + b'"}', "too_large"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_DATA.values(), ids=BAD_DATA)
async def test_event_that_can_never_be_accepted_is_dropped(
    bridge: Running, logs: Logs, data: bytes, reason: str
) -> None:
    async with Bystander(bridge):
        ws, _ = await bridge.opened()
        assert await bridge.post(enveloped(data, id="single")) == {"status": "DROP", "reason": reason}
        good = [b'{"user_id":"u1","n":%d}' % n for n in range(2)]
        bulk = bulk_bytes(enveloped(good[0]), enveloped(data, id="in bulk"), enveloped(good[1]))
        assert await bridge.post(bulk, "application/json") == {
            "statuses": [
                {"entryId": "0", "status": "SUCCESS"},
                {"entryId": "1", "status": "DROP", "reason": reason},
                {"entryId": "2", "status": "SUCCESS"},
            ]
        }
        assert [(await receive(ws))["event"]["n"] for _ in range(2)] == [0, 1]
        lines = logs.of("event.dropped", topic="task-updates")
        assert [line["reason"] for line in lines] == [reason, reason]
        assert all(line["why"] for line in lines)
    assert bridge.bridge.metrics.events["dropped"] == 2


BAD_BODIES = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"7",
    b"\xff",
    b"{",
    b'{"specversion":"1.0"}',
    b"\0" * 100,
    b"[" * 10**6,
]
BAD_BULKS = [
    b'{"entries":[]}',
    b'{"type":"com.dapr.event.sent.bulk"}',
    b'{"type":"com.dapr.event.sent.bulk","entries":7}',
    b'{"type":"com.dapr.event.sent.bulk","entries":[',
    b'{"type":"com.dapr.event.sent.bulk","entries":[7,null,{},[]]}',
    b'{"type":"com.dapr.event.sent.bulk","entries":[{"entryId":7,"event":{}}]}',
    b'{"type":"com.dapr.event.sent.bulk","entries":[{"entryId":"\\ud800"}]}',
    b'{"type":"com.dapr.event.sent.bulk","entries":[{"entryId":"a"},{"entryId":"b","event":"?","contentType":7}]}',
]


@pytest.mark.parametrize("content_type", ["application/json", "application/cloudevents+json"])
@pytest.mark.parametrize("body", BAD_BODIES + BAD_BULKS, ids=lambda body: repr(body[:40]))
async def test_body_that_can_never_be_read_is_dropped(
    bridge: Running, logs: Logs, body: bytes, content_type: str
) -> None:
    answer = await bridge.post(body, content_type)
    assert answer.get("status") == "DROP" or all(entry["status"] == "DROP" for entry in answer["statuses"])
    assert "statuses" in answer or logs.of("event.dropped")


@pytest.mark.parametrize("part", ["append", "open_message"])
async def test_unexpected_exception_during_a_delivery_is_a_retry(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    logs.expected = {"internal.error"}
    bridge = await start()
    async with Bystander(bridge):
        owner: Any = MemoryBroker if part == "append" else delivery
        monkeypatch.setattr(owner, part, Buggy(getattr(owner, part), lambda *args: "unlucky" in repr(args)))
        single = enveloped(b'{"user_id":"u1","title":"unlucky"}')
        assert await bridge.post(single) == {"status": "RETRY", "reason": "internal"}
        await logs.line("event.retried", topic="task-updates", why="internal")
        bulk = await bridge.post(bulk_bytes(single, enveloped(b'{"user_id":"u2"}')), "application/json")
        assert {answer["status"] for answer in bulk.get("statuses", [bulk])} <= {"RETRY", "SUCCESS"}
        monkeypatch.undo()
        assert await bridge.post(single) == {"status": "SUCCESS"}
    assert bridge.bridge.metrics.events["retried"] >= 2


# Hostile text.

HOSTILE = [
    "a\nb\r\nc",
    "\x1b[31mred\x1b[0m",
    "</script><script>alert(1)</script>",
    "😀" * 50,
    "\u2028\u202e\ufeff",
    "\0",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_hostile_text_stays_text(bridge: Running, logs: Logs, text: str) -> None:
    async with Bystander(bridge):
        ws, hello = await bridge.opened(text, last_event_id=text)
        assert hello["user_id"] == text
        assert (await receive(ws))["type"] == "gap"
        data = {"user_id": text, "title": text + "x" * 10_000}
        assert await bridge.publish(data, id=text, source=text) == "SUCCESS"
        assert await bridge.publish(data, id=text, source=text) == "SUCCESS"
        assert (await receive(ws))["event"] == data
        assert logs.of("event.received", event_id=text)
        await ws.close(code=3000, message=text.encode()[:100])
        await logs.line("session.closed", user=text)
    assert "\x1b" not in logs.text
    assert all(line.isprintable() or "\u2028" in text for line in logs.text.rstrip("\n").split("\n"))


async def test_hostile_headers_do_not_break_the_operators_routes(bridge: Running, logs: Logs) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened(headers="User-Agent: \xff\xfe\r\nX-Forwarded-For: \xff\r\n")
        status, found = await bridge.get("/users/u1")
        assert status == 200
        assert found["sessions"][0]["session_id"] == hello["session_id"]
    await logs.line("session.closed", session=hello["session_id"])


async def test_request_without_host_does_not_call_the_resolver(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", Buggy(socket.getfqdn))
    async with Peer(bridge.port) as peer:
        assert (await peer.request("GET /stats HTTP/1.0\r\nOrigin: http://a\r\n\r\n"))[0] == 403


# No untrusted input causes a traceback or a 500.

SEED = 20261123
VERSIONS = ["1.1"] * 12 + ["1.0"] * 4 + ["2.0", "1.2", "0.9", "11", ""]
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "get", ""]
PATHS = [
    "/ws", "/events/task-updates", "/events/%ff", "/events/", "/events/a%00b", "/dapr/subscribe", "/stats", "/users/u1",
    "/user", "/user/events", "/user/disconnect", "/console/payload", "/events/other",
    "/users/%ff", "/users/u1/disconnect", "/metrics", "/health", "/healthz", "/", "/sse", "/client.js", "/static/x",
    "//", "/%", "/..%2f..%2fetc/passwd", "*", "http://evil.net/ws", "/ws#x", "\xff", "/\u00fc", "evil.net:443", "?",
]  # fmt: skip
QUERIES = [
    "", "?user_id=u1", "?user_id=%ff", "?user_id=%00", "?user_id=%ED%A0%80", "?user_id", "?user_id=a&user_id=b", "?%",
    "?user_id=u1&event_id=%00", "?user_id=%ff&session_id=%ED%A0%80",
    "?user_id=u1&token=%ff", "?user_id=u1&last_event_id=%ff:1", "?" + "a=b&" * 500, "?user_id=\xff", "?=&=&=",
]  # fmt: skip
FIELDS = [
    "Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade", "Connection: close", "Connection: \xff",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: \xff",
    "Sec-WebSocket-Protocol: wsbridge.v1, bearer.\xff", "Sec-WebSocket-Protocol: ,,,",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99", "Authorization: Bearer \xff",
    "Authorization: \xff", "Cookie: \xff=\xff; =; ;", "Origin: \xff", "Origin: http://[", "Origin: http://a:b:c",
    "Host: \xff", "Host: a:b:c", "Content-Type: \xff", "Content-Type: application/json; charset=nope",
    "Content-Type: application/json", "Content-Type: multipart/form-data", "Content-Encoding: gzip",
    "Content-Encoding: br", "Content-Encoding: nope", "Expect: 100-continue", "Expect: nope", "Expect: \xff",
    "Transfer-Encoding: \xff", "Transfer-Encoding: gzip, chunked", "Content-Length: \xff", "Upgrade: \xff", "TE: \xff",
    "Content-Length: 5, 5", "Content-Length: +5", "Host: [", "Connection: keep-alive, Upgrade, \xff",
    "X-Forwarded-For: \xff",
    "User-Agent: \xff", "Accept: \xff", "Accept: application/openmetrics-text; version=\xff", "Range: bytes=0-",
    "Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: 99999999999999999999", "If-Match: \xff",
    "__partition: \xff", "__offset: \xff", "__key: \xff", "dapr-api-token: \xff", "Accept-Encoding: \xff",
]  # fmt: skip
BODIES = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"\xff" * 50, b'{"user_id":"u1"}', b"\x1f\x8b\x08" * 20]


CRAFTED = [
    "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /sse?user_id=u1 HTTP/2.0\r\nHost: a\r\n\r\n",
    *(f"{line} HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\n\r\n" for line in ("GET /healthz", "GET /nope", "POST /ws")),
    "GET /ws?user_id=u1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: \xff\r\n\r\n",
    "GET /sse?user_id=u1 HTTP/1.1\r\nHost: a\r\nOrigin: \xff\r\n\r\n",
    "GET /sse?user_id=u1 HTTP/1.0\r\nLast-Event-ID: \xff\r\n\r\n",
    "OPTIONS /sse HTTP/1.1\r\nHost: a\r\nOrigin: \xff\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    "GET /users/u1 HTTP/1.0\r\nOrigin: http://a\r\n\r\n",
    "POST /events/task-updates HTTP/1.1\r\n__partition: \xff\r\n__offset: 1\r\nContent-Length: 2\r\nHost: a\r\n\r\n{}",
    "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text; version=1.0.0; escaping=\xff\r\n\r\n",
    "GET /users/%ED%A0%80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /user?user_id=%ED%A0%80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /user/events?user_id=%00&event_id=\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /user/disconnect?user_id=u1&session_id=%ED%A0%80 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /events/%ED%A0%80\xff HTTP/1.1\r\nHost: a\r\nce_id: \xff\r\nContent-Length: 1\r\n\r\n\xff",
    "GET /ws?user_id=%ED%A0%80 HTTP/1.1\r\nHost: a\r\n\r\n",
    GOOD.replace("u1", "%ED%A0%80") + "\r\n",
    GOOD.replace("u1", "%FF") + "\r\n",
]


def requests(dice: random.Random, count: int) -> Iterator[bytes]:
    """Half are made of odd parts; half are valid handshakes and deliveries with a few changed bytes."""
    delivery = SlowBody.start.replace(b"100000", b"16") + b'{"user_id":"u1"}'
    for n in range(count):
        if n % 2:
            fields = dice.sample(FIELDS, dice.randrange(8))
            host = [] if dice.random() < 0.1 else ["Host: localhost"]
            line = f"{dice.choice(METHODS)} {dice.choice(PATHS)}{dice.choice(QUERIES)} HTTP/{dice.choice(VERSIONS)}"
            yield "\r\n".join([line, *host, *fields, "", ""]).encode("latin-1") + dice.choice(BODIES)
        else:
            mutated = bytearray(dice.choice([GOOD.encode() + b"\r\n", delivery]))
            for _ in range(dice.randrange(1, 4)):
                mutated[dice.randrange(len(mutated))] = dice.randrange(256)
            yield bytes(mutated)


def frames(dice: random.Random, count: int) -> Iterator[bytes]:
    good = [frame(TEXT, b'{"type":"ping"}'), frame(TEXT, b'{"type":"auth","token":"x"}'), frame(PING, b"x")]
    for _ in range(count):
        mutated = bytearray(b"".join(dice.choices(good, k=3)))
        for _ in range(dice.randrange(1, 6)):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        yield bytes(mutated)


@pytest.mark.fault("H4")
@pytest.mark.parametrize("settings", [{}, {"JWT_SECRET": SECRET, "JWT_COOKIE": "c", "APP_API_TOKEN": "t" * 16}])
async def test_any_untrusted_input_causes_no_internal_error(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.2)
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.5)
    monkeypatch.setattr(dapr, "BODY_TIMEOUT", 0.2)
    monkeypatch.setattr(server, "LINGER", 0.1)
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.2)
    bridge = await start(PING_INTERVAL="0.2", PING_TIMEOUT="0.2", **settings)
    dice = random.Random(SEED)
    opened = GOOD.replace("u1", f"u1&token={token()}").encode() + b"\r\n"
    crafted = [text.encode("latin-1") for text in CRAFTED]
    everything = [*crafted, *requests(dice, 600), *(opened + data for data in frames(dice, 200))]
    statuses: dict[int, int] = {}
    everybody = asyncio.Semaphore(100)

    async def send(data: bytes) -> None:
        status = 0
        async with everybody, Peer(bridge.port) as peer:
            with contextlib.suppress(ConnectionError, EOFError):
                status, answer = await peer.request(data)
                assert "Traceback" not in answer
                if status == 101:
                    await peer.rest()
        statuses[status] = statuses.get(status, 0) + 1

    await asyncio.gather(*(send(data) for data in everything))
    assert max(statuses) < 500
    assert statuses.pop(0, 0) < len(everything) / 5  # some are never complete
    assert statuses.keys() >= {101, 200, 400, 404, 405, 426}
    assert "Traceback" not in logs.text
    await until(lambda: len(bridge.bridge.registry) == 0)
    assert not bridge.bridge.metrics.errors["internal"]
    ws, _ = await bridge.opened(token=token())
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}
