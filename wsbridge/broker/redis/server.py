"""A Redis or Valkey server: its nodes, connections, keys and functions. `topology` has servers of several nodes."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from redis.asyncio import Connection
from redis.crc import key_slot

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.commands import CODE, Command, packed
from wsbridge.broker.redis.errors import translated_errors

TIMEOUT = 1.0  # seconds to connect and to wait for a reply; only callers retry, nothing below them does
SCAN_COUNT = 1_000  # keys that the server looks at in one step of a scan


class Server:
    """A single Redis 7.0 or newer, or Valkey. Each node has a name. Callers `refresh` after a redirection."""

    has_slots = False  # whether all keys of a command must be in one slot

    def __init__(self, pool: Any, database: int) -> None:
        self._pool = pool  # creates connections, does not keep them
        self._connection("")  # raises for wrong options
        self.database = database

    def node_of(self, key: str) -> str:
        """Return the node that owns the key, as of the last `refresh`. Raises `BrokerUnavailable` if none is known."""
        return ""

    def slot_of(self, key: str) -> int:
        """Return the slot of the key. One command may have keys of one slot only."""
        return key_slot(key.encode()) if self.has_slots else 0

    def nodes(self) -> Iterable[str]:
        """Return the nodes that accept writes, as of the last `refresh`."""
        return ("",)

    async def refresh(self) -> None:
        """Ask a cluster which node owns which keys. Raises `BrokerUnavailable` if no node answers."""

    async def redirect(self, command: Command) -> Any:
        """Return the reply to a command that its node has rejected because the slot is moving."""
        self.has_slots = True  # a cluster of a single node works
        return BrokerUnavailable("the server is a node of a cluster; the URL must begin with redis+cluster://")

    async def close(self) -> None:
        """Close what the server keeps. Connections are closed by their users."""

    def _connection(self, node: str) -> Connection:
        """Return a connection that is not connected yet."""
        connection: Connection = self._pool.make_connection()
        return connection

    async def connect(self, node: str) -> Connection:
        """Open a connection that only the caller uses. Raises `BrokerUnavailable` if the node cannot be reached."""
        with translated_errors():
            connection = self._connection(node)
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            return connection

    async def ask(self, connection: Connection, *words: str | int) -> Any:
        """Execute one command. Raises `BrokerUnavailable` if the connection has ended, or the reply is an error."""
        with translated_errors():
            await connection.send_packed_command(packed(words), check_health=False)
            return await connection.read_response()

    async def eviction(self, connection: Connection) -> str | None:
        """Return the policy by which the server may evict keys.

        None if it never evicts, or if it does not permit the question, as many hosted servers do not.
        """
        try:
            policy = (await self.ask(connection, "CONFIG", "GET", "maxmemory-policy"))[1].decode()
        except BrokerUnavailable:
            return None
        return policy if policy != "noeviction" else None

    async def scan(self, node: str, pattern: str) -> AsyncIterator[list[str]]:
        """Yield the matching keys of the node, in portions. Raises `BrokerUnavailable` if the node does not answer."""
        cursor = "0"
        async with self._connected(node) as connection:
            while True:
                found, keys = await self.ask(connection, "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
                yield [key.decode() for key in keys]
                cursor = found.decode()
                if cursor == "0":
                    return

    async def load(self) -> None:
        """Load the functions of the Lua library on every node. An error shows at the next call of a function."""
        for node in list(self.nodes()):
            with contextlib.suppress(BrokerUnavailable):
                async with self._connected(node) as connection:
                    await self.ask(connection, "FUNCTION", "LOAD", CODE)

    @contextlib.asynccontextmanager
    async def _connected(self, node: str) -> AsyncIterator[Connection]:
        connection = await self.connect(node)
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)
