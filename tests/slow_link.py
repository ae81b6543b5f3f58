"""A TCP link with a limited rate in each direction, shared by all of its connections, which take turns."""

import asyncio
import contextlib
import socket
from asyncio import StreamReader, StreamWriter
from typing import Self

_CHUNK = 16_384  # bytes that one connection may send before it is another one's turn
_BUFFER = 65_536  # bytes that are taken from a sender ahead of time


class Meter:
    """One direction. `rate` is in bytes a second, `bytes` is what has passed."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.bytes = 0
        self._free = 0.0  # when the link is free again, on the loop's clock

    async def carry(self, size: int) -> None:
        """Wait until so many bytes have passed."""
        now = asyncio.get_running_loop().time()
        self.bytes += size
        self._free = max(self._free, now) + size / self.rate
        if self._free - now > 0.001:
            await asyncio.sleep(self._free - now)


class SlowLink:
    """Forwards connections to `target`, a port of this machine: `async with SlowLink(valkey.port, rate=5e6)`."""

    def __init__(self, target: int, rate: float) -> None:
        self._target = target
        self.up, self.down = Meter(rate), Meter(rate)
        self._open: dict[asyncio.Task[None], StreamWriter] = {}

    async def __aenter__(self) -> Self:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # else the kernel takes megabytes at once
        listening.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=_BUFFER)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with contextlib.suppress(OSError):
                back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=_BUFFER)
                await asyncio.gather(
                    self._pump(reader, back_writer, self.up), self._pump(back_reader, writer, self.down)
                )
        finally:
            writer.close()
            del self._open[task]

    @staticmethod
    async def _pump(reader: StreamReader, writer: StreamWriter, meter: Meter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await meter.carry(len(chunk))
                writer.write(chunk)
                await writer.drain()
        writer.close()
