"""WebSocket: the upgrade, the frames, the close handshake (RFC 6455). Knows nothing of events."""

import asyncio
import time

from aiohttp import WebSocketError, WSMessage, WSMsgType, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from wsbridge import frames
from wsbridge.admission import Admission
from wsbridge.event import Entry, Position
from wsbridge.handshake import check_handshake, with_one_protocol_line
from wsbridge.keys import Unavailable
from wsbridge.log import log
from wsbridge.metrics import Metrics
from wsbridge.peer import address_of
from wsbridge.protocol import (
    INTERNAL,
    MAX_MESSAGE_BYTES,
    NO_STATUS,
    PING_FRAME,
    POLICY,
    PONG,
    SUBPROTOCOL,
    UNSUPPORTED,
    Auth,
    Bad,
    Close,
    Ping,
    Refused,
    authenticated,
    close_frame,
    error,
    pong_frame,
    read,
    text_frame,
    update,
)
from wsbridge.session import Session, State
from wsbridge.wire import CLOSE_TIMEOUT, TransportWire

BAD_MESSAGES, BAD_WINDOW = 10, 60.0  # so many within so many seconds end a session
MESSAGES_PER_SECOND = 100  # beyond, the socket is not read for the rest of the second: TCP slows the peer down


class WebSocketWire(TransportWire):
    """aiohttp parses what comes in; what goes out is framed and written here."""

    __slots__ = ("_ws",)
    kind = "websocket"
    ping_interval = None  # the bridge's own
    answers = True

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, writer: AbstractStreamWriter) -> None:
        super().__init__(transport, writer)
        self._ws = ws

    def update(self, entry: Entry) -> bytes:
        return text_frame(update(entry))

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        return text_frame(payload)

    def write(self, data: bytes) -> None:
        if not (self._ws.closed or self._transport.is_closing()):  # aiohttp closes by itself on protocol errors
            self._transport.write(data)

    def is_gone(self) -> bool:
        return False  # the handler, which reads, notices first

    def ping(self) -> None:
        self.write(PING_FRAME)

    def pong(self, payload: bytes) -> None:
        self.write(pong_frame(payload))

    def end(self, close: Close) -> None:
        """Send our part of the close; the peer has 2 s for its own."""
        self.write(close_frame(close))
        self.abort_later()

    def echo(self, close: Close) -> None:
        """Answer the peer's close with its own code, unless ours came first."""
        if not self.is_ending:
            self.write(close_frame(Close(close.code, "")))


class WebSocketDoor:
    """`GET /ws`."""

    def __init__(self, admission: Admission, metrics: Metrics) -> None:
        self._admission = admission
        self._metrics = metrics

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """The whole life of one connection."""
        try:
            check_handshake(request)
        except web.HTTPBadRequest as bad:
            self._metrics.failed("bad_request")
            log.info("request.bad", peer=address_of(request), error=bad.text)
            raise
        if self._admission.draining:
            raise web.HTTPServiceUnavailable(text="This server is leaving.", headers={hdrs.RETRY_AFTER: "1"})
        ws = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT,
            autoclose=False,
            autoping=False,
            heartbeat=None,
            compress=False,
            protocols=(SUBPROTOCOL,),
            max_msg_size=MAX_MESSAGE_BYTES + 1,  # aiohttp refuses exactly its value
        )
        writer = await ws.prepare(with_one_protocol_line(request))
        transport = request.transport
        if transport is None:  # it left during the handshake
            return ws
        wire = WebSocketWire(ws, transport, writer)
        try:
            await self._talk(request, ws, wire)
        finally:
            wire.finish()
            frames.release(ws.exception())  # it holds the request, and aiohttp's response holds it
        return ws

    async def _talk(self, request: web.Request, ws: web.WebSocketResponse, wire: WebSocketWire) -> None:
        try:
            session, resume, hello = await self._admission.admit(request, wire, request.query.get("last_event_id"))
        except Refused as refused:
            wire.end(refused.close)
            await _await_close(ws, wire)
            return
        except Exception as failure:  # the task boundary
            self._fail("admit", "", failure)
            wire.end(INTERNAL)
            return
        peers: Close | None = None
        try:
            await session.attach(resume, hello)
            peers = await self._listen(ws, wire, session)
        except Exception as failure:  # the task boundary: this connection ends, the others do not notice
            self._fail("talk", session.id, failure)
            session.end(INTERNAL)
            peers = await _await_close(ws, wire)
        finally:
            self._admission.close(session, peers)

    async def _listen(self, ws: web.WebSocketResponse, wire: WebSocketWire, session: Session) -> Close | None:
        """Answer the peer until one side closes; the peer's close, or None if there was none."""
        clock = time.monotonic
        session.heard = window = clock()  # a replay may have taken long, and nobody listened meanwhile
        count = 0
        bad: list[float] = []
        while True:
            message = await ws.receive()
            session.heard = now = clock()
            match message.type:
                case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED | WSMsgType.ERROR:
                    return _close_of(wire, message)
                case _ if session.state is State.CLOSED:
                    continue  # what comes after our close is not for us (RFC 6455 §1.4)
                case WSMsgType.TEXT:
                    session.received += 1
                    await self._answer(session, message.data, bad)
                case WSMsgType.PING:
                    wire.pong(message.data)
                    session.bound()
                case WSMsgType.BINARY:
                    session.end(UNSUPPORTED)
                case _:
                    pass
            count += 1
            if now - window >= 1:
                window, count = now, 0
            elif count >= MESSAGES_PER_SECOND:
                await asyncio.sleep(window + 1 - now)

    async def _answer(self, session: Session, text: str, bad: list[float]) -> None:
        match read(text):
            case Ping():
                self._metrics.heard("ping", len(text))
                session.send(PONG)
            case Auth(token):
                self._metrics.heard("auth", len(text))
                await self._reauthenticate(session, token)
            case Bad(reason):
                self._metrics.heard("bad", len(text))
                session.send(error("bad_message", reason))
                bad[:] = [at for at in bad if session.heard - at < BAD_WINDOW] + [session.heard]
                if len(bad) >= BAD_MESSAGES:
                    session.end(POLICY)

    async def _reauthenticate(self, session: Session, token: str) -> None:
        try:
            left = await self._admission.reauthenticate(session, token)
        except Refused as refused:
            log.warning("auth.failed", session=session.id, user=session.user, code=refused.close.code,
                        reason=refused.close.reason, why=str(refused))  # fmt: skip
            session.end(refused.close)
        except Unavailable:
            session.send(error("unavailable", "the token cannot be checked now; send it again later"))
        else:
            session.send(authenticated(left))

    def _fail(self, doing: str, session: str, failure: Exception) -> None:
        self._metrics.failed("internal")
        log.error("internal.error", doing=doing, session=session, exc_info=failure)


async def _await_close(ws: web.WebSocketResponse, wire: WebSocketWire) -> Close | None:
    """Wait for the peer's part of a close; the timer that our part has set is the deadline."""
    while True:
        message = await ws.receive()
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return _close_of(wire, message)


def _close_of(wire: WebSocketWire, message: WSMessage) -> Close | None:
    """What the peer said last, or what aiohttp has told it; None if the connection just broke."""
    if message.type is WSMsgType.CLOSE:
        close = Close(message.data, message.extra or "") if message.data else NO_STATUS
        wire.echo(close)
        return close
    if isinstance(message.data, WebSocketError):  # aiohttp has sent a close of its own
        return Close(int(message.data.code), "protocol_error")
    return None
