"""A user's messages at `/ws`: connects, passes messages on, explains each close, reconnects and resumes.

Built on one `connect()` of the websockets library for each connection, not on its reconnecting iterator. That iterator
keeps URL and headers, but the position and the token change with each connection, and the bridge's close codes decide
whether and when to reconnect. aiohttp's client would take twice as long to import.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

from wsbridge.cli.formatting import explain, printable
from wsbridge.cli.http import why_unreachable
from wsbridge.core.close_codes import LOST, TOKEN_MISSING, Close

LEAST_DELAY, MOST_DELAY = 0.5, 20.0  # seconds until the next attempt to connect
STABLE = 5.0  # seconds after which a connection resets the backoff
CONNECT_TIMEOUT = 10.0  # seconds
PING_INTERVAL, PING_TIMEOUT = 30.0, 15.0  # seconds: a server that vanished is noticed within their sum
CLOSE_TIMEOUT = 2.0  # seconds for the server's part of a close
_TEMPORARY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class Tokens(NamedTuple):
    """Where the token for each connection comes from. `renew`: `get` returns a new one after a refusal."""

    get: Callable[[], str | None]
    renew: bool


class _Message(msgspec.Struct):
    """The fields of all message types that this client reads."""

    type: str = ""
    id: str | None = None
    last_event_id: str | None = None
    after: str | None = None
    reason: str = ""
    recovered: bool | None = None
    reconnect: bool = False
    reconnect_after_ms: float = 0.0
    expires_in_ms: float | None = None


_message = msgspec.json.Decoder(_Message)


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield seconds without end: a random wait whose upper bound doubles from LEAST_DELAY to MOST_DELAY.

    The random number is drawn below the bound and not added to it, so that clients differ also at the bound.
    """
    longest = LEAST_DELAY
    while True:
        yield uniform(LEAST_DELAY / 2, longest)
        longest = min(MOST_DELAY, 2 * longest)


@dataclass(eq=False, kw_only=True)
class Listener:
    """Follows `/ws` at `url` until a close code forbids reconnecting.

    `show` is called with each message, byte for byte; `note` with each explanation for a person. `position` is that of
    the last message that was shown.
    """

    url: str
    user: str
    tokens: Tokens
    position: str | None
    show: Callable[[bytes], None]
    note: Callable[[str], None]
    new_delays: Callable[[], Iterator[float]] = delays
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._token_was_given = not self.tokens.renew and self.tokens.get() is not None
        self._delays = self.new_delays()
        self._return_at = 0.0  # the time for the next connection, from a goodbye; on the clock
        self._connected_at: float | None = None
        self._renewed = False  # the last connection was made at once with a fresh token, and has not been stable yet
        self._trouble = ""  # the last reported reason why connecting failed; each is reported once

    async def follow(self) -> None:
        """Reconnect until a close code or a refused handshake forbids it."""
        while True:
            wait = await self._one_connection()
            if wait is None:
                return
            await asyncio.sleep(wait)

    async def _one_connection(self) -> float | None:
        """Connect, read until the close; return the seconds to wait before the next connection, None for the end."""
        self._connected_at, self._return_at = None, 0.0
        token = self.tokens.get()
        attempt = connect(
            self._target(),
            additional_headers={"Authorization": f"Bearer {token}"} if token else {},
            compression=None,
            proxy=None,
            open_timeout=CONNECT_TIMEOUT,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            max_size=None,
        )
        try:
            ws = await attempt
        except InvalidStatus as error:
            return self._refused(error.response.status_code)
        except (WebSocketException, OSError) as error:
            return self._unreachable(why_unreachable(error, CONNECT_TIMEOUT))
        self._trouble = ""
        try:
            return self._closed(await self._read(ws))
        finally:
            try:
                await ws.close()
            finally:  # a cancelled close() would leave the socket open
                ws.transport.abort()

    def _target(self) -> str:
        """The URL with user and position; http is ws there, and https is wss."""
        parts = urlsplit(self.url)
        fields = {"user_id": self.user} | ({"last_event_id": self.position} if self.position else {})
        query = "&".join(filter(None, (parts.query, urlencode(fields))))
        return parts._replace(scheme=parts.scheme.replace("http", "ws"), query=query).geturl()

    async def _read(self, ws: ClientConnection) -> Close:
        """Pass messages on until one side closes; return the close."""
        while True:
            try:
                text = await ws.recv(decode=False)
            except ConnectionClosed as closed:
                if closed.rcvd:
                    return Close(closed.rcvd.code, closed.rcvd.reason)
                if closed.sent and closed.sent.code != CloseCode.INTERNAL_ERROR:
                    return Close(closed.sent.code, "")  # this client closed: the server broke the protocol
                return LOST
            self._take(text)

    def _take(self, text: bytes) -> None:
        self.show(text)
        try:
            message = _message.decode(text)
        except (ValueError, RecursionError):
            return
        if message.recovered is not False:  # otherwise the gap that follows has the position
            self.position = message.id or message.last_event_id or self.position
        if message.type == "connected":
            self._connected_at = self.clock()
            if self._token_was_given and message.expires_in_ms is None:
                # Only a bridge that has verified the token says when it expires.
                self._token_was_given = False
                self.note("this bridge does not check tokens: --token had no effect")
        elif message.type == "goodbye" and message.reconnect:
            self._return_at = self.clock() + message.reconnect_after_ms / 1000
        elif message.type == "gap":
            after = f"after {message.after} " if message.after else ""
            lost = f"gap ({message.reason}): the events {after}are lost; an application loads its state again here"
            self.note(printable(f"{lost}. Events continue from {self.position}"))

    def _closed(self, close: Close) -> float | None:
        now = self.clock()
        if self._connected_at is not None and now - self._connected_at >= STABLE:
            self._delays = self.new_delays()
            self._renewed = False
        needs_token = close.code == TOKEN_MISSING.code
        if not close.reconnect or (needs_token and not self.tokens.renew):
            self.note(explain(close))
            return None
        if needs_token and not self._renewed:
            self._renewed = True
            self.note(f"{explain(close)}. Reconnecting now with a new token")
            return 0.0
        wait = max(next(self._delays), self._return_at - now)
        self.note(f"{explain(close)}. Reconnecting in {wait:.1f} s")
        return wait

    def _refused(self, status: int) -> float | None:
        """Retry after a status that is temporary, such as that of a proxy or of a server that shuts down."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TEMPORARY:
            return self._unreachable(f"HTTP status {status}")
        self.note(f"no WebSocket at {self.url} (HTTP status {status}); check --url")
        return None

    def _unreachable(self, why: str) -> float:
        if why != self._trouble:
            self._trouble = why
            self.note(f"cannot reach {self.url}: {printable(why)}. Retrying until it answers")
        return next(self._delays)
