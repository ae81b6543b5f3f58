"""Writes bytes to a transport without waiting for the peer, and ends the connection.

A connection is the protocol of its transport. While the peer keeps up, it has no task and no buffer.
"""

import asyncio
import contextlib
import random
import time

from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.resets import reset
from wsbridge.core.recovery import Resume
from wsbridge.sessions.outbox import HIGH_WATER
from wsbridge.sessions.session import Session

CLOSE_TIMEOUT = 2.0  # seconds that a peer has for its part of a close
SLOW_CLOSE_TIMEOUT = 0.5  # the same for a peer that has unread bytes, and up to `SPREAD` more
SPREAD = 0.5  # seconds, because freeing the kernel's buffer of one takes a millisecond, and many end at once
LOW_WATER = HIGH_WATER // 4  # bytes in a transport's buffer at which more is handed to it
LATE = 1.0  # seconds; if a timer is later than this, the process was paused, and the peer is not blamed
MAX_IGNORED = 262_144  # bytes that a peer may send after it should be silent; then it is reset


class BaseConnection(asyncio.Protocol):
    """The common part of all transports. Keeps its `session` alive until the connection is over."""

    __slots__ = ("_ignored", "_is_woken", "_timer", "_transport", "is_over", "is_paused", "limit", "session")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._is_woken = False
        self._ignored = 0
        self.is_paused = False  # more than `HIGH_WATER` bytes wait in the write buffer
        self.is_over = False  # nothing more may be written or read
        self.session: Session | None = None
        self.limit: ConnectionLimit | None = None  # the limit that counts it

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Ignore the bytes: on this transport, or after its close, the peer should be silent."""
        self._ignored += len(data)
        if self._ignored > MAX_IGNORED:
            self.abort()

    def eof_received(self) -> None:
        self.over()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over()
        if self._timer is not None:  # possibly of `over`, since uvloop counts unsent bytes even now
            self._timer.cancel()
        if self.limit is not None:
            self.limit.leave(self)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.wake()

    # Called by the session.

    def write(self, data: bytes | memoryview) -> None:
        """Pass bytes to the kernel or to the write buffer; do nothing if the peer has left."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Close this direction after all written bytes. Closing both would reset the connection if more bytes arrive.

        A peer that sees a reset loses what it has not read yet.
        """
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the peer has reset the connection
                self._transport.write_eof()

    def unsent(self) -> int:
        """Return the bytes that wait for the peer. uvloop's transports count them even after an abort."""
        return 0 if self.is_over else self._transport.get_write_buffer_size()

    def wake(self) -> None:
        """Let the session write its waiting frames, in a later turn of the loop."""
        if not self._is_woken and not self.is_over:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._pump)

    def abort(self) -> None:
        """Reset the connection at once."""
        reset(self._transport)
        self.over()

    def abort_later(self, *, soon: bool = False) -> None:
        if self._timer is None:
            spread = random.uniform(0, SPREAD)  # noqa: S311 - no secret
            self._set_timer(SLOW_CLOSE_TIMEOUT + spread if soon else CLOSE_TIMEOUT)

    # Called by the server.

    def take_over(self) -> None:
        """Begin to be the transport's protocol. Earlier responses may wait in its buffer, and it may be paused."""
        if self._transport.get_write_buffer_size() > LOW_WATER:
            self._transport.set_write_buffer_limits(high=0)  # pauses writing in any case, so that it will be resumed
            self.is_paused = True
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        if not self._transport.is_closing():
            self._transport.resume_reading()  # aiohttp has paused it if the request has a large body

    def serve(self, session: Session, resume: Resume, hello: bytes) -> None:
        """Attach a session, and keep it alive until the connection is over, which may be at once."""
        if self.is_over:
            session.leave()
            return
        self.session = session
        try:
            session.attach(resume, hello)
        except Exception as failure:  # the task boundary: an error ends only this connection
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

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out, seconds, time.monotonic())

    def _time_out(self, seconds: float, since: float) -> None:
        if time.monotonic() - since > seconds + LATE:  # this process was paused, so the peer gets its full time again
            self._set_timer(seconds)
        else:
            self.abort()

    def _pump(self) -> None:
        """Write a portion of the waiting frames. The next one follows later, so that others are served in between."""
        self._is_woken = False
        session = self.session
        if session is None or not session.is_pumped or self.is_paused:
            return
        try:
            session.pump()
        except Exception as error:  # the boundary to the loop: an error ends only this connection
            session.fail("pump", error)
        if session.is_pumped:
            self.wake()
