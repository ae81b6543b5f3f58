"""In front of aiohttp's protocol: a connection's heads are gathered here, and only finished ones are handed over.

aiohttp does not bound what an unfinished head may hold in all, and its only deadline for one is its keep-alive. Here a
connection that has not finished its first head costs a few hundred bytes, and a refusal costs no parser and no task.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from wsbridge.config.settings import PREFIX
from wsbridge.connections import canned_responses
from wsbridge.connections.client_address import Proxies
from wsbridge.connections.connection_limit import Crowd
from wsbridge.connections.rate_limits import Budget
from wsbridge.connections.request_head import END, Body, Head, Malformed, check_start, largest_field
from wsbridge.core.close_codes import OVERLOADED
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

OVERLOADED_WHY = f"too many handshakes at once ({PREFIX}HANDSHAKE_RATE), or too few descriptors (ulimit -n)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """What the connections of one port share; times in seconds."""

    server: Callable[[], asyncio.Protocol]  # makes aiohttp's protocol
    crowd: Crowd
    metrics: Metrics
    budget: Budget
    proxies: Proxies
    max_header_bytes: int
    head_timeout: float  # from the first byte of a head to its last; from the connection on for an unknown peer
    keep_alive: float  # that a connection may be silent before, between and after requests
    cookie: bytes | None  # the one that a handshake may hold


class Stage(Enum):
    """What the next byte is."""

    HEAD = auto()
    BODY = auto()
    TAIL = auto()  # behind a head that asks for an upgrade, which is not decided yet
    UPGRADED = auto()  # nothing of ours any more
    REFUSED = auto()  # thrown away


class Front(asyncio.Protocol):
    """One connection. `known` says that the peer is on this machine or a trusted proxy: it may be silent longer."""

    __slots__ = (
        "_behind", "_body", "_has_answered", "_has_paid", "_head", "_inner", "_is_working", "_port", "_stage", "_tail",
        "_timer", "_transport", "known", "peer",
    )  # fmt: skip

    def __init__(self, port: Port, peer: str, *, known: bool) -> None:
        self._port = port
        self.peer = peer
        self.known = known
        self._transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._stage = Stage.HEAD
        self._head = bytearray()
        self._body: Body | None = None
        self._behind = Stage.HEAD  # what comes behind the last head and its body
        self._tail = 0  # bytes in the stage of that name
        self._is_working = False  # aiohttp answers a request
        self._has_answered = False  # the last request
        self._has_paid = False  # the token of a handshake
        self._timer: asyncio.TimerHandle | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types: a socket's always is one
        self._transport = transport
        self._port.crowd.enter(self, known=self.known)
        self._set_timer(self._port.keep_alive if self.known else self._port.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        self._port.crowd.leave(self, known=self.known)
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
        if self._stage is Stage.UPGRADED and self._inner is not None:
            return self._inner.data_received(data)
        try:
            while data and self._stage is not Stage.REFUSED:
                data = self._take(data)
        except Malformed as malformed:
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed", str(malformed))

    # What the application calls.

    def upgraded(self) -> None:
        """The upgrade that the last head asked for is granted."""
        self._stage = Stage.UPGRADED

    def answering(self) -> None:
        """The head of an answer to the last request is about to be written."""
        self._has_answered = True

    def takes_handshake(self) -> bool:
        """Whether the last request may become a session. Asked once for each: the answer costs a token."""
        if self._has_paid:
            return True
        if self._port.crowd.is_full:
            self._port.metrics.connection_refused("descriptors")
            return False
        if not self._port.budget.take_handshake():
            self._port.metrics.connection_refused("handshake_rate")
            return False
        return True

    @property
    def asks_for_upgrade(self) -> bool:
        """Whether the last head asks for one that has not been granted."""
        return self._behind is Stage.TAIL and self._stage in (Stage.BODY, Stage.TAIL)

    def answered(self) -> None:
        """The handler of the last request has ended: the next one may come."""
        self._has_paid = False
        if self._stage is Stage.UPGRADED or self._transport is None or self._transport.is_closing():
            self._is_working = False
            return
        self._port.crowd.wait(self, known=self.known)
        if self._head:  # aiohttp writes the answer when the handler has returned: a refusal must come behind it
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._is_working = False

    def _go_on(self) -> None:
        """Take what was pipelined."""
        self._is_working = False
        held = bytes(self._head)
        self._clear_head()
        self.data_received(held)

    def cut(self, reason: str) -> None:
        """End it without a word."""
        self._port.metrics.connection_refused(reason)
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    # The stages.

    def _take(self, data: bytes) -> bytes:
        """Deal with the first part of it; the rest."""
        match self._stage:
            case Stage.HEAD:
                return self._gather(data)
            case Stage.BODY:
                return self._pass_body(data)
            case Stage.TAIL:
                self._tail += len(data)
                if self._tail > self._port.max_header_bytes:
                    self.cut("pipelined")
                    return b""
        self._hand_over(data)
        return b""

    def _gather(self, data: bytes) -> bytes:
        if not self._head:
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112 §2.2)
            if not data:
                return b""
            if not self._is_working and (end := data.find(END)) >= 0:  # all in one piece: the usual case
                return self._begin(data[: end + len(END)], data[end + len(END) :])
        before = len(self._head)
        self._head += data
        end = -1 if self._is_working else self._head.find(END, max(0, before - len(END)))
        if end < 0:
            self._wait_for_more(before)
            return b""
        head, rest = bytes(self._head[: end + len(END)]), bytes(self._head[end + len(END) :])
        self._clear_head()
        return self._begin(head, rest)

    def _wait_for_more(self, before: int) -> None:
        if len(self._head) > self._port.max_header_bytes:
            self._too_large(self._head)
        elif self._is_working:
            self._port.crowd.hold(self, len(self._head))  # pipelined: it has to wait
        else:
            check_start(self._head, before)
            self._port.crowd.hold(self, len(self._head))
            if not before:
                self._set_timer(self._port.head_timeout)

    def _begin(self, raw: bytes, rest: bytes) -> bytes:
        """Hand over a finished head with what is there of its body; what is behind it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._port.budget.refuses(self.peer):
            self.cut("failures")
            return b""
        if len(raw) > self._port.max_header_bytes:
            self._too_large(raw)
            return b""
        head = Head(raw)
        try:
            head.check()
        except Malformed as malformed:
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed", str(malformed), client=self._client(raw))
            return b""
        is_socket = head.asks_for(b"/ws")
        if is_socket and not self._pay(head):
            return b""
        if is_socket or head.asks_for(b"/sse"):
            raw = head.trimmed(self._port.cookie)
        self._is_working, self._has_answered = True, False
        self._port.crowd.work(self, known=self.known)
        body = head.body()
        taken = body.feed(rest)
        self._body = None if body.is_done else body
        self._behind = Stage.TAIL if head.upgrades else Stage.HEAD
        self._stage = Stage.BODY if self._body else self._behind
        self._tail = 0
        self._hand_over(raw + rest[:taken] if taken else raw)
        return rest[taken:]

    def _pass_body(self, data: bytes) -> bytes:
        if self._body is None:
            self._stage = self._behind
            return data
        taken = self._body.feed(data)  # what raises here would let aiohttp's handler wait for the rest of it
        if self._body.is_done:
            self._body, self._stage = None, self._behind
        self._hand_over(data if taken == len(data) else data[:taken])
        return data[taken:]

    def _hand_over(self, data: bytes) -> None:
        if self._inner is None:
            self._inner = self._port.server()
            if self._transport is not None:
                self._inner.connection_made(self._transport)
        self._inner.data_received(data)

    # The end.

    def close(self) -> None:
        """The server stops."""
        self._answer(b"")

    def _too_large(self, head: bytes | bytearray) -> None:
        name, size = largest_field(head)
        setting = f"{PREFIX}MAX_HEADER_BYTES"
        limit = self._port.max_header_bytes
        why = f"The header has more than {limit} bytes; its largest part is {name} with {size}. {setting} is the limit."
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        client = self._client(head)
        self._refuse(status, "header_bytes", why, client=client, header=name, size=size, setting=setting)

    def _pay(self, head: Head) -> bool:
        """Take a handshake's token; where there is none, say in the way that a page can see that it may come back."""
        if self.takes_handshake():
            self._has_paid = True
            return True
        code, reason = OVERLOADED
        self._port.metrics.session_closed((str(code), reason), None)
        log.warning("session.refused", code=code, reason=reason, why=OVERLOADED_WHY, peer=self.peer)
        self._answer(canned_responses.overloaded(head.field(b"sec-websocket-key") or b""))
        return False

    def _client(self, head: bytes | bytearray) -> str:
        """Whose the head is: as `intake` finds it for a request."""
        found = Head(bytes(head))
        chains = (found.joined(name) for name in (b"x-forwarded-for", b"forwarded"))
        proxies = self._port.proxies
        return proxies.client(self.peer, *(chain.decode("latin-1") for chain in chains))

    def _refuse(self, status: HTTPStatus, reason: str, why: str, *, client: str = "", **fields: object) -> None:
        """Answer once and for all, unless another answer is on its way."""
        metrics = self._port.metrics
        metrics.failed("bad_request")
        metrics.connection_refused(reason)
        self._port.budget.failed(client or self.peer)
        log.info("request.bad", peer=client or self.peer, error=why, **fields)
        self._answer(canned_responses.problem(status, why))

    def _answer(self, answer: bytes) -> None:
        is_free = not self._has_answered or (self._stage is Stage.HEAD and not self._is_working)
        self._stop()
        if self._transport is not None:
            if answer and is_free:
                self._transport.write(answer)
            self._transport.close()

    def _stop(self) -> None:
        self._stage = Stage.REFUSED
        self._release()
        self._port.crowd.work(self, known=self.known)

    def _release(self) -> None:
        self._clear_head()
        if self._timer is not None:
            self._timer.cancel()

    def _clear_head(self) -> None:
        self._head.clear()
        self._port.crowd.hold(self, 0)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._head:
            self._port.budget.failed(self.peer)
        self.cut("head_timeout" if self._head else "silence")
