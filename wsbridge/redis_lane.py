"""Commands of many callers, over one connection to each node of a server. Knows not what they mean.

The connections are our own: redis-py's pipeline costs 25 µs more for each command, and on an error of one node of a
cluster drops the replies of the others.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import AskError, MovedError, ReadOnlyError, RedisError, ResponseError, TryAgainError

from wsbridge.batches import Batches
from wsbridge.broker import Away
from wsbridge.redis_command import Command, packed
from wsbridge.redis_server import TIMEOUT, Server, away, translated

BATCH = 256  # commands on their way at a time
PROGRESS = 16  # replies after which the time for an answer begins anew
_ELSEWHERE = (MovedError, AskError, TryAgainError)  # a slot is moving, or has moved


class Lane:
    """What is slow on one lane does not hold up another. A reply is what redis-py makes of it, or `Away`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._batches: Batches[Command, Any] = Batches(self._execute, BATCH)
        self._connections: dict[str, Connection] = {}

    async def do(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The reply to each, in order; they are carried out in order, too, where they have the same key."""
        return await self._batches.do(commands)

    async def close(self) -> None:
        await self._batches.close()
        for connection in self._connections.values():
            await connection.disconnect(nowait=True)

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        replies = await self._route(commands)
        unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
        if unknown:  # a new server, one that was wiped, or another version of this bridge
            await self._server.load()
            for place, reply in zip(unknown, await self._route([commands[place] for place in unknown]), strict=True):
                replies[place] = reply
        for place, reply in enumerate(replies):
            if isinstance(reply, _ELSEWHERE):
                replies[place] = await self._server.redirect(commands[place])
        return [away(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def _route(self, commands: Sequence[Command]) -> list[Any]:
        """Each node by itself: one that is away must not hide what the others did."""
        replies: list[Any] = [None] * len(commands)
        places: dict[str, list[int]] = {}
        for place, command in enumerate(commands):
            try:
                places.setdefault(self._server.node_of(command.key), []).append(place)
            except Away as why:
                replies[place] = why
        answers = await asyncio.gather(
            *(self._send(node, [commands[place] for place in group]) for node, group in places.items())
        )
        for group, found in zip(places.values(), answers, strict=True):
            for place, reply in zip(group, found, strict=True):
                replies[place] = reply
        return replies

    async def _send(self, node: str, commands: Sequence[Command]) -> list[Any]:
        """All of them, then all replies; the rest is `Away` where the connection ends in between."""
        replies: list[Any] = []
        try:
            with translated():
                connection = await self._connected(node)
                data = b"".join([packed(command.words) for command in commands])
                await connection.send_packed_command(data, check_health=False)
                await self._receive(connection, len(commands), replies)
        except Away as why:
            replies += [why] * (len(commands) - len(replies))
        finally:
            if len(replies) < len(commands) or any(isinstance(reply, Away | ReadOnlyError) for reply in replies):
                # what may still come on it would be taken for the answer to something else
                await self._disconnect(node)
        return replies

    async def _receive(self, connection: Connection, count: int, replies: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT) as deadline:
                for place in range(count):
                    if place % PROGRESS == 0:
                        deadline.reschedule(loop.time() + TIMEOUT)
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        replies.append(error)
        except TimeoutError:
            raise Away(f"no answer within {TIMEOUT:g} s") from None

    async def _connected(self, node: str) -> Connection:
        connection = self._connections.get(node)
        if connection is not None and (not connection.is_connected or await connection.can_read()):
            await self._disconnect(node)  # it was closed while nobody looked
            connection = None
        if connection is None:
            connection = self._connections[node] = await self._server.connect(node)
        return connection

    async def _disconnect(self, node: str) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            await connection.disconnect(nowait=True)


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "function not found" in str(reply).lower()
