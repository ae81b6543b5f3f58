"""Clients on raw sockets, because a client library corrects many mistakes. Each way to misbehave is a named class."""

import asyncio
import json
import re
import socket
import struct
from typing import Any, Self

from tests.support.running import DEADLINE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LITTLE = 4096  # bytes: a receive buffer that is full soon
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
GOOD = UPGRADE.format(path="/ws?user_id=u1")  # an empty line must follow


class Peer:
    """A plain TCP connection. `receive_buffer` is in bytes: the kernel takes as many although nobody reads."""

    receive_buffer: int | None = None

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = b""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if self.receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().sock_connect(self.sock, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self) -> bytes:
        """The next bytes; b"" at the end of the connection, even after a reset."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
            except ConnectionError:
                return b""

    async def rest(self) -> bytes:
        """All bytes until the other side closes."""
        found, self._buffer = self._buffer, b""
        while chunk := await self.read():
            found += chunk
        return found

    async def until(self, end: bytes) -> bytes:
        """All bytes up to and including `end`, or up to the end of the connection."""
        while end not in self._buffer and (chunk := await self.read()):
            self._buffer += chunk
        found, end, self._buffer = self._buffer.partition(end)
        return found + end

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            chunk = await self.read()
            if not chunk:
                raise EOFError
            self._buffer += chunk
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def request(self, request: str | bytes) -> tuple[int, str]:
        """Send a request; return the status and the whole response. The status is 0 if the connection ended first."""
        await self.send(request if isinstance(request, bytes) else request.encode())
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await self.exactly(int(size[1])) if size else b""
        return int(head.split(" ")[1]) if head else 0, head + body.decode("latin-1")

    def reset(self) -> None:
        """Close with a RST, which discards unsent bytes on both sides."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class WebSocketPeer(Peer):
    """A client that does nothing by itself: it answers no ping, echoes no close, and reads only when asked to."""

    async def upgrade(self, user: str = "u1", query: str = "", headers: str = "") -> None:
        await self.send((UPGRADE.format(path=f"/ws?user_id={user}{query}") + headers + "\r\n").encode("latin-1"))
        head = await self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"extensions" not in head.lower()  # the bridge never compresses

    async def opened(self, user: str = "u1", query: str = "", headers: str = "") -> dict[str, Any]:
        """Upgrade; return the first message."""
        await self.upgrade(user, query, headers)
        return await self.message()

    async def send_frame(
        self, opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, claims: int | None = None
    ) -> None:
        """Send a frame. `claims` is the length in its header, if it differs from the real one; the mask is zeros."""
        await self.send(frame(opcode, payload, final=final, reserved=reserved, claims=claims))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Servers send them whole and unmasked."""
        first, size = await self.exactly(2)
        assert first & 0xF0 == 0x80
        assert size < 128
        if size > 125:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        return first & 0x0F, await self.exactly(size)

    async def message(self) -> dict[str, Any]:
        """The next text message; skips pings."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                message = json.loads(payload)
                assert isinstance(message, dict)
                return message
            assert opcode == PING, (opcode, payload)

    async def closed(self) -> tuple[int, str]:
        """Read up to the close frame; return its code and reason, or 1006 if the connection ended without one."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode()
        except EOFError:
            return 1006, ""


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, claims: int | None = None
) -> bytes:
    """One frame of a client, masked with zeros (RFC 6455 §5.2)."""
    size = len(payload) if claims is None else claims
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big") if size < 65_536 else b""
    length = length or b"\xff" + size.to_bytes(8, "big")
    return bytes([(128 if final else 0) | reserved << 4 | opcode]) + length + bytes(4) + payload


class StalledReader(WebSocketPeer):
    """Stops reading, so that its TCP window closes."""

    receive_buffer = LITTLE


class VanishedPeer(WebSocketPeer):
    """Stays connected and silent: no FIN, no answer to a ping, as behind a silent proxy or a lost network."""

    receive_buffer = LITTLE
