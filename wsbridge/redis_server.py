"""A Redis or Valkey, whatever its shape: one server, one behind sentinels, a cluster. Knows nothing of users.

With `redis_stream` the only module that imports redis.
"""

import asyncio
import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import urlencode

from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from wsbridge.batches import Batches
from wsbridge.broker import Away
from wsbridge.redis_url import Mode, RedisUrl

TIMEOUT = 1.0  # seconds for an answer and for a connection; who asked tries again, redis-py does not
BATCH = 256  # commands on their way at a time
SCAN = 1_000  # keys looked at in one step

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
    """Redis 7.0 or newer, or Valkey. A reply is what redis-py makes of it, or `Away` with the reason."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def node_of(self, key: str) -> str:
        """The name of the node that has the key, as far as is known.

        Raises:
            Away: none is known.

        """

    @abstractmethod
    async def refresh(self) -> None:
        """Ask who has which keys.

        Raises:
            Away: nobody says.

        """

    def lane(self) -> Batches[Command, Any]:
        """Commands of many callers in one pipeline at a time: what is slow on one lane does not hold up another."""
        return Batches(self.execute, BATCH)

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each, in order; they are carried out in order, too, where they have the same key."""
        replies = await self._send(commands)
        unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
        if unknown:  # a new server, one that was wiped, or another version of this bridge
            await self._load()
            for place, reply in zip(unknown, await self._send([commands[place] for place in unknown]), strict=True):
                replies[place] = reply
        return replies

    async def connect(self, node: str) -> Connection:
        """A connection to that node for oneself alone.

        Raises:
            Away: it cannot be reached.

        """
        with _translated():
            connection = self._connection(node)
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            return connection

    async def eviction(self, connection: Connection) -> str | None:
        """The policy by which that server may drop keys, if it has one and says so; many are not allowed to ask."""
        with contextlib.suppress(ResponseError), _translated():
            await connection.send_command("CONFIG", "GET", "maxmemory-policy")
            policy = (await connection.read_response())[1].decode()
            return policy if policy != "noeviction" else None
        return None

    async def scan(self, node: str, pattern: str) -> AsyncIterator[list[str]]:
        """The keys of that node that match, many at a time.

        Raises:
            Away: it does not answer.

        """
        cursor = "0"
        connection = await self.connect(node)
        try:
            while True:
                with _translated():
                    await connection.send_command("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN)
                    found, keys = await connection.read_response()
                yield [key.decode() for key in keys]
                cursor = found.decode()
                if cursor == "0":
                    return
        finally:
            await connection.disconnect(nowait=True)

    @abstractmethod
    async def _send(self, commands: Sequence[Command]) -> list[Any]: ...

    @abstractmethod
    async def _load(self) -> None:
        """Load the function library on every node that takes writes."""

    @abstractmethod
    def _connection(self, node: str) -> Connection: ...


class SingleServer(Server):
    """One server, at an address of its own or at the one that its sentinels say."""

    def __init__(self, url: RedisUrl) -> None:
        self._redis = _behind_sentinels(url) if url.mode is Mode.SENTINEL else _at(url)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def node_of(self, key: str) -> str:
        return ""

    async def refresh(self) -> None:
        """A connection to a service asks the sentinels itself."""

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        return await _piped(self._redis.pipeline(transaction=False), commands)

    async def _load(self) -> None:
        with contextlib.suppress(ResponseError, Away), _translated():  # it is there; or it is not, and that will show
            await self._redis.function_load(CODE)

    def _connection(self, node: str) -> Connection:
        pool: Any = self._redis.connection_pool
        connection: Connection = pool.make_connection()
        return connection


class ClusterServer(Server):
    """Who has which keys changes at any time: whoever is told so, or gets no answer, asks for a `refresh`."""

    def __init__(self, url: RedisUrl) -> None:
        keywords = _keywords(url)
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        self._redis = RedisCluster(startup_nodes=nodes, ssl=url.tls, require_full_coverage=False, **keywords)
        self._known = False

    async def close(self) -> None:
        await self._redis.aclose()

    def node_of(self, key: str) -> str:
        with _translated():
            return str(self._node(key).name)

    async def refresh(self) -> None:
        with _translated():
            if self._known:
                await self._redis.nodes_manager.initialize()
            else:
                await self._redis.initialize()
                self._known = True

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Each node by itself: one that is away must not hide what the others did."""
        places: dict[str, list[int]] = {}
        replies: list[Any] = [None] * len(commands)
        if not self._known:
            await self.refresh()
        for place, command in enumerate(commands):
            try:
                places.setdefault(self.node_of(command.key), []).append(place)
            except Away as error:
                replies[place] = error
        groups = [[commands[place] for place in group] for group in places.values()]
        answers = await asyncio.gather(*(_piped(self._redis.pipeline(), group) for group in groups))
        for group, found in zip(places.values(), answers, strict=True):
            for place, reply in zip(group, found, strict=True):
                replies[place] = reply
        return replies

    async def _load(self) -> None:
        for node in self._redis.get_primaries():
            with contextlib.suppress(ResponseError, Away), _translated():
                await self._redis.execute_command("FUNCTION LOAD", CODE, target_nodes=node)

    def _connection(self, node: str) -> Connection:
        found = self._redis.get_node(node_name=node)
        if found is None:
            raise Away(f"{node} is no node of the cluster any more")
        connection: Connection = found.connection_class(**found.connection_kwargs)
        return connection

    def _node(self, key: str) -> ClusterNode:
        node: ClusterNode | None = self._redis.get_node_from_key(key) if self._known else None
        if node is None:
            raise Away("the cluster has not said yet who has which keys")
        return node


def server_at(url: RedisUrl) -> Server:
    return ClusterServer(url) if url.mode is Mode.CLUSTER else SingleServer(url)


async def _piped(pipe: Any, commands: Sequence[Command]) -> list[Any]:
    for command in commands:
        pipe.execute_command(*command.words)
    try:
        replies = await pipe.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        return [_away(error)] * len(commands)
    return [_away(reply) if isinstance(reply, Exception) else reply for reply in replies]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ResponseError:
        raise  # an answer
    except (RedisError, OSError) as error:
        raise _away(error) from None


def _away(error: Exception) -> Away:
    text = f"{error}" or type(error).__name__
    if "unknown command" in text.lower():
        text += " (Redis 7.0 or newer, or Valkey, is needed)"
    return Away(text)


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, Away) and "function not found" in str(reply).lower()


def _keywords(url: RedisUrl) -> dict[str, Any]:
    keywords: dict[str, Any] = dict(parse_url(f"redis://?{urlencode(url.options)}"))
    return {
        "username": url.username,
        "password": url.password,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "wsbridge",
    } | keywords


def _at(url: RedisUrl) -> Redis:
    keywords = _keywords(url) | {"db": url.db}
    if url.path:
        pool = ConnectionPool(UnixDomainSocketConnection, path=url.path, **keywords)
    else:
        ((host, port),) = url.hosts
        pool = ConnectionPool(SSLConnection if url.tls else Connection, host=host, port=port, **keywords)
    return Redis(connection_pool=pool)


def _behind_sentinels(url: RedisUrl) -> Redis:
    """The query's `sentinel_username` and `sentinel_password` are for the sentinels, the rest for both."""
    keywords = _keywords(url)
    own = {name: keywords.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        list(url.hosts), sentinel_kwargs=keywords | own | {"ssl": url.tls}, ssl=url.tls, **keywords
    )
    redis: Redis = sentinels.master_for(url.service, db=url.db)
    return redis
