"""A client in Python: iterates over the messages of a user, reconnects by the close codes, and resumes.

    async with Client("wss://push.example.com/ws", token=get_token) as client:
        async for message in client:
            if message.type == "gap":  # events are lost
                await load_again()
            elif message.event:
                await handle(message.data)

Built on one `connect()` of the websockets library for each connection, not on its reconnecting iterator. That iterator
keeps URL and headers, but the position and the token change with each connection, and the bridge's close codes decide
whether and when to reconnect. aiohttp's client would take twice as long to import.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

from wsbridge.core.close_codes import LOST, SLOW_CONSUMER, TOKEN_MISSING, Close

LEAST_DELAY, MOST_DELAY = 0.5, 20.0  # seconds until the next attempt to connect
STABLE = 5.0  # seconds after which a connection resets the backoff
CONNECT_TIMEOUT = 10.0  # seconds
PING_INTERVAL, PING_TIMEOUT = 30.0, 15.0  # seconds: a server that vanished is noticed within their sum
CLOSE_TIMEOUT = 2.0  # seconds for the server's part of a close
LEAST_OWN = 4000  # a goodbye is more reliable than a smaller close code, docs/protocol.md
MAX_MESSAGE_BYTES = 16_777_216  # sixteen times the largest event of a bridge with its default settings
TOO_BIG = Close(1009, "max_message_bytes")  # this client closed the connection, because a message is over its bound
_AT_ONCE = (TOKEN_MISSING.code, SLOW_CONSUMER.code)  # reconnected without a delay, once until a connection is stable
_TEMPORARY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

Cause = Close | HTTPStatus | int | WebSocketException | OSError  # why a connection ended or was not opened


class Ended(Exception):  # noqa: N818 - every client does
    """The client does not reconnect. `cause` is the close, or the HTTP status that refused the handshake."""

    def __init__(self, cause: Cause, text: str = "") -> None:
        super().__init__(text or str(cause))
        self.cause = cause


class Message(msgspec.Struct):
    """A message of the bridge, as in docs/protocol.md. Fields that its type does not have are empty."""

    type: str = ""  # "" if the message is not understood
    event: msgspec.Raw = msgspec.Raw()  # the JSON of an event, verbatim
    event_id: str | None = None
    traceparent: str | None = None
    user_id: str | None = None
    id: str | None = None
    last_event_id: str | None = None
    after: str | None = None
    reason: str = ""
    recovered: bool | None = None
    code: int | str = 0  # of a goodbye or an error
    timestamp: str = ""
    reconnect: bool = False
    reconnect_after_ms: float = 0.0
    expires_in_ms: float | None = None
    text: msgspec.Raw = msgspec.Raw()  # the whole message, as it was received

    @property
    def data(self) -> Any:
        """The event as a Python value."""
        return msgspec.json.decode(self.event)


_decode = msgspec.json.Decoder(Message).decode


def read(text: bytes) -> Message:
    """Decode a message. Never fails: one that is not understood has no type."""
    try:
        message = _decode(text)
    except (ValueError, RecursionError):
        message = Message()
    message.text = msgspec.Raw(text)
    return message


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield seconds without end: a random wait whose upper bound doubles from LEAST_DELAY to MOST_DELAY.

    The random number is drawn below the bound and not added to it, so that clients differ also at the bound.
    """
    longest = LEAST_DELAY
    while True:
        yield uniform(LEAST_DELAY / 2, longest)
        longest = min(MOST_DELAY, 2 * longest)


@dataclass(eq=False)
class Client:
    """Iterates over the messages of one user until a close code forbids reconnecting. Then it raises `Ended`.

    `token` is a token, or a function that returns one for each connection. `user` is needed without a token only.
    `position` is that of the last message that the loop has finished: save it to resume with another client.
    A message over `max_message_bytes` is not read, and raises `Ended`: it would come again after each reconnect.
    `on_attempt` is called before each connection, `on_disconnect` after it with the seconds until the next one.
    Raises `ValueError` if the URL is not one of ws, wss, http or https.
    """

    url: str
    user: str | None = None
    token: str | Callable[[], Awaitable[str | None]] | None = None
    position: str | None = None
    on_attempt: Callable[[], object] = lambda: None
    on_disconnect: Callable[[Cause, float], object] = lambda _cause, _seconds: None
    new_delays: Callable[[], Iterator[float]] = delays
    clock: Callable[[], float] = time.monotonic
    max_message_bytes: int = MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as wss://push.example.com/ws")
        self._ws: ClientConnection | None = None
        self._last: Message | None = None  # the loop may not have finished it yet
        self._delays = self.new_delays()
        self._due = 0.0  # the time for the next connection, on the clock
        self._goodbye: Message | None = None  # of this connection
        self._return_at = 0.0  # the same, from a goodbye
        self._connected_at: float | None = None
        self._retried_at_once = False  # and no connection has been stable since then

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message, over as many connections as it takes. Raises `Ended`."""
        if self._last and self._last.recovered is not False:  # otherwise the gap that follows has the position
            self.position = self._last.id or self._last.last_event_id or self.position
        self._last = None
        while True:
            ws = self._ws or await self._connect()
            if ws is None:
                continue
            try:
                text = await ws.recv(decode=False)
            except ConnectionClosed as closed:
                self._ws = None
                self._closed(_close_of(closed))
            else:
                return self._received(read(text))

    async def _connect(self) -> ClientConnection | None:
        """Wait until it is time, and try once."""
        await asyncio.sleep(self._due - self.clock())  # a caller that was cancelled meanwhile waits for the rest
        self._connected_at, self._goodbye, self._return_at = None, None, 0.0
        self.on_attempt()
        token = await self.token() if callable(self.token) else self.token
        try:
            self._ws = await connect(
                self._target(),
                additional_headers={"Authorization": f"Bearer {token}"} if token else {},
                compression=None,
                proxy=None,
                open_timeout=CONNECT_TIMEOUT,
                ping_interval=PING_INTERVAL,
                ping_timeout=PING_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                max_size=self.max_message_bytes,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TEMPORARY:
                raise Ended(status) from None
            self._reconnect_after(status, next(self._delays))
        except (WebSocketException, OSError) as error:
            self._reconnect_after(error, next(self._delays))
        return self._ws

    def _target(self) -> str:
        """The URL with user and position; http is ws there, and https is wss."""
        parts = urlsplit(self.url)
        fields = {"user_id": self.user, "last_event_id": self.position}
        query = "&".join(filter(None, (parts.query, urlencode({n: text for n, text in fields.items() if text}))))
        return parts._replace(scheme=parts.scheme.replace("http", "ws"), query=query).geturl()

    def _received(self, message: Message) -> Message:
        if message.type == "connected":
            self._connected_at = self.clock()
        elif message.type == "goodbye":
            self._goodbye = message
            if message.reconnect:
                self._return_at = self.clock() + message.reconnect_after_ms / 1000
        self._last = message
        return message

    def _closed(self, close: Close) -> None:
        goodbye = self._goodbye
        if goodbye and isinstance(goodbye.code, int) and close.reconnect and close.code < LEAST_OWN:
            close = Close(goodbye.code, goodbye.reason)  # the close frame may be lost
        now = self.clock()
        if self._connected_at is not None and now - self._connected_at >= STABLE:
            self._delays = self.new_delays()
            self._retried_at_once = False
        if not close.reconnect or (close.code == TOKEN_MISSING.code and not callable(self.token)):
            raise Ended(close, self._too_big() if close is TOO_BIG else "")
        if close.code in _AT_ONCE and not self._retried_at_once:
            self._retried_at_once = True
            self._reconnect_after(close, 0.0)
        else:
            self._reconnect_after(close, max(next(self._delays), self._return_at - now))

    def _too_big(self) -> str:
        after = f" after {self.position}" if self.position else ""
        return (
            f"the message{after} is larger than max_message_bytes ({self.max_message_bytes}): raise it above the "
            "bridge's WSBRIDGE_MAX_EVENT_BYTES, and resume"
        )

    def _reconnect_after(self, cause: Cause, seconds: float) -> None:
        self._due = self.clock() + seconds
        self.on_disconnect(cause, seconds)

    async def _disconnect(self) -> None:
        ws, self._ws = self._ws, None
        if ws is not None:
            try:
                await ws.close()
            finally:  # a cancelled close() would leave the socket open
                ws.transport.abort()


def _close_of(closed: ConnectionClosed) -> Close:
    if closed.sent and closed.sent.code == TOO_BIG.code and not closed.rcvd_then_sent:
        return TOO_BIG
    if closed.rcvd:
        return Close(closed.rcvd.code, closed.rcvd.reason)
    if closed.sent and closed.sent.code != CloseCode.INTERNAL_ERROR:
        return Close(closed.sent.code, "")  # this client closed: the server broke the protocol
    return LOST
