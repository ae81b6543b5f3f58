"""An asyncio protocol in front of aiohttp's, which passes on complete request heads only.

aiohttp does not limit the memory of incomplete heads, and its only deadline for them is the keep-alive. Here a
connection without a complete head takes a few hundred bytes, and a refusal needs no parser and no task.
"""

import asyncio
from typing import cast

from wsbridge.connections.connection_limit import ConnectionLimit, CountedConnection
from wsbridge.connections.deadline import Deadline
from wsbridge.connections.direct_requests import leave
from wsbridge.connections.guarded_port import GuardedPort
from wsbridge.connections.head_buffer import HeadBuffer
from wsbridge.connections.request_head import Body, Head, Malformed, Stage

_HEAD, _TAIL, _REFUSED = Stage  # looking up a member of an enum takes as long as a call


class ConnectionGuard(asyncio.Protocol):
    """One connection. A `known` peer (on the internal port, or a trusted proxy) may be idle for longer."""

    __slots__ = (
        "_body", "_deadline", "_has_paid", "_head", "_inner", "_is_working", "_port", "_stage", "has_answered", "known",
        "peer", "peername", "transport",
    )  # fmt: skip
    ssl_context = sockname = None  # read by `web.Request`, as `transport` and `peername`

    def __init__(self, port: GuardedPort, peer: str, *, known: bool) -> None:
        self._port = port
        self.peer = self.peername = peer
        self.known = known
        self.transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._stage = _HEAD
        self._head = HeadBuffer(port.max_header_bytes)
        self._body: Body | None = None  # set while it is incomplete
        self._is_working = False  # a request is being answered
        self.has_answered = False  # the response to the last request has begun
        self._has_paid = False  # the last request is a handshake that was counted against the rate
        self._deadline = Deadline()  # for the next head, or for the rest of it

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._port.connection_limit.enter(self, known=self.known)
        self._deadline.set(self._port.keep_alive if self.known else self._port.head_timeout, self._time_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self.transport = None
        self._port.connection_limit.leave(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        try:
            while data and self._stage is not _REFUSED:
                data = self._take(data)
        except Malformed as malformed:
            self.refuse(self._port.refusals.malformed(self.peer, str(malformed)))

    # Called by the application.

    def hand_over(self, successor: CountedConnection) -> tuple[ConnectionLimit, bytes]:
        """Let the transport have another protocol, which counts towards the limit instead of this one.

        Returns the limit, and the bytes that arrived behind the last request.
        """
        tail = self._clear_head()
        self._release()
        self._port.connection_limit.replace(self, successor)
        self.transport = None
        return self._port.connection_limit, tail

    def admits_handshake(self) -> bool:
        """Whether the last request may become a session. For `/ws` this was decided when the head arrived."""
        return self._has_paid or self._port.admits_handshake()

    @property
    def asks_for_upgrade(self) -> bool:
        """Whether the last head asks for an upgrade that is not granted yet."""
        return self._stage is _TAIL

    def answered(self) -> None:
        """The handler of the last request has returned."""
        self._has_paid = False
        if self.transport is None or self.transport.is_closing():
            self._is_working = False
            return
        self._port.connection_limit.set_idle(self, known=self.known)
        if self._head:  # read it after aiohttp has written the response, which a refusal of it must follow
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._is_working = False

    def respond(self, response: bytes) -> None:
        """Write the response to the last request, which aiohttp's protocol has not got."""
        self.has_answered = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(response)
            self._deadline.set(self._port.keep_alive, self._time_out)
        if self._port.direct.is_stopping:
            self.close()

    def _go_on(self) -> None:
        """Process the pipelined request."""
        self._is_working = False
        self.data_received(self._clear_head())

    def cut(self, reason: str) -> None:
        """End the connection without a response; `reason` is for the metric."""
        self._port.metrics.connection_refused(reason)
        self._stop()
        if self.transport is not None:
            self.transport.abort()

    # The stages.

    def _take(self, data: bytes) -> bytes:
        """Process the first part of the bytes. Returns the rest."""
        if self._body is not None:
            return self._pass_body(self._body, data)
        if self._stage is _HEAD:
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
        if self._is_working:  # pipelined: wait for the current request
            self._head.hold(data)
            self._keep_head(is_new=False)
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
            self._deadline.set(self._port.head_timeout, self._time_out)

    def _begin(self, raw: bytes, rest: bytes) -> bytes:
        """Pass on a complete head with the part of its body in `rest`. Returns the bytes that follow the body."""
        self._deadline.clear()
        if self._port.rate_limits.refuses(self.peer):
            self.cut("failures")
            return b""
        head = Head(raw)
        is_handshake = head.upgrades and head.asks_for(b"/ws")
        if (response := self._port.refusal(head, self.peer, is_handshake=is_handshake)) is not None:
            self.refuse(response)
            return b""
        self._has_paid = is_handshake
        self._is_working, self.has_answered = True, False
        self._port.connection_limit.set_busy(self)
        body = head.body()
        taken = body.feed(rest)
        sent, rest = rest[:taken], rest[taken:]
        self._body = None if body.is_done else body
        self._stage = _TAIL if head.upgrades else _HEAD
        # Other connections have their turn between the requests of one that pipelines.
        at_once = not (rest or head.upgrades)
        begin = self._port.direct.begin
        if not (body.is_done and begin(self, head, sent, is_handshake=is_handshake, at_once=at_once)):
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

    def close(self) -> None:
        """The server stops."""
        self.refuse(b"")

    def refuse(self, response: bytes) -> None:
        """Write a last response, unless another one has begun, and close the connection."""
        is_free = not self.has_answered or (self._stage is _HEAD and self._body is None and not self._is_working)
        self._stop()
        if self.transport is not None:
            if response and is_free:
                self.transport.write(response)
            self.transport.close()

    def _stop(self) -> None:
        self._stage = _REFUSED
        self._release()
        self._port.connection_limit.set_busy(self)

    def _release(self) -> None:
        self._clear_head()
        self._deadline.cancel()

    def _clear_head(self) -> bytes:
        self._port.connection_limit.hold(self, 0)
        return self._head.clear()

    def _time_out(self) -> None:
        if self._head:
            self._port.rate_limits.failed(self.peer)
            self.cut("head_timeout")
        elif self.has_answered:
            self.close()
        else:
            self.cut("silence")
