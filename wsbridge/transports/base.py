"""Writes bytes to a transport without ever waiting for the peer, receives its bytes, and ends the connection."""

import asyncio
import random
import socket
import struct
import time

from aiohttp.abc import AbstractStreamWriter

from wsbridge.sessions.outbox import HIGH_WATER
from wsbridge.sessions.session import Session

CLOSE_TIMEOUT = 2.0  # seconds that a peer has for its part of a close
SLOW_CLOSE_TIMEOUT = 0.5  # the same for one that has not taken what waits for it, and up to `SPREAD` more
SPREAD = 0.5  # seconds: many of those end in one look, and to free what the kernel holds for one takes a millisecond
LATE = 1.0  # seconds by which a timer may be late before this process, and not the peer, was to blame
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0: the kernel too throws away what was not sent


class BaseConnection:
    """The part that all transports share. aiohttp's `writer` is only used to wait until the transport drains."""

    __slots__ = ("_awake", "_timer", "_transport", "_waiter", "_writer", "is_over", "peer_has_closed")

    def __init__(self, transport: asyncio.Transport, writer: AbstractStreamWriter) -> None:
        self._transport = transport
        self._writer = writer
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._awake = False
        self.is_over = False  # nothing more is to be written or read
        self.peer_has_closed = False
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the kernel or to the transport's buffer; a peer that has left takes nothing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def is_gone(self) -> bool:
        return self._transport.is_closing()  # a FIN closes the transport, but what is unsent keeps it from ending

    def wake(self) -> None:
        """Let `wait` return."""
        self._awake = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next `wake`, or for one that came before."""
        if not self._awake:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._awake = False

    async def wait_for_end(self) -> None:
        while not self.is_over:
            await self.wait()

    def over(self) -> None:
        """The connection has ended, or has nothing more to say."""
        self.is_over = True
        self.wake()

    def finish(self) -> None:
        """Nothing more is to be said, or the peer is gone: give the socket back."""
        self._transport.close()  # waits for what is unsent, hence the timer
        if self._transport.get_write_buffer_size():
            self.abort_later()
        elif self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        """At once. A reset lets the kernel drop the megabytes that it holds for a stalled peer."""
        self.over()
        try:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        except (OSError, AttributeError, RuntimeError, ValueError):
            return  # it was gone already: CPython 3.11 raises AttributeError there, uvloop any but OSError

    def abort_later(self, *, soon: bool = False) -> None:
        """In 2 s, or within a second, unless it has finished by then."""
        if self._timer is None:
            spread = random.uniform(0, SPREAD)  # noqa: S311 - no secret
            self._set_timer(SLOW_CLOSE_TIMEOUT + spread if soon else CLOSE_TIMEOUT)

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out, seconds, time.monotonic())

    def _time_out(self, seconds: float, since: float) -> None:
        if time.monotonic() - since > seconds + LATE:  # this process stood still: the peer gets its time all the same
            self._set_timer(seconds)
        else:
            self.abort()

    def pause(self) -> None:
        """Read nothing, so that TCP slows the peer down. Not for long: the end of a connection is read, too."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def drain(self) -> None:
        await self._writer.drain()


class Receiver:
    """Gets the bytes of a connection from aiohttp, in place of aiohttp's own parser. This one ignores them.

    Its session, once there is one, leaves as soon as the connection is lost.
    """

    __slots__ = ("_ignored", "connection", "session")
    IGNORED = 100  # reads after which a connection that has nothing to say any more is reset

    def __init__(self, connection: BaseConnection) -> None:
        self.connection = connection
        self.session: Session | None = None
        self._ignored = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes. Return what aiohttp expects of a parser: whether this is the end, and the bytes left over."""
        del data
        self.ignore()
        return False, b""

    def feed_eof(self) -> None:
        """Take the end of the connection, also as aiohttp calls it."""
        self.connection.over()
        if self.session is not None:
            self.session.leave()

    def ignore(self) -> None:
        self._ignored += 1
        if self._ignored > self.IGNORED:
            self.connection.abort()
