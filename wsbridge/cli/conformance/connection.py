"""A connection of the client under test: a WebSocket, or a stream of Server-Sent Events."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod

import msgspec
from aiohttp import WSMsgType, web

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Position
from wsbridge.core.messages import PONG, SUBPROTOCOL, FromClient, authenticated, error, goodbye, read_message
from wsbridge.transports.sse import COMMENT_INTERVAL, event

CLOSE_TIMEOUT = 2.0  # seconds for the client's part of a close


class Violation(Exception):  # noqa: N818 - of the protocol, by the client
    """The client did what docs/protocol.md forbids, or not what it demands; the text says what."""


class Connection(ABC):
    """One connection of the client. Nothing is answered before `accept` or `refuse`."""

    left = ""  # how the client has ended the connection, for people; "" if it has not
    response: web.StreamResponse

    def __init__(self, request: web.Request) -> None:
        self.at = time.monotonic()
        self.position = request.headers.get("Last-Event-ID") or request.query.get("last_event_id") or None
        self.token = _token(request)
        self.auths: list[str] = []  # the tokens of `auth` messages
        self.silent = False  # if True, it gives no sign of life
        self._request = request
        self._refusal: asyncio.Future[web.Response | None] = asyncio.get_running_loop().create_future()
        self._answered = asyncio.Event()

    async def accept(self, *messages: bytes) -> None:
        """Answer the request and send these messages."""
        self._refusal.set_result(None)
        await self._answered.wait()
        if not self.response.prepared:
            raise Violation("its request is not a WebSocket handshake")
        await self.send(*messages)

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer the request with this status, and a problem document as the bridge's."""
        body = {"type": "about:blank", "status": status, "detail": reason}
        headers = {"Retry-After": "1"}
        self._refusal.set_result(
            web.json_response(body, status=status, headers=headers, content_type="application/problem+json")
        )

    def cut(self) -> None:
        """End the connection without a close. The client gets what was sent before."""
        if self._request.transport is not None:
            self._request.transport.close()

    async def serve(self) -> web.StreamResponse:
        """Handle the request, up to the end of the connection."""
        if refusal := await self._refusal:
            return refusal
        try:
            await self.response.prepare(self._request)
        finally:
            self._answered.set()
        await self._last()
        return self.response

    @abstractmethod
    async def send(self, *messages: bytes) -> None: ...

    @abstractmethod
    async def close(self, code: int, reason: str) -> None: ...

    @abstractmethod
    async def _last(self) -> None:
        """Return at the end of the connection."""


class Socket(Connection):
    """A WebSocket."""

    def __init__(self, request: web.Request) -> None:
        super().__init__(request)
        self.response: web.WebSocketResponse = web.WebSocketResponse(
            compress=False, autoping=False, timeout=CLOSE_TIMEOUT, max_msg_size=0, protocols=(SUBPROTOCOL,)
        )

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            await self.response.send_str(message.decode())

    async def close(self, code: int, reason: str) -> None:
        """Close, and wait for the client's close frame."""
        await self.response.close(code=code, message=reason.encode())

    @property
    def left(self) -> str:  # type: ignore[override] # of a stream it is constant
        code = self.response.close_code
        return f"; it has closed a connection with {code}" if code else ""

    async def _last(self) -> None:
        async for message in self.response:
            if self.silent:
                continue
            if message.type is WSMsgType.PING:
                await self.response.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self.send(self._answer(read_message(message.data)))

    def _answer(self, message: FromClient) -> bytes:
        if message.kind == "bad":
            return error("bad_message", message.text)
        if message.kind == "ping":
            return PONG
        self.auths.append(message.text)
        return authenticated(3_600_000)


class Stream(Connection):
    """A stream of Server-Sent Events. It has no close frames: a goodbye has the code."""

    def __init__(self, request: web.Request) -> None:
        super().__init__(request)
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        self._is_announced = False  # whether the last message was a goodbye
        self._over = asyncio.Event()

    async def send(self, *messages: bytes) -> None:
        """Write the events, each in two parts: a client must not depend on where a read ends."""
        for message in messages:
            fields = msgspec.json.decode(message)
            self._is_announced = fields["type"] == "goodbye"
            text = event(message, Position.parse(fields.get("id") or fields.get("last_event_id") or ""))
            for part in (text[: len(text) // 2], text[len(text) // 2 :]):
                await self.response.write(part)

    async def close(self, code: int, reason: str) -> None:
        if not self._is_announced:
            await self.send(goodbye(Close(code, reason)))
        self._over.set()

    async def _last(self) -> None:
        """Write a comment from time to time."""
        with contextlib.suppress(ConnectionError):
            while not self._over.is_set():
                if not self.silent:
                    await self.response.write(b":\n\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COMMENT_INTERVAL):
                        await self._over.wait()


def _token(request: web.Request) -> str | None:
    """The token of a request: in its header, a subprotocol or the query."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    for name in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if name.strip().startswith("bearer."):
            return name.strip().removeprefix("bearer.")
    return request.query.get("token")
