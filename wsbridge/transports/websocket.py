"""WebSocket: the upgrade, the messages, the close handshake (RFC 6455). Knows nothing of events.

aiohttp reads the request; behind it the bytes of the connection go to an `Inbox` of ours. aiohttp's own parser joins
fragments without counting them, and hands messages over behind a queue that outlives the connection.
"""

import base64
import hashlib
import time
from typing import Any, cast

from aiohttp import hdrs, web

from wsbridge.auth.keys import Unavailable
from wsbridge.connections.client_address import address_of
from wsbridge.connections.websocket_handshake import check_handshake, offered_subprotocols
from wsbridge.core.close_codes import INTERNAL, LOST, POLICY, Close, Refused
from wsbridge.core.events import Entry, Position
from wsbridge.core.frames import PING_FRAME, close_frame, text_frame
from wsbridge.core.messages import (
    PONG,
    SUBPROTOCOL,
    Auth,
    Invalid,
    Ping,
    authenticated,
    error,
    goodbye,
    read_message,
    update,
)
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.session import Session, State
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.base import BaseConnection
from wsbridge.transports.inbox import Inbox

BAD_MESSAGES, BAD_WINDOW = 10, 60.0  # so many within so many seconds end a session
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

    def end(self, close: Close) -> None:
        """Send our part of the close; the peer has 2 s for its own."""
        self.write(close_frame(close))
        self.abort_later()
        if self.peer_has_closed:
            self.over()


class WebSocketHandler:
    """`GET /ws`."""

    def __init__(self, admission: Admission, metrics: Metrics) -> None:
        self._admission = admission
        self._metrics = metrics

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """The whole life of one connection."""
        try:
            check_handshake(request)
        except web.HTTPBadRequest as bad:
            self._metrics.failed("bad_request")
            log.info("request.bad", peer=address_of(request), error=bad.text)
            raise
        if self._admission.draining:
            raise web.HTTPServiceUnavailable(text="The server is shutting down.", headers={hdrs.RETRY_AFTER: "1"})
        response = _upgrade(request)
        writer = await response.prepare(request)
        transport = request.transport
        if transport is None or writer is None:  # it left during the handshake
            return response
        connection = WebSocketConnection(transport, writer)
        talk = Talk(request, connection, self._admission, self._metrics)
        try:
            await talk.run()
        finally:
            talk.release()
            connection.finish()
        return response


class Talk:
    """One connection from its upgrade to its end: who it is, and what it says."""

    def __init__(
        self, request: web.Request, connection: WebSocketConnection, admission: Admission, metrics: Metrics
    ) -> None:
        self._request = request
        self._connection = connection
        self._admission = admission
        self._metrics = metrics
        self._session: Session | None = None
        self._token: str | None = None  # of an `auth` message, until it was checked
        self._bad: list[float] | None = None  # when messages came that were not understood
        self._inbox = Inbox(connection, ended=self._lost, hear=self._hear, failed=self._failed)
        request.protocol.set_parser(cast("Any", self._inbox))  # typed as aiohttp's own reader, used as any parser

    async def run(self) -> None:
        try:
            asked = self._request.query.get("last_event_id")
            session, resume, hello = await self._admission.admit(self._request, self._connection, asked)
        except Refused as refused:
            await self._refuse(refused.close)
            return
        except Exception as failure:  # the task boundary
            self._fail("admit", "", failure)
            await self._refuse(INTERNAL)
            return
        self._session = session
        try:
            if self._connection.is_over:
                session.drop(LOST.reason)
            session.attach(resume, hello)
            self._inbox.session = session
            self._inbox.open()
            await self._converse(session)
        except ConnectionError:
            session.drop(LOST.reason)
        except Exception as failure:  # the task boundary: this connection ends, the others do not notice
            self._failed(failure)
            if session.state is State.JOINING:  # it cannot say even that itself
                self._connection.end(INTERNAL)
            await self._connection.wait_for_end()
        finally:
            self._admission.close(session, self._inbox.peers_close)

    def release(self) -> None:
        self._inbox.release()

    async def _refuse(self, close: Close) -> None:
        """The connection was accepted for this close alone."""
        if close.reconnect and close.code < 4000:  # noqa: PLR2004 - WebKitGTK shows pages 1012 and 1013 as 1006
            self._connection.write(text_frame(goodbye(close)))
        self._connection.end(close)
        self._inbox.open()
        await self._connection.wait_for_end()

    async def _converse(self, session: Session) -> None:
        """Do what has to wait: check a token, write to a slow peer. All else is done when it comes."""
        while not self._connection.is_over:
            if self._token is not None:
                await self._reauthenticate(session, self._token)
                self._token = None
                self._inbox.open()
            await session.pump()
            await self._connection.wait()

    def _lost(self) -> None:
        if self._session is not None:
            self._admission.close(self._session, self._inbox.peers_close)

    def _hear(self, text: str) -> None:
        session = self._session
        if session is None:
            return
        match read_message(text):
            case Ping():
                self._metrics.heard("ping", len(text))
                session.send(PONG)
            case Auth(token):
                self._metrics.heard("auth", len(text))
                self._token = token
                self._inbox.shut()
                self._connection.wake()
            case Invalid(reason):
                self._metrics.heard("bad", len(text))
                session.send(error("bad_message", reason))
                self._count_bad(session)

    def _count_bad(self, session: Session) -> None:
        now = time.monotonic()
        self._bad = [at for at in self._bad or () if now - at < BAD_WINDOW] + [now]
        if len(self._bad) >= BAD_MESSAGES:
            session.end(POLICY)

    async def _reauthenticate(self, session: Session, token: str) -> None:
        try:
            left = await self._admission.reauthenticate(session, token)
        except Refused as refused:
            self._metrics.failed("auth")
            log.warning("auth.failed", session=session.id, user=session.user, code=refused.close.code,
                        reason=refused.close.reason, why=str(refused))  # fmt: skip
            session.end(refused.close)
        except Unavailable:
            session.send(error("unavailable", "the token cannot be checked now; send it again later"))
        else:
            session.send(authenticated(left))

    def _failed(self, failure: Exception) -> None:
        session = self._session
        self._fail("talk", session.id if session else "", failure)
        if session is not None:
            session.end(INTERNAL)

    def _fail(self, doing: str, session: str, failure: Exception) -> None:
        self._metrics.internal(doing, failure, session=session)


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
