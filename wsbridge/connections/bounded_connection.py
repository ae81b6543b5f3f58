"""What ends a connection that waits: for a request, for the rest of one, or for its peer to read the responses."""

import asyncio
from typing import cast

from wsbridge.connections.deadline import Deadline
from wsbridge.connections.guarded_port import GuardedPort
from wsbridge.connections.resets import reset


class BoundedConnection(asyncio.Protocol):
    """One connection. A `known` peer (on the internal port, or a trusted proxy) may be idle for longer."""

    __slots__ = ("_deadline", "_port", "_unread", "is_over", "known", "peer", "transport")

    def __init__(self, port: GuardedPort, peer: str, *, known: bool) -> None:
        self._port = port
        self.peer = peer
        self.known = known
        self.transport: asyncio.Transport | None = None
        self.is_over = False  # what the peer sends is discarded
        self._unread = 0  # bytes that the peer had yet to read when this was looked at; 0: it reads its responses
        self._deadline = Deadline()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._port.connection_limit.enter(self, known=self.known)
        self._wait(self._port.keep_alive if self.known else self._port.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self.transport = None
        self._port.connection_limit.leave(self)

    def eof_received(self) -> None:
        self._end()

    def pause_writing(self) -> None:
        """Let the connection be cut to make room, or if the peer reads nothing for a while."""
        self._port.connection_limit.set_idle(self, known=self.known)
        self._await_reader()

    def resume_writing(self) -> None:
        self._unread = 0

    # The end.

    def cut(self, reason: str) -> None:
        """End the connection without a response; `reason` is for the metric."""
        self._port.metrics.connection_refused(reason)
        self._stop()
        if self.transport is not None:
            reset(self.transport) if self._unread else self.transport.abort()

    def abort(self) -> None:
        self._stop()
        if self.transport is not None:
            reset(self.transport)

    def close(self) -> None:
        """The server stops."""
        self._end()

    def _end(self, response: bytes = b"") -> None:
        """Write a last response and close the connection, once all is sent, or after a while."""
        self._stop()
        if self.transport is not None:
            if response:
                self.transport.write(response)
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self._wait(self._port.linger)

    def _stop(self) -> None:
        self.is_over = True
        self._deadline.cancel()
        self._port.connection_limit.set_busy(self)

    def _wait(self, seconds: float) -> None:
        self._deadline.set(seconds, self._time_out)

    def _await_reader(self) -> None:
        self._unread = self._left() or 1
        self._wait(self._port.write_timeout)

    def _left(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _time_out(self) -> None:
        if self.is_over:
            self.abort()
        elif not self._unread:
            self._waited()
        elif self._left() < self._unread:
            self._await_reader()
        else:
            self.cut("unread")

    def _waited(self) -> None:
        """The next request, or the rest of it, has not arrived in time."""
        raise NotImplementedError
