"""A TCP proxy with a network that fails on request. Of HTTP it recognises only the upgrade to WebSocket."""

import asyncio
import contextlib
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from enum import Enum
from typing import Self

from tests.support.running import accepted
from tests.support.valkey import free_port

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER at 0: the close is a RST
_UPGRADE = re.compile(rb"^upgrade: *websocket\r\n", re.IGNORECASE | re.MULTILINE)
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Upgrades(Enum):
    """How requests for a WebSocket are treated."""

    PASSED = "passed"
    STRIPPED = "stripped"  # passed on without the header `Upgrade`, as by a proxy that does not support it
    FORBIDDEN = "forbidden"  # answered with 403, as by a filter
    SWALLOWED = "swallowed"  # accepted and never answered: the connection stays open until the browser ends it


class FaultyProxy:
    """Forwards connections from its own `port`, which stays the same, to `target`: `async with`."""

    def __init__(self, target: int) -> None:
        self.target = target  # port for connections that are opened from now on
        self.port = free_port()
        self.upgrades = Upgrades.PASSED
        self.delay = 0.0  # seconds by which a chunk is delayed, in both directions
        self.rate = 0.0  # bytes a second in each direction of a connection; 0 is no limit
        self.swallowed: set[StreamWriter] = set()  # writers of connections whose upgrade is never answered
        self.silent = False  # if True, new connections are accepted and nothing is forwarded
        self._tunnels: set[_Tunnel] = set()
        self._open: dict[asyncio.Task[None], StreamWriter] = {}  # with the writer to the browser
        self._server: asyncio.Server | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await self.refuse()
        await accepted()
        self.cut()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def held(self) -> int:
        """The number of open connections from which nothing is forwarded."""
        return sum(tunnel.held for tunnel in self._tunnels)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Refuse new connections until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset every connection on both sides; data in flight is lost."""
        for tunnel in list(self._tunnels):
            tunnel.cut()
        for writer in self.swallowed:
            _reset(writer)

    def hold(self) -> None:
        """Keep the connections but forward nothing: a lost network, or a laptop that slept too long."""
        for tunnel in self._tunnels:
            tunnel.held = True

    def half_close(self) -> None:
        """Send the bridge a FIN as if from the browser. The browser gets neither that nor the bridge's close."""
        for tunnel in self._tunnels:
            tunnel.half_close()

    def hang_up(self) -> None:
        """Send the browser a FIN without a close frame, as if from the bridge. The bridge gets nothing."""
        for tunnel in self._tunnels:
            tunnel.hang_up()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._ended:  # it was accepted just now, and is in no list yet
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
        """Forward from the first chunk, which in a browser is a whole head, to the end of both directions."""
        head = await reader.read(_CHUNK)
        if _UPGRADE.search(head) and self.upgrades is Upgrades.FORBIDDEN:
            writer.write(_FORBIDDEN)
            return
        if _UPGRADE.search(head) and self.upgrades is Upgrades.SWALLOWED:
            self.swallowed.add(writer)
            try:
                while await reader.read(_CHUNK):
                    pass
            finally:
                self.swallowed.discard(writer)
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
        except OSError:  # one side was reset or closed
            tunnel.cut()
        finally:
            self._tunnels.discard(tunnel)
            back_writer.close()


class _Tunnel:
    """One connection of a browser, and its connection to the bridge."""

    def __init__(self, proxy: FaultyProxy, browser: StreamWriter, bridge: StreamWriter) -> None:
        self.held = proxy.silent
        self._proxy = proxy
        self._browser = browser
        self._bridge = bridge

    async def pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Forward one direction up to its end, and close the other side then."""
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
            _reset(writer)

    def half_close(self) -> None:
        self.held = True
        _finish(self._bridge)

    def hang_up(self) -> None:
        self.held = True
        _finish(self._browser)


def _reset(writer: StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError, ValueError):  # closed already; the last two by uvloop
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _finish(writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
