"""One connection to one node, for subscriptions: what is asked on it, in order, and which answer belongs to what.

A server answers in the order in which it was asked. The order of `put` is the order on the connection, whoever sends.
So each answer belongs to the oldest request that has none. All else is a message, or the end of a subscription whose
slot has moved.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from redis.asyncio import Connection
from redis.exceptions import ResponseError

from wsbridge.broker.base import Away
from wsbridge.broker.redis.topology import FAILURES


class Ask(StrEnum):
    """What can be asked."""

    JOIN = "SSUBSCRIBE"
    LEAVE = "SUNSUBSCRIBE"
    PING = "PING"


_ANSWERS = {b"ssubscribe": Ask.JOIN, b"sunsubscribe": Ask.LEAVE, b"pong": Ask.PING}


class Request:
    """Compared by identity: of two about one channel each has its own answer."""

    __slots__ = ("channel", "kind")

    def __init__(self, kind: Ask, channel: str) -> None:
        self.kind = kind
        self.channel = channel

    @property
    def words(self) -> tuple[str, ...]:
        return (self.kind, self.channel) if self.channel else (self.kind,)


class Heard(NamedTuple):
    """What has come: an answer if there is a `request`, else a message or the end of a subscription."""

    channel: str
    request: Request | None = None
    message: bytes | None = None
    error: str | None = None


class Link:
    """Requests that were put wait for `flush`; there are as many as channels, and few pings."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard = time.monotonic()
        self._unsent: list[Request] = []
        self._asked: deque[Request] = deque()  # without an answer yet, oldest first
        self._sending = asyncio.Lock()

    def put(self, kind: Ask, channel: str = "") -> Request:
        request = Request(kind, channel)
        self._unsent.append(request)
        return request

    async def flush(self) -> None:
        """Send all that was put. Raises `Away` if the connection has ended: its end is noticed where it is read."""
        async with self._sending:  # what another one sends already goes first
            while self._unsent:
                requests, self._unsent = self._unsent, []
                self._asked += requests
                await self._send(requests)

    async def hear(self) -> Heard:
        """The next that comes, other than the answer to a ping."""
        while True:
            try:
                reply = await self.connection.read_response(timeout=math.inf)
            except ResponseError as error:
                request = self._answered()
                self.heard = time.monotonic()
                if request.kind is Ask.JOIN:
                    return Heard(request.channel, request, error=str(error))
                continue
            self.heard = time.monotonic()
            heard = self._understood(reply if isinstance(reply, list) else [b"pong", b""])
            if heard is not None:
                return heard

    def _understood(self, reply: Sequence[Any]) -> Heard | None:
        kind, channel = reply[0], reply[1].decode()
        if kind == b"smessage":
            return Heard(channel, message=reply[2])
        if kind == b"sunsubscribe" and not self._is_answer(Ask.LEAVE, channel):
            return Heard(channel)
        request = self._answered()
        if request.kind is not _ANSWERS[kind] or request.channel != channel:
            raise RuntimeError(f"{kind!r} of {channel} is the answer to {request.words}")
        return None if kind == b"pong" else Heard(channel, request)

    def _is_answer(self, kind: Ask, channel: str) -> bool:
        return bool(self._asked) and (self._asked[0].kind, self._asked[0].channel) == (kind, channel)

    def _answered(self) -> Request:
        if not self._asked:
            raise RuntimeError("an answer to nothing")
        return self._asked.popleft()

    async def _send(self, requests: Sequence[Request]) -> None:
        """redis-py would make a new connection, without its subscriptions, where this one has ended."""
        if not self.connection.is_connected:
            raise Away("the connection has ended")
        try:
            data = self.connection.pack_commands([request.words for request in requests])
            await self.connection.send_packed_command(data, check_health=False)
        except (*FAILURES, AttributeError) as error:  # the last: it was closed while redis-py was about to write
            await self.connection.disconnect(nowait=True)
            raise Away(str(error) or type(error).__name__) from None
