"""WebSocket: the upgrade, the messages, the close handshake (RFC 6455).

aiohttp reads the request; behind it the bytes of the connection go to an `Inbox` of ours. aiohttp's own parser joins
fragments without counting them, and hands messages over behind a queue that outlives the connection.
"""

import base64
import hashlib
from typing import Any, cast

from aiohttp import hdrs, web

from wsbridge.connections.client_address import address_of
from wsbridge.connections.websocket_handshake import check_handshake, offered_subprotocols
from wsbridge.core.close_codes import INTERNAL, LOST, Close, Refused
from wsbridge.core.events import Entry, Position
from wsbridge.core.frames import PING_FRAME, close_frame, text_frame
from wsbridge.core.messages import SUBPROTOCOL, goodbye, update
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.opening import SessionOpener
from wsbridge.sessions.state import State
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.base import BaseConnection
from wsbridge.transports.client_messages import ClientMessages
from wsbridge.transports.inbox import Inbox

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class WebSocketConnection(BaseConnection):
    """Frames of ours, written here."""

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
        """Send our part of the close; the peer has 2 s for its own."""
        self.write(close_frame(close))
        self.abort_later()
        if self.peer_has_closed:
            self.over()


class WebSocketHandler:
    """Handles `GET /ws`."""

    def __init__(self, opener: SessionOpener, admission: Admission, metrics: Metrics) -> None:
        self._opener = opener
        self._admission = admission
        self._metrics = metrics

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until its end."""
        self._check(request)
        response = _upgrade(request)
        writer = await response.prepare(request)
        transport = request.transport
        if transport is None or writer is None:  # the client disconnected during the handshake
            return response
        connection = WebSocketConnection(transport, writer)
        inbox = Inbox(connection)
        request.protocol.set_parser(cast("Any", inbox))  # typed as aiohttp's own reader, used as any parser
        try:
            await self._serve(request, connection, inbox)
        finally:
            connection.finish()
        return response

    def _check(self, request: web.Request) -> None:
        """Answer what must not be upgraded: to a load balancer, a status says more than a close."""
        try:
            check_handshake(request)
        except web.HTTPBadRequest as bad:
            self._metrics.failed("bad_request")
            log.info("request.bad", peer=address_of(request), error=bad.text)
            raise
        if self._admission.draining:
            raise web.HTTPServiceUnavailable(text="The server is shutting down.", headers={hdrs.RETRY_AFTER: "1"})

    async def _serve(self, request: web.Request, connection: WebSocketConnection, inbox: Inbox) -> None:
        try:
            asked = request.query.get("last_event_id")
            session, resume, hello = await self._opener.open(request, connection, asked)
        except Refused as refused:
            await _refuse(connection, inbox, refused.close)
            return
        except Exception as failure:  # the task boundary
            self._metrics.internal("admit", failure, session="")
            await _refuse(connection, inbox, INTERNAL)
            return
        try:
            if connection.is_over:
                session.drop(LOST.reason)
            session.attach(resume, hello)
            await self._talk(connection, inbox, ClientMessages(session, self._metrics))
        except ConnectionError:
            session.drop(LOST.reason)
        except Exception as failure:  # the task boundary: this connection ends, the others go on
            session.fail("talk", failure)
            if session.state is State.JOINING:  # it sends no close before its `connected`
                connection.send_close(INTERNAL)
            await connection.wait_for_end()
        finally:
            session.leave()

    async def _talk(self, connection: WebSocketConnection, inbox: Inbox, messages: ClientMessages) -> None:
        """Do what takes time: check tokens, and write to a slow peer. All else is done as soon as bytes come."""
        session = messages.session
        inbox.open(messages)
        while not connection.is_over:
            if messages.token is not None:
                await self._admission.reauthenticate(session, messages.token)
                messages.token = None
                inbox.take_waiting()
            await session.pump()
            await connection.wait()


async def _refuse(connection: WebSocketConnection, inbox: Inbox, close: Close) -> None:
    """Close a connection that was accepted for this close alone: a page cannot see the status of a handshake."""
    if close.reconnect and close.code < 4000:  # noqa: PLR2004 - WebKitGTK shows pages 1012 and 1013 as 1006
        connection.write(text_frame(goodbye(close)))
    connection.send_close(close)
    inbox.open(None)
    await connection.wait_for_end()


def _upgrade(request: web.Request) -> web.StreamResponse:
    """RFC 6455 §4.2.2; extensions are never taken."""
    key = request.headers[hdrs.SEC_WEBSOCKET_KEY].strip().encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # noqa: S324 - the protocol's, no secret
    headers = {hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "upgrade", hdrs.SEC_WEBSOCKET_ACCEPT: accept}
    if SUBPROTOCOL in offered_subprotocols(request):
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = SUBPROTOCOL
    response = web.StreamResponse(status=101, headers=headers)
    response.force_close()
    return response
