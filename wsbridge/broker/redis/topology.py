"""A Redis or Valkey, whatever its shape: one server, one behind sentinels, a cluster. Knows nothing of users."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Connection, ConnectionPool, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from wsbridge.broker.base import Away
from wsbridge.broker.redis.commands import CODE, Command, packed
from wsbridge.config.redis_url import Mode, RedisUrl

TIMEOUT = 1.0  # seconds for an answer and for a connection; who asked tries again, nothing below does
SCAN = 1_000  # keys looked at in one step
FAILURES = (RedisError, RedisClusterException, OSError)  # the second is no kind of the first
_CODES: dict[type[Exception], str] = {
    NoPermissionError: "NOPERM ",
    OutOfMemoryError: "OOM ",
}  # which redis-py takes off
_DECLINED = (ResponseError, *_CODES)  # not their other kinds: those are of a server that cannot be asked


class Declined(Away):
    """The server is there, and has not done what it was asked: for want of a right, of room, or of sense in it."""


class Server(ABC):
    """Redis 7.0 or newer, or Valkey. Its nodes have names; who is told that a key is elsewhere asks to `refresh`."""

    database = 0

    @abstractmethod
    def node_of(self, key: str) -> str:
        """The node that has the key, as far as is known.

        Raises:
            Away: none is known.

        """

    @abstractmethod
    def nodes(self) -> Iterable[str]:
        """Those that take writes, as far as is known."""

    @abstractmethod
    async def refresh(self) -> None:
        """Ask who has which keys.

        Raises:
            Away: nobody says.

        """

    @abstractmethod
    async def redirect(self, command: Command) -> Any:
        """The reply to a command that its node has not taken, since its slot is moving."""

    @abstractmethod
    async def close(self) -> None: ...

    async def connect(self, node: str) -> Connection:
        """A connection to that node for oneself alone.

        Raises:
            Away: it cannot be reached.

        """
        with translated():
            connection = self._connection(node)
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            return connection

    async def ask(self, connection: Connection, *words: str | int) -> Any:
        """One command. Raises `Away`, also for an error."""
        with translated():
            await connection.send_packed_command(packed(words), check_health=False)
            return await connection.read_response()

    async def eviction(self, connection: Connection) -> str | None:
        """The policy by which that server may drop keys, if it has one and says so; many do not let us ask."""
        try:
            policy = (await self.ask(connection, "CONFIG", "GET", "maxmemory-policy"))[1].decode()
        except Away:
            return None
        return policy if policy != "noeviction" else None

    async def scan(self, node: str, pattern: str) -> AsyncIterator[list[str]]:
        """The keys of that node that match, many at a time.

        Raises:
            Away: it does not answer.

        """
        cursor = "0"
        async with self._connected(node) as connection:
            while True:
                found, keys = await self.ask(connection, "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN)
                yield [key.decode() for key in keys]
                cursor = found.decode()
                if cursor == "0":
                    return

    async def load(self) -> None:
        """Load the functions, wherever there is none; what goes wrong shows at the next call."""
        for node in list(self.nodes()):
            with contextlib.suppress(Away):
                async with self._connected(node) as connection:
                    await self.ask(connection, "FUNCTION", "LOAD", CODE)

    @contextlib.asynccontextmanager
    async def _connected(self, node: str) -> AsyncIterator[Connection]:
        connection = await self.connect(node)
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    @abstractmethod
    def _connection(self, node: str) -> Connection: ...


class SingleServer(Server):
    """One server, at an address of its own."""

    def __init__(self, url: RedisUrl) -> None:
        self._pool: Any = _at(url)  # for making connections only
        self.database = url.db

    def node_of(self, key: str) -> str:
        return ""

    def nodes(self) -> Iterable[str]:
        return ("",)

    async def refresh(self) -> None: ...

    async def redirect(self, command: Command) -> Any:
        return Away("this server belongs to a cluster: its URL begins with redis+cluster://")

    async def close(self) -> None: ...

    def _connection(self, node: str) -> Connection:
        connection: Connection = self._pool.make_connection()
        return connection


class SentinelServer(SingleServer):
    """One server, at the address that its sentinels say to each new connection."""

    def __init__(self, url: RedisUrl) -> None:
        self._sentinels = _sentinels(url)
        self._pool = self._sentinels.master_for(url.service, db=url.db).connection_pool
        self.database = url.db

    async def close(self) -> None:
        for sentinel in self._sentinels.sentinels:
            await sentinel.aclose()


class ClusterServer(Server):
    """The primaries of a cluster."""

    def __init__(self, url: RedisUrl) -> None:
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        self._redis = RedisCluster(startup_nodes=nodes, ssl=url.tls, require_full_coverage=False, **_keywords(url))
        self._known = False

    def node_of(self, key: str) -> str:
        with translated():
            node: ClusterNode | None = self._redis.get_node_from_key(key) if self._known else None
        if node is None:
            raise Away("no node of the cluster is known to have this slot")
        return str(node.name)

    def nodes(self) -> Iterable[str]:
        return [str(node.name) for node in self._redis.get_primaries()]

    async def refresh(self) -> None:
        with translated():
            if self._known:
                await self._redis.nodes_manager.initialize()
            else:
                await self._redis.initialize()
                self._known = True

    async def redirect(self, command: Command) -> Any:
        try:
            with translated():
                return await self._redis.execute_command(*command.words)
        except Away as why:
            return why

    async def close(self) -> None:
        await self._redis.aclose()  # nothing happens if a command has failed and none has followed
        for nodes in ("nodes_cache", "startup_nodes"):
            await self._redis.nodes_manager.aclose(nodes)

    def _connection(self, node: str) -> Connection:
        found = self._redis.get_node(node_name=node)
        if found is None:
            raise Away(f"{node} is no node of the cluster any more")
        connection: Connection = found.connection_class(**found.connection_kwargs)
        return connection


def server_at(url: RedisUrl) -> Server:
    match url.mode:
        case Mode.CLUSTER:
            return ClusterServer(url)
        case Mode.SENTINEL:
            return SentinelServer(url)
        case _:
            return SingleServer(url)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Whatever redis-py raises is `Away`."""
    try:
        yield
    except FAILURES as error:
        raise away(error) from None


def away(error: Exception) -> Away:
    text = _CODES.get(type(error), "") + (str(error) or type(error).__name__)
    if "unknown command" in text.lower():
        text += " (Redis 7.0 or newer, or Valkey, is needed)"
    elif "function not found" in text.lower():
        text += " (does the user have the right +function|load?)"
    return Declined(text) if type(error) in _DECLINED else Away(text)


def _keywords(url: RedisUrl) -> dict[str, Any]:
    return {
        "username": url.username,
        "password": url.password,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "wsbridge",
    } | parse_url(f"redis://?{urlencode(url.options)}")


def _at(url: RedisUrl) -> ConnectionPool:
    keywords = _keywords(url) | {"db": url.db}
    if url.path:
        return ConnectionPool(UnixDomainSocketConnection, path=url.path, **keywords)
    ((host, port),) = url.hosts
    return ConnectionPool(SSLConnection if url.tls else Connection, host=host, port=port, **keywords)


def _sentinels(url: RedisUrl) -> Sentinel:
    """The query's `sentinel_username` and `sentinel_password` are for the sentinels, the rest for both."""
    keywords = _keywords(url)
    own = {name: keywords.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    return Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        list(url.hosts), sentinel_kwargs=keywords | own | {"ssl": url.tls}, ssl=url.tls, **keywords
    )
