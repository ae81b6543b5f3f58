"""The servers of tests.support.valkey behave as their methods describe."""

from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.cluster import Cluster
from tests.support.sentinels import Sentinels
from tests.support.tls import TlsFront
from tests.support.valkey import DURABLE, Valkey, settled

pytestmark = pytest.mark.once


async def test_valkey_frozen_is_silent_and_continues_later(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        client = valkey.client(socket_timeout=0.1)
        await client.ping()
        valkey.freeze()
        with pytest.raises(RedisError):
            await client.set("a", "1")
        valkey.thaw()
        await settled(lambda: client.get("a"))  # the command that it had received


async def test_valkey_durable_keeps_acknowledged_writes(tmp_path: Path) -> None:
    async with Valkey(tmp_path, **DURABLE) as valkey:
        client = valkey.client()
        await client.set("a", "1")
        old = await valkey.snapshot()
        await client.set("a", "2")
        await valkey.restart()
        assert await client.get("a") == b"2"
        await valkey.restore(old)
        assert await client.get("a") == b"1"
        await client.set("a", "3")
        await valkey.kill()
        await valkey.restart()
        assert await client.get("a") == b"3"
        await valkey.stop()
        assert not valkey.running


async def test_valkey_without_persistence_loses_its_data_at_a_restart(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.client().set("a", "1")
        old = await valkey.snapshot()
        await valkey.wipe()
        assert await valkey.client().get("a") is None
        await valkey.restore(old)
        assert await valkey.client().get("a") == b"1"
        await valkey.client().set("b", "1")
        await valkey.restart()
        assert await valkey.client().get("b") is None


async def test_valkey_kill_subscribers_cuts_their_connections(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, valkey.client().pubsub() as pubsub:
        await pubsub.subscribe("a")
        assert await valkey.kill_subscribers() == 1


async def test_cluster_moves_slots_and_fails_over(tmp_path: Path) -> None:
    async with Cluster(tmp_path, node_timeout=1000) as cluster:
        source = await cluster.node_of("{a}1")
        to = next(node for node in cluster.primaries if node is not source)
        for n in range(25):
            await source.ask("SET", f"{{a}}{n}", n)
        await cluster.move_slot(int(await to.ask("CLUSTER", "KEYSLOT", "a")), to)
        assert await cluster.node_of("a") is to
        assert await to.ask("GET", "{a}24") == b"24"
        promoted = await cluster.hand_over(to)
        assert await cluster.node_of("a") is promoted
        await settled(cluster.is_linked)
        assert await cluster.fail_over(promoted) is to
        await promoted.restart()
        await settled(cluster.is_linked)
        assert await to.ask("GET", "{a}24") == b"24"


async def test_sentinels_promote_the_replica(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels:
        old = sentinels.primary
        await old.ask("SET", "a", 1)
        await old.ask("WAIT", 1, 1000)
        await sentinels.fail_over()
        assert sentinels.replica is old
        assert await sentinels.primary.ask("GET", "a") == b"1"


async def test_tls_front_serves_a_plain_server(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, TlsFront(tmp_path, valkey.port) as front:
        async with Redis.from_url(front.url) as client:
            assert await client.ping()
        async with Redis.from_url(f"rediss://localhost:{front.port}/0") as client:
            with pytest.raises(RedisError):
                await client.ping()
