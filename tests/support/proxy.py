"""A TCP proxy whose network goes wrong on request. Knows of HTTP only what an upgrade to WebSocket looks like."""

import asyncio
import contextlib
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from enum import Enum
from typing import Self

from tests.support.valkey import free_port

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER at 0: the close is a RST
_UPGRADE = re.compile(rb"^upgrade: *websocket\r\n", re.IGNORECASE | re.MULTILINE)
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Upgrades(Enum):
    """What becomes of requests for a WebSocket."""

    PASSED = "passed"
    STRIPPED = "stripped"  # of the header that asks, as by a proxy that never heard of it
    FORBIDDEN = "forbidden"  # answered with 403, as by a filter
    SWALLOWED = "swallowed"  # taken, and never answered


class FaultyProxy:
    """Forwards what comes to `port`, which is its own and stays, to `target`: `async with`."""

    def __init__(self, target: int) -> None:
        self.target = target  # port of connections that come from now on
        self.port = free_port()
        self.upgrades = Upgrades.PASSED
        self.delay = 0.0  # seconds that a chunk is on its way longer, in both directions
        self.rate = 0.0  # bytes a second that a direction of a connection lets through; 0 is as many as come
        self.silent = False  # connections that come from now on are taken, and nothing comes through
        self._tunnels: set[_Tunnel] = set()
        self._open: dict[asyncio.Task[None], StreamWriter] = {}  # with one to the browser
        self._server: asyncio.Server | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await self.refuse()
        self.cut()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """New connections, until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Every connection, on both sides and with a RST: what is on its way is lost."""
        for tunnel in list(self._tunnels):
            tunnel.cut()

    def hold(self) -> None:
        """The connections stay, and nothing comes through any more: a lost network, a laptop that slept too long."""
        for tunnel in self._tunnels:
            tunnel.held = True

    def half_close(self) -> None:
        """The bridge is told that the browser has sent its last, and the browser is told nothing: neither that nor
        that the bridge leaves then."""
        for tunnel in self._tunnels:
            tunnel.half_close()

    def hang_up(self) -> None:
        """The browser is told that the bridge has sent its last (a FIN without a close frame), the bridge nothing."""
        for tunnel in self._tunnels:
            tunnel.hang_up()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._ended:  # it was accepted just before, and is in nobody's list yet
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with contextlib.suppress(OSError):
                await self._tunnel(reader, writer)
        finally:
            writer.close()
            del self._open[task]

    async def _tunnel(self, reader: StreamReader, writer: StreamWriter) -> None:
        """From its first chunk, which in a browser is a whole head, to the end of both directions."""
        head = await reader.read(_CHUNK)
        if _UPGRADE.search(head) and self.upgrades is Upgrades.FORBIDDEN:
            writer.write(_FORBIDDEN)
            return
        if _UPGRADE.search(head) and self.upgrades is Upgrades.SWALLOWED:
            while await reader.read(_CHUNK):
                pass
            return
        if self.upgrades is Upgrades.STRIPPED:
            head = _UPGRADE.sub(b"", head)
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target)
        tunnel = _Tunnel(self, writer, back_writer)
        if not tunnel.held:
            back_writer.write(head)
        self._tunnels.add(tunnel)
        try:
            await asyncio.gather(tunnel.pump(reader, back_writer), tunnel.pump(back_reader, writer))
        except OSError:  # one side was reset, or is gone
            tunnel.cut()
        finally:
            self._tunnels.discard(tunnel)
            back_writer.close()


class _Tunnel:
    """One connection of a browser and the one to the bridge that belongs to it."""

    def __init__(self, proxy: FaultyProxy, browser: StreamWriter, bridge: StreamWriter) -> None:
        self.held = proxy.silent
        self._proxy = proxy
        self._browser = browser
        self._bridge = bridge

    async def pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One direction, until its end, which is told to the other side as well."""
        while chunk := await reader.read(_CHUNK):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)  # the fault itself
            if self._proxy.rate:
                await asyncio.sleep(len(chunk) / self._proxy.rate)  # as above
            if not self.held and not writer.is_closing():
                writer.write(chunk)
                await writer.drain()
        if not self.held:
            _finish(writer)

    def cut(self) -> None:
        for writer in (self._browser, self._bridge):
            with contextlib.suppress(OSError):  # it is gone already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def half_close(self) -> None:
        self.held = True
        _finish(self._bridge)

    def hang_up(self) -> None:
        self.held = True
        _finish(self._browser)


def _finish(writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
