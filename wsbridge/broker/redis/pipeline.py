"""A pipeline for the commands of many callers, over one connection to each node of a server.

Concurrent calls are coalesced into batches: calls that arrive while a batch is in flight form the next one.

redis-py's own pipeline is not used: it costs 25 µs more for each command, and after an error of one node of a cluster
it drops the replies of the others.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Connection
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.commands import Command, packed
from wsbridge.broker.redis.errors import translated_errors, unavailable
from wsbridge.broker.redis.server import TIMEOUT, Server
from wsbridge.supervision.jobs import Jobs

BATCH = 256  # commands in flight
BATCH_BYTES = 524_288  # of commands and replies in flight; one caller may exceed it. 0.1 s at 5 MB/s
PORTION = 131_072  # bytes that are sent within the time-out
PROGRESS = 16  # replies after which the time-out restarts; fewer if replies are large
# A slot is moving or has moved, or the server has slots although its URL does not say so.
_ELSEWHERE = (MovedError, AskError, TryAgainError, ClusterCrossSlotError)


class _Packet(NamedTuple):
    command: Command
    data: bytes  # the encoded command


class _Call(NamedTuple):
    packets: Sequence[_Packet]
    weight: int
    replies: asyncio.Future[Sequence[Any]]


class Pipeline:
    """Pipelines do not delay each other. A reply is that of redis-py, or a `BrokerUnavailable`.

    Calls wait in a queue without its own bound: each caller waits for its replies, and the number of callers is bounded
    elsewhere.
    """

    batch = BATCH

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connections: dict[str, Connection] = {}
        self._waiting: list[_Call] = []
        self._jobs = Jobs()
        self._is_sending = False

    async def do(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The reply to each command, in order. Commands for the same key are executed in order.

        Callers take turns. A caller with much data should use several calls, so that others are served in between.
        """
        packets = [_Packet(command, packed(command.words)) for command in commands]
        call = _Call(packets, _weight(packets), asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if not self._is_sending:
            self._is_sending = True
            await self._jobs.spawn("batch", self._send_batches)
        return await call.replies

    async def ask(self, *commands: Command) -> Sequence[Any]:
        """As `do`, for callers that need every reply. Raises `BrokerUnavailable` if a command has failed."""
        replies = await self.do(commands)
        for reply in replies:
            if isinstance(reply, BrokerUnavailable):
                raise reply
        return replies

    async def close(self) -> None:
        """Cancel all calls."""
        await self._jobs.close()
        self._give_up()  # a job that has not begun yet cannot do it
        for connection in self._connections.values():
            await connection.disconnect(nowait=True)

    async def _send_batches(self) -> None:
        try:
            while self._waiting:
                await self._send_batch(self._next_batch())
        finally:
            self._is_sending = False
            self._give_up()

    def _give_up(self) -> None:
        for call in self._waiting:
            call.replies.cancel()
        self._waiting.clear()

    def _next_batch(self) -> list[_Call]:
        """The calls that fit into one batch, or one larger call."""
        size = weight = 0
        for count, call in enumerate(self._waiting):
            size += len(call.packets)
            weight += call.weight
            if (size > self.batch or weight > BATCH_BYTES) and count:
                break
        else:
            count = len(self._waiting)
        calls, self._waiting = self._waiting[:count], self._waiting[count:]
        return [call for call in calls if not call.replies.done()]  # the others were cancelled

    async def _send_batch(self, calls: list[_Call]) -> None:
        try:
            replies = await self._execute([packet for call in calls for packet in call.packets])
        except Exception as error:  # the callers handle it
            for call in calls:
                if not call.replies.done():
                    call.replies.set_exception(error)
            return
        except BaseException:
            for call in calls:
                call.replies.cancel()
            raise
        start = 0
        for call in calls:
            if not call.replies.done():
                call.replies.set_result(replies[start : start + len(call.packets)])
            start += len(call.packets)

    async def _execute(self, packets: Sequence[_Packet]) -> list[Any]:
        replies = await self._route(packets)
        unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
        if unknown:  # a new or wiped server, or one that has only another version of the library
            await self._server.load()
            for place, reply in zip(unknown, await self._route([packets[place] for place in unknown]), strict=True):
                replies[place] = reply
        for place, reply in enumerate(replies):
            if isinstance(reply, _ELSEWHERE):
                replies[place] = await self._server.redirect(packets[place].command)
        return [unavailable(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def _route(self, packets: Sequence[_Packet]) -> list[Any]:
        """Serve each node by itself, so that an unavailable one does not affect the replies of others."""
        replies: list[Any] = [None] * len(packets)
        places: dict[str, list[int]] = {}
        for place, (command, _) in enumerate(packets):
            try:
                places.setdefault(self._server.node_of(command.key), []).append(place)
            except BrokerUnavailable as why:
                replies[place] = why
        sends = [self._send(node, [packets[place] for place in group]) for node, group in places.items()]
        answers: Sequence[Sequence[Any] | BaseException]
        if len(sends) == 1:  # `gather` takes a task for each
            answers = [await sends[0]]
        else:  # wait for all, even if one raises: the next batch uses the same connections
            answers = await asyncio.gather(*sends, return_exceptions=True)
        for group, found in zip(places.values(), answers, strict=True):
            if isinstance(found, BaseException):
                raise found
            for place, reply in zip(group, found, strict=True):
                replies[place] = reply
        return replies

    async def _send(self, node: str, packets: Sequence[_Packet]) -> list[Any]:
        """Send all commands, then receive all replies.

        If the connection ends, the missing ones are `BrokerUnavailable`.
        """
        replies: list[Any] = []
        try:
            with translated_errors():
                connection = await self._connected(node)
                data = b"".join([packet.data for packet in packets])
                for start in range(0, len(data), PORTION):
                    await connection.send_packed_command(data[start : start + PORTION], check_health=False)
                await self._receive(connection, packets, replies)
        except BrokerUnavailable as why:
            replies += [why] * (len(packets) - len(replies))
        finally:
            if len(replies) < len(packets) or any(
                isinstance(reply, BrokerUnavailable | ReadOnlyError) for reply in replies
            ):
                # a late reply would be taken for the reply to another command
                await self._disconnect(node)
        return replies

    async def _receive(self, connection: Connection, packets: Sequence[_Packet], replies: list[Any]) -> None:
        """Receive the replies. The time-out is for progress: it restarts after every few replies."""
        loop, count = asyncio.get_running_loop(), len(packets)
        every = max(1, min(PROGRESS, PORTION * count // max(1, _weight(packets))))
        try:
            async with asyncio.timeout(TIMEOUT) as deadline:
                for place in range(count):
                    if place % every == 0:
                        deadline.reschedule(loop.time() + TIMEOUT)
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        replies.append(error)
        except TimeoutError:
            raise BrokerUnavailable(f"no answer within {TIMEOUT:g} s") from None

    async def _connected(self, node: str) -> Connection:
        connection = self._connections.get(node)
        if connection is not None and (not connection.is_connected or await connection.can_read()):
            await self._disconnect(node)  # it was closed while idle
            connection = None
        if connection is None:
            connection = self._connections[node] = await self._server.connect(node)
        return connection

    async def _disconnect(self, node: str) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            await connection.disconnect(nowait=True)


def _weight(packets: Sequence[_Packet]) -> int:
    return sum([len(data) + command.answer for command, data in packets])


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "function not found" in str(reply).lower()
