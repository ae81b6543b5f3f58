"""A user's messages, followed as a client should: connects, hands them on, explains each close, comes back, resumes.

Knows no settings, and nothing of how messages are shown.
"""

import asyncio
import errno
import os
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
import msgspec

from wsbridge.cli.backoff import Backoff
from wsbridge.cli.formatting import explain, printable
from wsbridge.cli.http import of_tls
from wsbridge.core.close_codes import LOST, NO_STATUS, TOKEN_MISSING, Close

STABLE = 5.0  # seconds that a connection lasts until the backoff starts anew
CONNECT_TIMEOUT = 10.0  # seconds
HEARTBEAT = 30.0  # seconds: a server that vanished without a word is noticed within one and a half of it
CLOSE_TIMEOUT = 2.0  # seconds that the server has for its part of a close
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class Tokens(NamedTuple):
    """Where the token for each connection comes from; `renew` says whether another can be had when one is refused."""

    get: Callable[[], str | None]
    renew: bool


class _Message(msgspec.Struct):
    """What concerns us of a message, whatever its type."""

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


class Listener:
    """Follows `/ws` at `url` until a close says to stay away.

    `show` takes each message as it came, `note` takes what a person should know beside them. `position` is that of
    the last message that was shown.
    """

    def __init__(
        self,
        url: str,
        user: str,
        *,
        tokens: Tokens,
        position: str | None,
        show: Callable[[bytes], None],
        note: Callable[[str], None],
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.position = position
        self._url = url
        self._user = user
        self._tokens = tokens
        self._token_was_given = not tokens.renew and tokens.get() is not None
        self._show = show
        self._note = note
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._return_at = 0.0  # on the loop's clock: when a goodbye wants us back
        self._connected_at: float | None = None
        self._renewed = False  # a fresh token was tried at once, and has not proved itself yet
        self._trouble = ""  # said already: what keeps us from connecting

    async def follow(self) -> None:
        """Come back until told to stay away."""
        async with aiohttp.ClientSession() as http:
            while True:
                wait = await self._visit(http)
                if wait is None:
                    return
                await asyncio.sleep(wait)

    async def _visit(self, http: aiohttp.ClientSession) -> float | None:
        """One connection, from its try to its end; the seconds until the next one, None if there is to be none."""
        self._connected_at, self._return_at = None, 0.0
        try:
            ws = await self._connect(http)
        except aiohttp.WSServerHandshakeError as error:
            return self._refused(error.status)
        except (aiohttp.ClientError, OSError) as error:
            return self._unreachable(_why(error))
        self._trouble = ""
        try:
            return self._closed(await self._read(ws))
        finally:
            await ws.close()

    async def _connect(self, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse[bool]:
        token = self._tokens.get()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await http.ws_connect(
                self._url,
                params={"user_id": self._user} | ({"last_event_id": self.position} if self.position else {}),
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                heartbeat=HEARTBEAT,
                max_msg_size=0,
                decode_text=False,
            )

    async def _read(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> Close:
        """Hand messages on until one side closes; how it did."""
        while True:
            try:
                message = await ws.receive()
            except (aiohttp.ClientError, OSError):  # it broke as aiohttp answered a ping
                return LOST
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self._take(message.data)
                case aiohttp.WSMsgType.CLOSE:
                    return Close(message.data, message.extra or "") if message.data else NO_STATUS
                case aiohttp.WSMsgType.ERROR if isinstance(message.data, aiohttp.WebSocketError):
                    return Close(message.data.code, "")  # what we told the server: it broke the protocol
                case aiohttp.WSMsgType.CLOSING | aiohttp.WSMsgType.CLOSED | aiohttp.WSMsgType.ERROR:
                    return LOST

    def _take(self, text: bytes) -> None:
        self._show(text)
        try:
            message = _message.decode(text)
        except (ValueError, RecursionError):
            return
        if message.recovered is not False:  # else the gap that follows says where it goes on: not before that is known
            self.position = message.id or message.last_event_id or self.position
        if message.type == "connected":
            self._connected_at = self._clock()
            self._check_token(message)
        elif message.type == "goodbye" and message.reconnect:
            self._return_at = self._clock() + message.reconnect_after_ms / 1000
        elif message.type == "gap":
            after = f"after {message.after} " if message.after else ""
            self._note(
                printable(
                    f"gap ({message.reason}): events {after}are gone for good. Fetch your state anew; "
                    f"it goes on from {self.position}"
                )
            )

    def _check_token(self, message: _Message) -> None:
        """A bridge that checked a token says when it ends."""
        if self._token_was_given and message.expires_in_ms is None:
            self._token_was_given = False  # said once
            self._note("this bridge checks no token: the one that was given had no effect")

    def _closed(self, close: Close) -> float | None:
        now = self._clock()
        if self._connected_at is not None and now - self._connected_at >= STABLE:
            self._backoff.reset()
            self._renewed = False
        needs_token = close.code == TOKEN_MISSING.code
        if not close.reconnect or (needs_token and not self._tokens.renew):
            self._note(explain(close))
            return None
        if needs_token and not self._renewed:
            self._renewed = True
            wait = 0.0
        else:
            wait = max(self._backoff.wait(), self._return_at - now)
        self._note(f"{explain(close)}. " + (f"Back in {wait:.1f} s" if wait else "Back at once with a fresh token"))
        return wait

    def _refused(self, status: int) -> float | None:
        """The answer was no WebSocket. What a proxy or a server that leaves says will pass, the rest will not."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return self._unreachable(f"HTTP status {status}")
        self._note(f"{self._url} is not the WebSocket of a bridge (HTTP status {status}): is --url right?")
        return None

    def _unreachable(self, why: str) -> float:
        """Said once for each reason: the tries may go on for hours."""
        if why != self._trouble:
            self._trouble = why
            self._note(f"cannot reach {self._url}: {why}. Trying until it answers")
        return self._backoff.wait()


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    os_error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(os_error, ssl.SSLError):
        return printable(of_tls(os_error))
    code = getattr(os_error, "errno", None) or 0
    return printable(os.strerror(code) if code in errno.errorcode else str(os_error) or type(error).__name__)
