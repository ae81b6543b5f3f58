"""Writes bytes to a transport without ever waiting for the peer, and ends the connection.

A connection is the protocol of its transport. While the peer takes what is written, it has no task and no buffer.
"""

import asyncio
import random
import socket
import struct
import time

from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.core.recovery import Resume
from wsbridge.sessions.outbox import HIGH_WATER
from wsbridge.sessions.session import Session

CLOSE_TIMEOUT = 2.0  # seconds that a peer has for its part of a close
SLOW_CLOSE_TIMEOUT = 0.5  # the same for a peer that has not taken what waits for it, and up to `SPREAD` more
SPREAD = 0.5  # seconds: many of those end in one look, and to free what the kernel holds for one takes a millisecond
LATE = 1.0  # seconds by which a timer may be late before this process, and not the peer, was to blame
MAX_IGNORED = 262_144  # bytes that a peer may send when it has nothing to say any more; then it is reset
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0: the kernel too throws away what was not sent


class BaseConnection(asyncio.Protocol):
    """The part that all transports share. Keeps its `session` alive until the connection is over."""

    __slots__ = ("_ignored", "_is_woken", "_timer", "_transport", "is_over", "is_paused", "limit", "session")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._is_woken = False
        self._ignored = 0
        self.is_paused = False  # more than `HIGH_WATER` bytes wait in the write buffer
        self.is_over = False  # nothing more is to be written or read
        self.session: Session | None = None
        self.limit: ConnectionLimit | None = None  # that it counts towards
        transport.set_write_buffer_limits(high=HIGH_WATER)

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Ignore the bytes: the peer has nothing to say on this transport, or nothing any more."""
        self._ignored += len(data)
        if self._ignored > MAX_IGNORED:
            self.abort()

    def eof_received(self) -> None:
        self.over()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.over()
        if self.limit is not None:
            self.limit.leave(self)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.wake()

    # Called by the session.

    def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the kernel or to the transport's buffer; a peer that has left takes nothing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def unsent(self) -> int:
        """Return the bytes that wait for the peer. uvloop's transports count them even after an abort."""
        return 0 if self.is_over else self._transport.get_write_buffer_size()

    def wake(self) -> None:
        """Let the session write what waits for the peer, in a later turn of the loop."""
        if not self._is_woken and not self.is_over:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._pump)

    def abort(self) -> None:
        """At once. A reset lets the kernel drop the megabytes that it holds for a stalled peer."""
        try:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        except (OSError, AttributeError, RuntimeError, ValueError):
            pass  # it was closed already: CPython 3.11 raises AttributeError there, uvloop any but OSError
        self.over()

    def abort_later(self, *, soon: bool = False) -> None:
        """In 2 s, or within a second, unless it has finished by then."""
        if self._timer is None:
            spread = random.uniform(0, SPREAD)  # noqa: S311 - no secret
            self._set_timer(SLOW_CLOSE_TIMEOUT + spread if soon else CLOSE_TIMEOUT)

    # Called by the server.

    def serve(self, session: Session, resume: Resume, hello: bytes) -> None:
        """Attach a session, and keep it alive until the connection is over, which it may be already."""
        if self.is_over:
            session.leave()
            return
        self.session = session
        try:
            session.attach(resume, hello)
        except Exception as failure:  # the task boundary: this connection ends, the others go on
            session.fail("attach", failure)

    def over(self) -> None:
        """End the connection: its session leaves, and the socket is closed once all is sent, or after 2 s."""
        if self.is_over:
            return
        self.is_over = True
        session, self.session = self.session, None
        if session is not None:
            session.leave()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self.abort_later()
        elif self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """The server stops, and the peer has not sent its part of the close."""
        self.abort()

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out, seconds, time.monotonic())

    def _time_out(self, seconds: float, since: float) -> None:
        if time.monotonic() - since > seconds + LATE:  # this process stood still: the peer gets its time all the same
            self._set_timer(seconds)
        else:
            self.abort()

    def _pump(self) -> None:
        """Write a portion of what waits. The next one follows later, so that no peer keeps the others waiting."""
        self._is_woken = False
        session = self.session
        if session is None or not session.is_pumped or self.is_paused:
            return
        try:
            session.pump()
        except Exception as error:  # the boundary to the loop: this connection ends, the others go on
            session.fail("pump", error)
        if session.is_pumped:
            self.wake()
