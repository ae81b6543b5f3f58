"""A Redis or Valkey, whatever its shape: one server, one behind sentinels, a cluster. Knows nothing of users.

With `redis_stream` the only module that imports redis. Commands go over connections of our own: redis-py's pipeline
costs 25 µs more for each command, and on an error of one node of a cluster drops the replies of the others.
"""

import asyncio
import contextlib
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import urlencode

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from wsbridge.batches import Batches
from wsbridge.broker import Away
from wsbridge.redis_url import Mode, RedisUrl

TIMEOUT = 1.0  # seconds for an answer and for a connection; who asked tries again, nothing below does
BATCH = 256  # commands on their way at a time
PROGRESS = 16  # replies after which the time for an answer begins anew
SCAN = 1_000  # keys looked at in one step
FAILURES = (RedisError, RedisClusterException, OSError)  # the second is no kind of the first
_ELSEWHERE = (MovedError, AskError, TryAgainError)  # a slot is moving, or has moved

_TEXT = (resources.files("wsbridge") / "history.lua").read_text(encoding="utf-8")
LIBRARY = "wsbridge_" + hashlib.sha256(_TEXT.encode()).hexdigest()[:12]
CODE = _TEXT.replace("@LIBRARY@", LIBRARY)


class Command(NamedTuple):
    """What is sent, and a key that says where to."""

    key: str
    words: tuple[str | bytes | int, ...]


def call(function: str, keys: Sequence[str], *args: str | bytes | int) -> Command:
    """One of the functions of history.lua; all keys in one slot."""
    return Command(keys[0], ("FCALL", f"{LIBRARY}_{function}", len(keys), *keys, *args))


class Server(ABC):
    """Redis 7.0 or newer, or Valkey. Its nodes have names; who is told that a key is elsewhere asks to `refresh`."""

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
        with _translated():
            connection = self._connection(node)
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            return connection

    async def ask(self, connection: Connection, *words: str | int) -> Any:
        """One command. Raises `Away`, also for an error."""
        with _translated():
            await connection.send_packed_command(_packed(words), check_health=False)
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
    """One server, at an address of its own or at the one that its sentinels say."""

    def __init__(self, url: RedisUrl) -> None:
        self._pool: Any = _behind_sentinels(url) if url.mode is Mode.SENTINEL else _at(url)  # makes connections only

    def node_of(self, key: str) -> str:
        return ""

    def nodes(self) -> Iterable[str]:
        return ("",)

    async def refresh(self) -> None:
        """Each new connection to a service asks the sentinels itself."""

    async def redirect(self, command: Command) -> Any:
        return Away("this server belongs to a cluster: its URL begins with redis+cluster://")

    async def close(self) -> None: ...

    def _connection(self, node: str) -> Connection:
        connection: Connection = self._pool.make_connection()
        return connection


class ClusterServer(Server):
    """The primaries of a cluster."""

    def __init__(self, url: RedisUrl) -> None:
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        self._redis = RedisCluster(startup_nodes=nodes, ssl=url.tls, require_full_coverage=False, **_keywords(url))
        self._known = False

    def node_of(self, key: str) -> str:
        with _translated():
            node: ClusterNode | None = self._redis.get_node_from_key(key) if self._known else None
        if node is None:
            raise Away("no node of the cluster is known to have this slot")
        return str(node.name)

    def nodes(self) -> Iterable[str]:
        return [str(node.name) for node in self._redis.get_primaries()]

    async def refresh(self) -> None:
        with _translated():
            if self._known:
                await self._redis.nodes_manager.initialize()
            else:
                await self._redis.initialize()
                self._known = True

    async def redirect(self, command: Command) -> Any:
        try:
            with _translated():
                return await self._redis.execute_command(*command.words)
        except Away as away:
            return away

    async def close(self) -> None:
        await self._redis.aclose()

    def _connection(self, node: str) -> Connection:
        found = self._redis.get_node(node_name=node)
        if found is None:
            raise Away(f"{node} is no node of the cluster any more")
        connection: Connection = found.connection_class(**found.connection_kwargs)
        return connection


def server_at(url: RedisUrl) -> Server:
    return ClusterServer(url) if url.mode is Mode.CLUSTER else SingleServer(url)


class Lane:
    """Commands of many callers, a batch at a time, over one connection to each node.

    What is slow on one lane does not hold up another. A reply is what redis-py makes of it, or `Away`.
    """

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
        return [_away(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def _route(self, commands: Sequence[Command]) -> list[Any]:
        """Each node by itself: one that is away must not hide what the others did."""
        replies: list[Any] = [None] * len(commands)
        places: dict[str, list[int]] = {}
        for place, command in enumerate(commands):
            try:
                places.setdefault(self._server.node_of(command.key), []).append(place)
            except Away as away:
                replies[place] = away
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
            with _translated():
                connection = await self._connected(node)
                packed = b"".join([_packed(command.words) for command in commands])
                await connection.send_packed_command(packed, check_health=False)
                await self._receive(connection, len(commands), replies)
        except Away as away:
            replies += [away] * (len(commands) - len(replies))
        finally:
            if len(replies) < len(commands) or any(isinstance(reply, Away | ReadOnlyError) for reply in replies):
                await self._disconnect(
                    node
                )  # what may still come on it would be taken for the answer to something else
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


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        raise _away(error) from None


def _away(error: Exception) -> Away:
    text = str(error) or type(error).__name__
    if "unknown command" in text.lower():
        text += " (Redis 7.0 or newer, or Valkey, is needed)"
    return Away(text)


def _packed(words: tuple[str | bytes | int, ...]) -> bytes:
    packed: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub says one word, it means any number
    return packed


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "function not found" in str(reply).lower()


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


def _behind_sentinels(url: RedisUrl) -> ConnectionPool:
    """The query's `sentinel_username` and `sentinel_password` are for the sentinels, the rest for both."""
    keywords = _keywords(url)
    own = {name: keywords.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        list(url.hosts), sentinel_kwargs=keywords | own | {"ssl": url.tls}, ssl=url.tls, **keywords
    )
    pool: ConnectionPool = sentinels.master_for(url.service, db=url.db).connection_pool
    return pool
