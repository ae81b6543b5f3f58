"""One client in one scenario: its connections, the lines that it prints, and its end."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import WSMsgType, web

from wsbridge.core.messages import PONG, SUBPROTOCOL, FromClient, authenticated, error, read_message

PATIENCE = 30.0  # seconds for what a client must do; the longest wait before it reconnects is 20 s
CLOSE_TIMEOUT = 2.0  # seconds for the client's part of a close
GRACE = 10.0  # seconds for a client to print, to answer or to end


class Violation(Exception):  # noqa: N818 - of the protocol, by the client
    """The client did what docs/protocol.md forbids, or not what it demands; the text says what."""


class Connection:
    """One connection of the client. Nothing is answered before `accept` or `refuse`."""

    def __init__(self, request: web.Request) -> None:
        self.at = time.monotonic()
        self.position = request.query.get("last_event_id") or None
        self.token = _token(request)
        self.auths: list[str] = []  # the tokens of `auth` messages
        self.silent = False  # if True, it answers no ping
        self._request = request
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answered = asyncio.Event()
        self._ws = web.WebSocketResponse(
            compress=False, autoping=False, timeout=CLOSE_TIMEOUT, max_msg_size=0, protocols=(SUBPROTOCOL,)
        )

    async def accept(self, *messages: bytes) -> None:
        """Answer the handshake and send these messages."""
        self._status.set_result(HTTPStatus.SWITCHING_PROTOCOLS)
        await self._answered.wait()
        if not self._ws.prepared:
            raise Violation("its request is not a WebSocket handshake")
        await self.send(*messages)

    def refuse(self, status: int) -> None:
        """Answer the handshake with a status other than 101."""
        self._status.set_result(status)

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            await self._ws.send_str(message.decode())

    async def close(self, code: int, reason: str) -> None:
        """Close, and wait for the client's close frame."""
        await self._ws.close(code=code, message=reason.encode())

    def cut(self) -> None:
        """End the connection without a close frame. The client gets what was sent before."""
        if self._request.transport is not None:
            self._request.transport.close()

    @property
    def left(self) -> str:
        """How the client has ended the connection, for people; "" if it has not."""
        return f"; it has closed a connection with {self._ws.close_code}" if self._ws.close_code else ""

    async def serve(self) -> web.StreamResponse:
        """Handle the request, up to the end of the connection."""
        status = await self._status
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            return web.Response(status=status, headers={"Retry-After": "1"})
        try:
            await self._ws.prepare(self._request)
        finally:
            self._answered.set()
        async for message in self._ws:
            if self.silent:
                continue
            if message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self.send(self._answer(read_message(message.data)))
        return self._ws

    def _answer(self, message: FromClient) -> bytes:
        if message.kind == "bad":
            return error("bad_message", message.text)
        if message.kind == "ping":
            return PONG
        self.auths.append(message.text)
        return authenticated(3_600_000)


class Trial:
    """A scenario awaits what the client must do. Each method raises `Violation` if the client does not."""

    def __init__(self) -> None:
        self.tokens = 0  # that the client has fetched
        self.lines: list[str] = []
        self._connections: list[Connection] = []  # that the scenario has not seen yet
        self._arrived: list[Connection] = []
        self._ended: str | None = None
        self._news = asyncio.Event()

    def arrived(self, connection: Connection) -> None:
        self._connections.append(connection)
        self._arrived.append(connection)
        self._news.set()

    def printed(self, line: str) -> None:
        self.lines.append(line)
        self._news.set()

    def ended(self, how: str) -> None:
        """The client has ended, or it says that it gave up; `how` is for the reader of the verdict."""
        self._ended = how
        self._news.set()

    async def next(self, seconds: float) -> Connection | None:
        """The client's next connection, or None if it opens none within this time."""
        await self._until(lambda: bool(self._connections) or self._ended is not None, seconds)
        return self._connections.pop(0) if self._connections else None

    async def connects(self, *, after: str | None = None) -> Connection:
        """Wait for the client's next connection, which must resume after this position."""
        connection = await self.next(PATIENCE)
        if connection is None:
            gone = f"the client ended ({self._ended})" if self._ended is not None else f"none within {PATIENCE:g} s"
            raise Violation(f"expected a connection: {gone}")
        if connection.position != after:
            asked = f"last_event_id={connection.position}" if connection.position else "no last_event_id"
            raise Violation(f"connected with {asked}; expected {after or 'none'}")
        return connection

    async def prints(self, *lines: str) -> None:
        """Wait for these lines, which must be all that the client has printed."""
        expected = list(lines)
        await self._until(lambda: len(self.lines) >= len(expected) or self._ended is not None, GRACE)
        if self.lines != expected:
            left = next((connection.left for connection in self._arrived if connection.left), "")
            raise Violation(f"printed {' '.join(self.lines) or 'nothing'}; expected {' '.join(expected)}{left}")

    async def gives_up(self) -> None:
        """Wait for the end of the client, which must not connect again."""
        await self._until(lambda: bool(self._connections) or self._ended is not None, GRACE)
        if self._connections:
            raise Violation("connected again; expected the client to end")
        if self._ended is None:
            raise Violation(f"neither ended nor connected again within {GRACE:g} s; expected the client to end")

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for the condition, at most for this time."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass


def _token(request: web.Request) -> str | None:
    """The token of a handshake: in its header, a subprotocol or the query."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    for name in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if name.strip().startswith("bearer."):
            return name.strip().removeprefix("bearer.")
    return request.query.get("token")
