"""A server that forwards each connection to a port of this machine, in both directions."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from typing import Self

CHUNK = 16_384  # bytes that are forwarded at once
BUFFER = 65_536  # bytes that are buffered from a sender
Carry = Callable[[int], Awaitable[None]]


class Forwarder:
    """Base class, used with `async with`. Subclasses choose where to listen and what happens to the forwarded bytes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: dict[asyncio.Task[None], StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def listen(self) -> asyncio.Server:
        """Return a server that calls `serve`."""
        raise NotImplementedError

    async def carry_up(self, size: int) -> None:
        """Called before this many bytes go to the target."""

    async def carry_down(self, size: int) -> None:
        """Called before this many bytes come back."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with contextlib.suppress(OSError):
                back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=BUFFER)
                up, down = (reader, back_writer, self.carry_up), (back_reader, writer, self.carry_down)
                await asyncio.gather(_pump(*up), _pump(*down))
        finally:
            writer.close()
            del self._open[task]


async def _pump(reader: StreamReader, writer: StreamWriter, carry: Carry) -> None:
    """Forward one direction until either end closes."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            await carry(len(chunk))
            writer.write(chunk)
            await writer.drain()
    writer.close()
