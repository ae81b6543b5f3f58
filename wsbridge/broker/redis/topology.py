"""Creates the server of a URL: a single one, one behind Sentinel, or a cluster."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Connection, ConnectionPool, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.commands import Command
from wsbridge.broker.redis.errors import translated_errors
from wsbridge.broker.redis.server import TIMEOUT, Server
from wsbridge.config.redis_url import Mode, RedisUrl
from wsbridge.config.settings import PREFIX, SettingsError


class SentinelServer(Server):
    """One server whose address every new connection asks the sentinels for."""

    def __init__(self, url: RedisUrl) -> None:
        self._sentinels = _sentinels(url)
        super().__init__(self._sentinels.master_for(url.service, db=url.db).connection_pool, url.db)

    async def close(self) -> None:
        for sentinel in self._sentinels.sentinels:
            await sentinel.aclose()


class ClusterServer(Server):
    """The primaries of a cluster."""

    has_slots = True

    def __init__(self, url: RedisUrl) -> None:
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        self.database = 0
        self._redis = RedisCluster(startup_nodes=nodes, ssl=url.tls, require_full_coverage=False, **_keywords(url))
        self._known = False

    def node_of(self, key: str) -> str:
        with translated_errors():
            node: ClusterNode | None = self._redis.get_node_from_key(key) if self._known else None
        if node is None:
            raise BrokerUnavailable("no known node of the cluster owns this slot")
        return str(node.name)

    def nodes(self) -> Iterable[str]:
        return [str(node.name) for node in self._redis.get_primaries()]

    async def refresh(self) -> None:
        with translated_errors():
            if self._known:
                await self._redis.nodes_manager.initialize()
            else:
                await self._redis.initialize()
                self._known = True

    async def redirect(self, command: Command) -> Any:
        try:
            with translated_errors():
                return await self._redis.execute_command(*command.words)
        except BrokerUnavailable as why:
            return why

    async def close(self) -> None:
        await self._redis.aclose()  # closes nothing after a failed command, so the nodes are closed below
        for nodes in ("nodes_cache", "startup_nodes"):
            await self._redis.nodes_manager.aclose(nodes)

    def _connection(self, node: str) -> Connection:
        found = self._redis.get_node(node_name=node)
        if found is None:
            raise BrokerUnavailable(f"{node} is not a node of the cluster any more")
        connection: Connection = found.connection_class(**found.connection_kwargs)
        return connection


def create_server(url: RedisUrl) -> Server:
    """Create the server without connecting. Raises `SettingsError` if redis-py does not take an option of the URL."""
    try:
        match url.mode:
            case Mode.CLUSTER:
                return ClusterServer(url)
            case Mode.SENTINEL:
                return SentinelServer(url)
            case _:
                return Server(_pool(url), url.db)
    except (TypeError, ValueError, RedisError) as error:  # their texts may show a value, so only the name is used
        name = next((name for name, _ in url.options if name in str(error)), "an option")
        why = "unknown option or wrong value"
        raise SettingsError(f"{PREFIX}REDIS_URL: redis-py does not take {name} after ? ({why})") from None


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


def _pool(url: RedisUrl) -> ConnectionPool:
    keywords = _keywords(url) | {"db": url.db}
    if url.path:
        return ConnectionPool(UnixDomainSocketConnection, path=url.path, **keywords)
    ((host, port),) = url.hosts
    return ConnectionPool(SSLConnection if url.tls else Connection, host=host, port=port, **keywords)


def _sentinels(url: RedisUrl) -> Sentinel:
    """Use `sentinel_username` and `sentinel_password` of the query for the sentinels, all other options for both."""
    keywords = _keywords(url)
    own = {name: keywords.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    return Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        list(url.hosts), sentinel_kwargs=keywords | own | {"ssl": url.tls}, ssl=url.tls, **keywords
    )
