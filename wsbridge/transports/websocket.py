"""WebSocket: the upgrade and the close handshake (RFC 6455)."""

import asyncio

from aiohttp import hdrs, web

from wsbridge.connections.client_address import address_of
from wsbridge.connections.handover import hand_over
from wsbridge.connections.websocket_handshake import check_handshake, offered_subprotocols, switching
from wsbridge.core.close_codes import INTERNAL, SHUTDOWN, Close, Refused
from wsbridge.core.events import Entry, Position
from wsbridge.core.frames import PING_FRAME, close_frame, text_frame
from wsbridge.core.messages import SUBPROTOCOL, goodbye, update
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.opening import SessionOpener
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.client_messages import ClientMessages
from wsbridge.transports.inbox import Inbox


class WebSocketConnection(Inbox):
    """Frames of the server, written here."""

    __slots__ = ()
    transport_name = "websocket"
    ping_interval = None  # the bridge's own
    answers = True

    def update(self, entry: Entry) -> bytes:
        return text_frame(update(entry))

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        return text_frame(payload)

    def ping(self) -> None:
        self.write(PING_FRAME)

    def send_close(self, close: Close) -> None:
        """Send the server's part of the close; the peer has 2 s for its own."""
        self.write(close_frame(close))
        self.abort_later()
        if self.peer_has_closed:
            self.over()
        elif self.is_broken:  # the peer's close will not be understood; RFC 6455 §7.1.7 fails the connection at once
            self.write_eof()

    def refuse(self, close: Close) -> None:
        """Close a connection that was accepted only for this close, because pages cannot see a handshake's status."""
        if close.reconnect and close.code < 4000:  # noqa: PLR2004 - WebKitGTK shows pages 1012 and 1013 as 1006
            self.write(text_frame(goodbye(close)))
        self.send_close(close)
        self.open()


class TracedWebSocket(WebSocketConnection):
    """Its updates carry their `traceparent`."""

    __slots__ = ()

    def update(self, entry: Entry) -> bytes:
        return text_frame(update(entry, entry.span))


class WebSocketHandler:
    """Handles `GET /ws`."""

    def __init__(
        self, opener: SessionOpener, admission: Admission, jobs: Starter, metrics: Metrics, *, traced: bool = False
    ) -> None:
        self._opener = opener
        self._admission = admission
        self._messages = ClientMessages(admission, jobs, metrics, opener.reports)
        self._metrics = metrics
        self._connection_type = TracedWebSocket if traced else WebSocketConnection

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Upgrade a request and open its session. The connection continues without this handler."""
        self._check(request)
        transport = request.transport
        if transport is not None and not transport.is_closing():  # else the client disconnected during the handshake
            transport.write(_accepted(request))
            connection = self._connection_type(transport, self._messages)
            hand_over(request, connection)
            await self._open(request, connection)
        return _Written(status=101)

    def _check(self, request: web.Request) -> None:
        """Refuse a request that must not be upgraded. Load balancers understand a status better than a close."""
        try:
            check_handshake(request)
        except web.HTTPBadRequest as bad:
            self._metrics.failed("bad_request")
            log.info("request.bad", peer=address_of(request), error=bad.text)
            raise
        if self._admission.draining:
            raise web.HTTPServiceUnavailable(text="The server is shutting down.", headers={hdrs.RETRY_AFTER: "1"})

    async def _open(self, request: web.Request, connection: WebSocketConnection) -> None:
        try:
            asked = request.query.get("last_event_id")
            session, resume, hello = await self._opener.open(request, connection, asked)
        except Refused as refused:
            connection.refuse(refused.close)
            return
        except asyncio.CancelledError:  # the server stops
            connection.refuse(SHUTDOWN)
            raise
        except Exception as failure:  # the task boundary
            self._metrics.internal("admit", failure, session="")
            connection.refuse(INTERNAL)
            return
        connection.serve(session, resume, hello)
        connection.open()


class _Written(web.StreamResponse):
    """A response whose bytes were written without aiohttp."""

    async def prepare(self, request: web.BaseRequest) -> None: ...

    async def write_eof(self, data: bytes = b"") -> None: ...


def _accepted(request: web.Request) -> bytes:
    key = request.headers[hdrs.SEC_WEBSOCKET_KEY].strip().encode()
    return switching(key, SUBPROTOCOL.encode() if SUBPROTOCOL in offered_subprotocols(request) else b"")
