"""Bytes onto a transport without ever waiting for the peer, and its end. Knows no protocol's frames."""

import asyncio
import socket
import struct

from aiohttp.abc import AbstractStreamWriter

CLOSE_TIMEOUT = 2.0  # seconds that a peer has for its part of a close
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0: the kernel too throws away what was not sent


class TransportWire:
    """What all transports have in common. `writer` is aiohttp's, to wait with; it writes nothing for us."""

    __slots__ = ("_timer", "_transport", "_writer")

    def __init__(self, transport: asyncio.Transport, writer: AbstractStreamWriter) -> None:
        self._transport = transport
        self._writer = writer
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel or to the transport's buffer; a peer that has left takes nothing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def finish(self) -> None:
        """Nothing more is to be said, or the peer is gone: give the socket back."""
        self._transport.close()  # waits for what is unsent, hence the timer
        if self._transport.get_write_buffer_size():
            self.abort_later()
        elif self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        """At once. A reset lets the kernel drop the megabytes that it holds for a stalled peer."""
        try:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        except (OSError, AttributeError, RuntimeError):
            return  # it was gone already: CPython 3.11 raises AttributeError there, uvloop RuntimeError

    def abort_later(self) -> None:
        """In 2 s, unless it has finished by then."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    async def drain(self) -> None:
        await self._writer.drain()

    @property
    def is_ending(self) -> bool:
        return self._timer is not None
