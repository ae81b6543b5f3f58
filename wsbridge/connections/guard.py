"""An asyncio protocol in front of aiohttp's, which passes on complete request heads only.

aiohttp does not limit the memory of incomplete heads, and its only deadline for them is the keep-alive. Here a
connection without a complete head takes a few hundred bytes, and a refusal needs no task.
"""

import asyncio

from wsbridge.connections.bounded_connection import BoundedConnection
from wsbridge.connections.connection_limit import ConnectionLimit, CountedConnection
from wsbridge.connections.direct_requests import leave
from wsbridge.connections.guarded_port import GuardedPort
from wsbridge.connections.head_buffer import HeadBuffer
from wsbridge.connections.request_head import Body, Head, Malformed


class ConnectionGuard(BoundedConnection):
    """One connection, which begins a request once the one before is answered, and the peer reads its responses."""

    __slots__ = (
        "_body", "_has_paid", "_head", "_inner", "_is_working", "asks_for_upgrade", "has_answered", "peername",
    )  # fmt: skip
    ssl_context = sockname = None  # read by `web.Request`, as `transport` and `peername`

    def __init__(self, port: GuardedPort, peer: str, *, known: bool) -> None:
        super().__init__(port, peer, known=known)
        self.peername = peer
        self._inner: asyncio.Protocol | None = None
        self._head = HeadBuffer(port.max_header_bytes)
        self._body: Body | None = None  # set while it is incomplete
        self._is_working = False  # a request is being answered
        self.has_answered = False  # the response to the last request has begun
        self.asks_for_upgrade = False  # the last head asks for an upgrade that is not granted yet
        self._has_paid = False  # the last request is a handshake that was counted against the rate

    # Called by the transport.

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_working:
            self._port.connection_limit.set_busy(self)
            self._deadline.clear()
        elif not self.is_over:
            self._wait(self._port.keep_alive)
            self._continue()
        if self._inner is not None:
            self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        try:
            while data and not self.is_over:
                data = self._take(data)
        except Malformed as malformed:
            self.refuse(self._port.refusals.malformed(self.peer, str(malformed)))

    # Called by the application.

    def hand_over(self, successor: CountedConnection) -> tuple[ConnectionLimit, bytes]:
        """Let the transport have another protocol, which counts towards the limit instead of this one.

        Returns the limit, and the bytes that arrived behind the last request.
        """
        tail = self._clear_head()
        self._deadline.cancel()
        self._port.connection_limit.replace(self, successor)
        self.transport = None
        return self._port.connection_limit, tail

    def admits_handshake(self) -> bool:
        """Whether the last request may become a session. For `/ws` this was decided when the head arrived."""
        return self._has_paid or self._port.admits_handshake()

    def answered(self) -> None:
        """The handler of the last request has returned."""
        self._has_paid = False
        if self.transport is None or self.transport.is_closing():
            self._is_working = False
            return
        self._port.connection_limit.set_idle(self, known=self.known)
        self._continue()

    def respond(self, response: bytes) -> None:
        """Write the response to the last request, which aiohttp's protocol has not got."""
        self.has_answered = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(response)
            if not self._unread:
                self._wait(self._port.keep_alive)
        if self._port.direct.is_stopping:
            self.close()

    def _continue(self) -> None:
        """Process the pipelined request, after aiohttp has written the response, which a refusal of it must follow."""
        self._is_working = bool(self._head)
        if self._is_working:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_working = False
        if self.transport is not None and not self.transport.is_closing() and not self._unread:
            self._port.connection_limit.set_idle(self, known=self.known)
            self._wait(self._port.keep_alive)
            self.transport.resume_reading()
            self.data_received(self._clear_head())

    # The parts of a request.

    def _take(self, data: bytes) -> bytes:
        """Process the first part of the bytes. Returns the rest."""
        if self._body is not None:
            return self._pass_body(self._body, data)
        if not self.asks_for_upgrade:
            return self._gather(data)
        self._head.hold(data)  # not passed on: aiohttp makes a reference cycle of them if it declines the upgrade
        if self._head.is_too_large:
            self.cut("pipelined")
        else:
            self._port.connection_limit.hold(self, len(self._head))
        return b""

    def _gather(self, data: bytes) -> bytes:
        is_new = not self._head
        if is_new:
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112 §2.2)
            if not data:
                return b""
        if self._is_working or self._unread:  # pipelined: wait for the current request
            self._head.hold(data)
            if self._head.is_too_large and self.transport is not None:
                self.transport.pause_reading()
            self._port.connection_limit.hold(self, len(self._head))
            return b""
        complete = self._head.add(data)
        if complete is None:
            self._keep_head(is_new=is_new)
            return b""
        self._port.connection_limit.hold(self, 0)
        return self._begin(*complete)

    def _keep_head(self, *, is_new: bool) -> None:
        """Wait for the rest of the head, within the limits of size and time."""
        if self._head.is_too_large:
            self.refuse(self._port.refusals.too_large(self.peer, self._head.peek()))
            return
        self._port.connection_limit.hold(self, len(self._head))
        if is_new:
            self._wait(self._port.head_timeout)

    def _begin(self, raw: bytes, rest: bytes) -> bytes:
        """Pass on a complete head with the part of its body in `rest`. Returns the bytes that follow the body."""
        self._deadline.clear()
        if self._port.rate_limits.refuses(self.peer):
            self.cut("failures")
            return b""
        head = Head(raw)
        is_handshake = head.upgrades and head.asks_for(b"/ws")
        message = self._port.parse(head, self.peer)
        if isinstance(message, bytes):
            self.refuse(message)
            return b""
        self._has_paid = is_handshake and not self._port.has_failed(head, self.peer)
        if self._has_paid and not self._port.admits_handshake():
            self.refuse(self._port.refusals.overloaded(self.peer, head))
            return b""
        self._is_working, self.has_answered = True, False
        self._port.connection_limit.set_busy(self)
        body = head.body()
        taken = body.feed(rest)
        sent, rest = rest[:taken], rest[taken:]
        self._body = None if body.is_done else body
        self.asks_for_upgrade = head.upgrades
        # Other connections have their turn between the requests of one that pipelines.
        at_once = not (rest or head.upgrades)
        begin = self._port.direct.begin
        if not (body.is_done and begin(self, head, message, sent, is_handshake=is_handshake, at_once=at_once)):
            self._pass_on(raw + sent)
        elif self._inner is not None:  # an earlier request needed it, as the sidecar's read of the subscriptions
            leave(self._inner)
            self._inner = None
        return rest

    def _pass_body(self, body: Body, data: bytes) -> bytes:
        taken = body.feed(data)  # if it raises, the connection is closed, which ends aiohttp's handler
        if body.is_done:
            self._body = None
        self._pass_on(data if taken == len(data) else data[:taken])
        return data[taken:]

    def _pass_on(self, data: bytes) -> None:
        if self._inner is None:
            self._inner = self._port.server()
            if self.transport is not None:
                self._inner.connection_made(self.transport)
        self._inner.data_received(data)

    # The end.

    def refuse(self, response: bytes) -> None:
        """Write a last response, unless another one has begun, and close the connection."""
        is_busy = self.asks_for_upgrade or self._body is not None or self._is_working
        self._end(b"" if self.has_answered and is_busy else response)

    def _stop(self) -> None:
        super()._stop()
        self._clear_head()

    def _clear_head(self) -> bytes:
        self._port.connection_limit.hold(self, 0)
        return self._head.clear()

    def _waited(self) -> None:
        if self._head:
            self._port.rate_limits.failed(self.peer)
            self.cut("head_timeout")
        elif self.has_answered:
            self.close()
        else:
            self.cut("silence")
