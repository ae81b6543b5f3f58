"""One connection to one node, used for subscriptions only. Matches each reply to the request that it answers.

A server replies in the order of the requests, and requests are sent in the order of `enqueue`. So a reply belongs to
the oldest request that has none yet. All other input is a message, or the end of a subscription whose slot has moved.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from redis.asyncio import Connection
from redis.exceptions import ResponseError

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.errors import CALL_FAILURES


class Operation(StrEnum):
    SUBSCRIBE = "SSUBSCRIBE"
    UNSUBSCRIBE = "SUNSUBSCRIBE"
    PING = "PING"


_REPLIES = {b"ssubscribe": Operation.SUBSCRIBE, b"sunsubscribe": Operation.UNSUBSCRIBE, b"pong": Operation.PING}


@dataclass(eq=False, slots=True)
class Request:
    """Compared by identity, because two requests for one channel have a reply each."""

    operation: Operation
    channel: str

    @property
    def words(self) -> tuple[str, ...]:
        return (self.operation, self.channel) if self.channel else (self.operation,)


class Incoming(NamedTuple):
    """A reply if `request` is set, a message if `message` is set, else the end of a subscription."""

    channel: str
    request: Request | None = None
    message: bytes | None = None
    error: str | None = None


class SubscriberConnection:
    """Pending requests are bounded by the callers: at most two for each channel, and a few pings."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.last_input = time.monotonic()
        self._unsent: list[Request] = []
        self._unanswered: deque[Request] = deque()  # oldest first
        self._sending = asyncio.Lock()

    def enqueue(self, operation: Operation, channel: str = "") -> Request:
        """Add a request; the next `flush` sends it."""
        request = Request(operation, channel)
        self._unsent.append(request)
        return request

    async def flush(self) -> None:
        """Send all enqueued requests. Raises `BrokerUnavailable` if the connection has ended, as `receive` does."""
        async with self._sending:  # keeps the order if another task is sending
            while self._unsent:
                requests, self._unsent = self._unsent, []
                self._unanswered += requests
                await self._send(requests)

    async def receive(self) -> Incoming:
        """Wait for the next input that is not the reply to a ping."""
        while True:
            try:
                reply = await self.connection.read_response(timeout=math.inf)
            except ResponseError as error:
                request = self._pop_request()
                self.last_input = time.monotonic()
                if request.operation is Operation.SUBSCRIBE:
                    return Incoming(request.channel, request, error=str(error))
                continue
            self.last_input = time.monotonic()
            if type(reply) is list and reply[0] == b"smessage":
                return Incoming(reply[1].decode(), None, reply[2])
            incoming = self._parse(reply if isinstance(reply, list) else [b"pong", b""])
            if incoming is not None:
                return incoming

    def _parse(self, reply: Sequence[Any]) -> Incoming | None:
        kind, channel = reply[0], reply[1].decode()
        oldest = self._unanswered[0] if self._unanswered else None
        is_answer = oldest and (oldest.operation, oldest.channel) == (Operation.UNSUBSCRIBE, channel)
        if kind == b"sunsubscribe" and not is_answer:
            return Incoming(channel)
        request = self._pop_request()
        if request.operation is not _REPLIES[kind] or request.channel != channel:
            raise RuntimeError(f"unexpected reply {kind!r} for {channel} to {request.words}")
        return None if kind == b"pong" else Incoming(channel, request)

    def _pop_request(self) -> Request:
        if not self._unanswered:
            raise RuntimeError("a reply without a request")
        return self._unanswered.popleft()

    async def _send(self, requests: Sequence[Request]) -> None:
        """Check the connection first: redis-py reconnects by itself, and the new connection has no subscriptions."""
        if not self.connection.is_connected:
            raise BrokerUnavailable("the connection has ended")
        try:
            data = self.connection.pack_commands([request.words for request in requests])
            await self.connection.send_packed_command(data, check_health=False)
        except CALL_FAILURES as error:
            await self.connection.disconnect(nowait=True)
            raise BrokerUnavailable(str(error) or type(error).__name__) from None
