"""Servers of every topology: connections, the owner of each key, and errors."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.crc import key_slot

from tests.support.cluster import Cluster
from tests.support.pipelines import KEYS, get, is_called, names, one, pipeline_to, put, serving, succeeds, tell, why
from tests.support.running import until_told
from tests.support.sentinels import Sentinels
from tests.support.tls import TlsFront, write_certificates
from tests.support.valkey import Valkey, settled
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.commands import Command
from wsbridge.broker.redis.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests that do not change it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), replicas=0) as cluster:
        yield cluster


# One server.


async def test_single_server_is_one_node_that_owns_every_key(valkey: Valkey) -> None:
    async with serving(valkey.url) as (server, _):
        assert {server.node_of(key) for key in KEYS} == set(server.nodes())


async def test_single_server_with_another_database_has_other_keys(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline, pipeline_to(valkey.url.removesuffix("0") + "3") as other:
        await one(pipeline, put("d", "0"))
        await one(other, put("d", "3"))
        assert await one(pipeline, get("d")) == b"0"


async def test_single_server_on_unix_socket_connects(tmp_path: Path) -> None:
    async with Valkey(tmp_path, unixsocket="s") as valkey, pipeline_to(f"unix://{valkey.directory}/s?db=2") as pipeline:
        assert await one(pipeline, put("a")) == b"OK"
        assert await valkey.client(db=2).get("a") == b"1"


async def test_single_server_with_tls_verifies_certificate(valkey: Valkey, tmp_path: Path) -> None:
    async with TlsFront(tmp_path, valkey.port) as front:
        async with pipeline_to(front.url) as pipeline:
            assert await one(pipeline, put("a", "tls")) == b"OK"
            assert await one(pipeline, get("a")) == b"tls"
        write_certificates(tmp_path / "other.pem", tmp_path / "unused.pem")
        for options in ("", f"?ssl_ca_certs={tmp_path / 'other.pem'}"):
            async with pipeline_to(f"rediss://localhost:{front.port}/0{options}") as pipeline:
                assert "certificate verify failed" in await why(pipeline, get("a"))


async def test_single_server_passes_url_options_to_connection(valkey: Valkey) -> None:
    async with pipeline_to(f"{valkey.url}?client_name=somebody&socket_timeout=3") as pipeline:
        await one(pipeline, get("a"))
        assert await names(valkey) == ["somebody"]


# Refusals of a server.


@pytest.mark.parametrize("user", ["bob", "nobody", ""])
async def test_server_with_wrong_password_error_hides_password(valkey: Valkey, user: str) -> None:
    await valkey.ask("ACL", "SETUSER", "bob", "on", ">open-sesame", "~*", "&*", "+@all")
    async with pipeline_to(f"redis://bob:open-sesame@{valkey.address}") as pipeline:
        assert await one(pipeline, put("a")) == b"OK"
    async with pipeline_to(f"redis://{user}:hocus-pocus@{valkey.address}") as pipeline:
        reason = await why(pipeline, get("a"))
    assert reason
    assert "hocus" not in reason


async def test_server_that_is_too_old_error_names_required_version(tmp_path: Path) -> None:
    async with Valkey(tmp_path, rename_command="FCALL XCALL") as valkey, pipeline_to(valkey.url) as pipeline:
        assert "Redis 7.0 or newer" in await why(pipeline, tell("u"))


# Behind sentinels.


async def test_sentinel_server_after_failover_uses_promoted_replica(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels, pipeline_to(sentinels.url) as pipeline:
        assert await pipeline.do([put("a"), tell("u")]) == [b"OK", 0]
        await sentinels.primary.ask("WAIT", 1, 1000)
        await sentinels.fail_over()
        await until_told(lambda: succeeds(pipeline, put("a", "2")))
        assert await sentinels.primary.ask("GET", "a") == b"2"


async def test_sentinel_server_with_unknown_service_is_unavailable(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels, pipeline_to(sentinels.url.replace("mymaster", "another")) as pipeline:
        assert "another" in await why(pipeline, get("a"))


async def test_sentinel_server_close_closes_connections_to_sentinels(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels:
        async with pipeline_to(sentinels.url) as pipeline:
            await one(pipeline, get("a"))
            assert await names(sentinels.sentinel) == ["wsbridge"]
        await until_told(lambda: is_called([], sentinels.sentinel))


# A cluster.


async def test_cluster_after_refresh_knows_owner_of_each_key(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, pipeline):
        with pytest.raises(BrokerUnavailable):
            server.node_of("a")
        assert list(server.nodes()) == []
        assert await why(pipeline, get("a"))
        await server.refresh()
        for key in KEYS:
            assert server.node_of(key) == (await cluster.node_of(key)).address
        assert set(server.nodes()) == {node.address for node in cluster.nodes}


async def test_cluster_with_moved_slot_follows_redirection(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, pipeline):
        await server.refresh()
        await pipeline.do([put(key, key) for key in KEYS])
        source = await cluster.node_of(KEYS[0])
        target = next(node for node in cluster.nodes if node is not source)
        for node in (target, source):
            await cluster.move_slot(key_slot(KEYS[0].encode()), node)
            assert await pipeline.do([get(key) for key in KEYS]) == [key.encode() for key in KEYS]
            await server.refresh()
            assert server.node_of(KEYS[0]) == node.address


async def test_cluster_with_migrating_slot_follows_redirection(cluster: Cluster) -> None:
    async with pipeline_to(cluster.url) as pipeline:
        slot = key_slot(b"new")
        source = await cluster.node_of("new")
        target = next(node for node in cluster.nodes if node is not source)
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", (await source.ask("CLUSTER", "MYID")).decode())
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", (await target.ask("CLUSTER", "MYID")).decode())
        try:
            one_more = Command("new", ("INCR", "new"))
            assert await pipeline.do([one_more, get("new"), one_more, get("new")]) == [1, b"1", 2, b"2"]
            assert await target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
        finally:
            await cluster.move_slot(slot, target)


async def test_cluster_with_slot_migrating_to_dead_node_is_unavailable(cluster: Cluster) -> None:
    async with pipeline_to(cluster.url) as pipeline:
        slot = key_slot(b"lost")
        source = await cluster.node_of("lost")
        target = next(node for node in cluster.nodes if node is not source)
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", (await target.ask("CLUSTER", "MYID")).decode())
        await target.kill()
        try:
            assert await why(pipeline, get("lost"))
        finally:
            await target.restart()
            await source.ask("CLUSTER", "SETSLOT", slot, "STABLE")
            await settled(cluster.is_ok)


async def test_cluster_connect_to_unknown_node_raises_unavailable(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, _):
        await server.refresh()
        with pytest.raises(BrokerUnavailable, match="not a node of the cluster"):
            await server.connect("127.0.0.1:1")


async def test_cluster_without_answering_node_is_unavailable_until_restart(tmp_path: Path) -> None:
    async with Valkey(tmp_path, cluster_enabled="yes") as node:
        await node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await node.kill()
        async with serving(f"redis+cluster://{node.address}") as (server, pipeline):
            for _ in range(2):
                with pytest.raises(BrokerUnavailable):
                    await server.refresh()
                assert await why(pipeline, get("a"))
            await node.restart()
            await until_told(lambda: _refreshes(server))
            await until_told(lambda: succeeds(pipeline, put("a")))
            await node.kill()
            with pytest.raises(BrokerUnavailable):
                await server.refresh()
            assert await why(pipeline, get("a"))


async def _refreshes(server: Server) -> bool:
    with contextlib.suppress(BrokerUnavailable):
        await server.refresh()
        return True
    return False


async def test_cluster_url_for_single_server_raises_unavailable(valkey: Valkey) -> None:
    async with serving(f"redis+cluster://{valkey.address}") as (server, _):
        with pytest.raises(BrokerUnavailable, match=r"[Cc]luster"):
            await server.refresh()


async def test_single_server_url_for_cluster_error_names_cluster_url(cluster: Cluster) -> None:
    async with pipeline_to(cluster.nodes[0].url) as pipeline:
        replies = [
            str(reply)
            for reply in await pipeline.do([get(key) for key in KEYS])
            if isinstance(reply, BrokerUnavailable)
        ]
        assert replies
        assert all("redis+cluster://" in reply for reply in replies)
