"""Server-Sent Events for networks that block WebSockets: a stream with the same sessions.

HTML standard §9.2. The stream is written to the transport in own HTTP chunks (RFC 9112 §7.1), so that the broadcaster
can treat it like a socket.
"""

import asyncio
import re
import socket
from dataclasses import dataclass

from aiohttp import HttpVersion11, hdrs, web

from wsbridge.auth.origins import Origins
from wsbridge.connections.handover import hand_over
from wsbridge.core.close_codes import (
    INTERNAL,
    LOST,
    ORIGIN_FORBIDDEN,
    SHUTDOWN,
    TOKEN_MISSING,
    USER_ID_REQUIRED,
    Close,
    Refused,
)
from wsbridge.core.events import Entry, Position
from wsbridge.core.messages import goodbye, update
from wsbridge.sessions.opening import SessionOpener
from wsbridge.transports.base import BaseConnection

COMMENT_INTERVAL = 15.0  # seconds between two comment lines
RETRY = 30.0  # seconds until a refused client tries again
RETRY_ELSEWHERE = 1.0  # the same during a shutdown: another replica answers now, or the next process soon
_HEAD = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-cache, no-store, no-transform",  # a proxy that compresses the stream would hold it back
    "X-Accel-Buffering": "no",  # nginx would buffer it
}
_PREFLIGHT = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Cache-Control, Last-Event-ID",
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
}
_STATUS: dict[int, type[web.HTTPException]] = {
    TOKEN_MISSING.code: web.HTTPUnauthorized,
    USER_ID_REQUIRED.code: web.HTTPBadRequest,
    ORIGIN_FORBIDDEN.code: web.HTTPForbidden,
}
_LAST_CHUNK = b"0\r\n\r\n"
_LINE_END = re.compile(rb"\r\n|\n|\r")


def event(payload: bytes, position: Position | None = None) -> bytes:
    """One message as an event. Its type is that of the message, which is its first field."""
    kind = payload[9 : payload.index(b'"', 9)]  # after {"type":"
    head = b"event: %b\n" % kind + (b"id: %b\n" % str(position).encode() if position else b"")
    return head + b"".join(b"data: %b\n" % line for line in _LINE_END.split(payload)) + b"\n"


class SseConnection(BaseConnection):
    """Events in chunks. The peer sends nothing, not even a ping, so the kernel must detect that it has vanished."""

    __slots__ = ("_chunked",)
    transport_name = "sse"
    ping_interval = COMMENT_INTERVAL
    answers = False

    def __init__(self, request: web.Request, transport: asyncio.Transport, *, ping_timeout: float) -> None:
        super().__init__(transport)
        self._chunked = request.version >= HttpVersion11
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(ping_timeout * 1000))

    def update(self, entry: Entry) -> bytes:
        return self.frame(update(entry), Position(entry.epoch, entry.offset))

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        return event(payload, position)

    def write(self, data: bytes | memoryview) -> None:
        super().write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if self._chunked else data)

    def ping(self) -> None:
        self.write(b":\n\n")

    def send_close(self, close: Close) -> None:
        """End the stream. A goodbye was written before, if there is one."""
        if self._chunked:
            super().write(_LAST_CHUNK)
        self.over()


class TracedStream(SseConnection):
    """Its updates carry their `traceparent`."""

    __slots__ = ()

    def update(self, entry: Entry) -> bytes:
        return self.frame(update(entry, entry.span), Position(entry.epoch, entry.offset))


@dataclass(eq=False)
class SseHandler:
    """`GET /sse`. `ping_timeout` is in seconds: how long the kernel waits until a peer acknowledges sent bytes."""

    opener: SessionOpener
    origins: Origins
    ping_timeout: float
    traced: bool = False

    async def preflight(self, request: web.Request) -> web.Response:
        """Answer a CORS preflight. Pages of all origins may send their headers, so that they can read a refusal."""
        return web.Response(status=204, headers=self.origins.refusal_cors(request) | _PREFLIGHT)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Open a stream. It continues without this handler."""
        cors = self.origins.cors(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError  # the client has disconnected already, and the socket may have no descriptor
        connection_type = TracedStream if self.traced else SseConnection
        connection = connection_type(request, transport, ping_timeout=self.ping_timeout)
        asked = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
        try:
            session, resume, hello = await self.opener.open(request, connection, asked)
        except Refused as refused:
            if refused.close is ORIGIN_FORBIDDEN:
                cors = self.origins.refusal_cors(request)
            return await _refuse(request, refused, cors)
        except Exception as failure:  # the task boundary; with the status 500 an `EventSource` would never try again
            self.opener.metrics.internal("admit", failure, session="")
            return await _refuse(request, Refused(INTERNAL), cors)
        response = web.StreamResponse(headers=_HEAD | cors)
        try:
            await _prepare(response, request)
        except BaseException:
            session.drop(LOST.reason)
            session.leave()
            raise
        hand_over(request, connection)
        connection.serve(session, resume, hello)
        return response


async def _prepare(response: web.StreamResponse, request: web.Request) -> None:
    response.force_close()  # the stream is the last response on its connection
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    await response.prepare(request)


async def _refuse(request: web.Request, refused: Refused, cors: dict[str, str]) -> web.StreamResponse:
    """Refuse a stream. An error status ends an `EventSource`, so only a problem that the page must solve gets one."""
    close = refused.close
    if close.code in _STATUS:
        raise _STATUS[close.code](text=close.reason, headers=cors)
    response = web.StreamResponse(headers=_HEAD | cors)
    await _prepare(response, request)
    seconds = RETRY_ELSEWHERE if close is SHUTDOWN else RETRY
    await response.write(b"retry: %d\n" % (seconds * 1000) + event(goodbye(close, reconnect_after=seconds)))
    await response.write_eof()
    return response
