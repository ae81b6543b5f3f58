"""Servers of every shape: how they are reached, who has which keys, what they refuse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.crc import key_slot

from tests.support.lanes import KEYS, get, is_called, lane_to, names, one, put, serving, succeeds, tell, why
from tests.support.running import until_told
from tests.support.valkey import Cluster, Sentinels, TlsFront, Valkey, settled, write_certificates
from wsbridge.broker.base import Away
from wsbridge.broker.redis.codec import all_positions
from wsbridge.broker.redis.commands import Command
from wsbridge.broker.redis.topology import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests that leave it as it was


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("server")) as valkey:
        yield valkey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), replicas=0) as cluster:
        yield cluster


# One server.


async def test_one_server_is_one_node_that_has_every_key(valkey: Valkey) -> None:
    async with serving(valkey.url) as (server, _):
        assert {server.node_of(key) for key in KEYS} == set(server.nodes())


async def test_another_database_is_another_world(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane, lane_to(valkey.url.removesuffix("0") + "3") as other:
        await one(lane, put("d", "0"))
        await one(other, put("d", "3"))
        assert await one(lane, get("d")) == b"0"


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with Valkey(tmp_path, unixsocket="s") as valkey, lane_to(f"unix://{valkey.directory}/s?db=2") as lane:
        assert await one(lane, put("a")) == b"OK"
        assert await valkey.client(db=2).get("a") == b"1"


async def test_tls(valkey: Valkey, tmp_path: Path) -> None:
    async with TlsFront(tmp_path, valkey.port) as front:
        async with lane_to(front.url) as lane:
            assert await one(lane, put("a", "tls")) == b"OK"
            assert await one(lane, get("a")) == b"tls"
        write_certificates(tmp_path / "other.pem", tmp_path / "unused.pem")
        for options in ("", f"?ssl_ca_certs={tmp_path / 'other.pem'}"):
            async with lane_to(f"rediss://localhost:{front.port}/0{options}") as lane:
                assert "certificate verify failed" in await why(lane, get("a"))


async def test_options_of_the_url_are_for_the_connection(valkey: Valkey) -> None:
    async with lane_to(f"{valkey.url}?client_name=somebody&socket_timeout=3") as lane:
        await one(lane, get("a"))
        assert await names(valkey) == ["somebody"]


# What a server refuses.


@pytest.mark.parametrize("user", ["bob", "nobody", ""])
async def test_a_wrong_password_is_not_shown(valkey: Valkey, user: str) -> None:
    await valkey.ask("ACL", "SETUSER", "bob", "on", ">open-sesame", "~*", "&*", "+@all")
    async with lane_to(f"redis://bob:open-sesame@{valkey.address}") as lane:
        assert await one(lane, put("a")) == b"OK"
    async with lane_to(f"redis://{user}:hocus-pocus@{valkey.address}") as lane:
        reason = await why(lane, get("a"))
    assert reason
    assert "hocus" not in reason


async def test_a_server_that_is_too_old_is_told_of(tmp_path: Path) -> None:
    async with Valkey(tmp_path, rename_command="FCALL XCALL") as valkey, lane_to(valkey.url) as lane:
        assert "Redis 7.0 or newer" in await why(lane, tell("u"))


@pytest.mark.parametrize(("config", "policy"), [({"maxmemory_policy": "allkeys-lru"}, "allkeys-lru"), ({}, None)])
async def test_a_server_that_evicts_says_so(tmp_path: Path, config: dict[str, str], policy: str | None) -> None:
    async with Valkey(tmp_path, **config) as valkey, serving(valkey.url) as (server, _):
        connection = await server.connect("")
        assert await server.eviction(connection) == policy
        await connection.disconnect()


@pytest.mark.parametrize("rights", ["-config", "-@all +client"])
async def test_where_we_may_not_ask_about_eviction_nothing_is_said(valkey: Valkey, rights: str) -> None:
    await valkey.ask("ACL", "SETUSER", "guest", "reset", "on", "nopass", "~*", "+@all", *rights.split())
    async with serving(f"redis://guest:x@{valkey.address}") as (server, _):
        connection = await server.connect("")
        assert await server.eviction(connection) is None
        await connection.disconnect()


# Keys of a node, and functions.


async def test_a_scan_finds_what_matches_many_at_a_time(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, _):
        keys = {f"w:{{{n}}}" for n in range(3_000)}
        await valkey.client().mset(dict.fromkeys([*keys, *(f"{key}:h" for key in keys), "x:{1}"], "1"))
        portions = [portion async for portion in server.scan("", all_positions("w"))]
        assert len(portions) > 1
        assert {key for portion in portions for key in portion} == keys
        await until_told(lambda: is_called([], valkey))


async def test_a_scan_of_a_server_that_goes_is_away(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, _):
        await valkey.client().mset({f"w:{{{n}}}": "1" for n in range(3_000)})
        scan = server.scan("", "*")
        await anext(scan)
        await valkey.kill()
        with pytest.raises(Away):
            await anext(scan)
        with pytest.raises(Away):
            await anext(server.scan("", "*"))


async def test_two_replicas_may_load_them_at_once(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, lane):
        await asyncio.gather(*(server.load() for _ in range(5)))
        assert await one(lane, tell("u")) == 0
        assert len(await valkey.ask("FUNCTION", "LIST")) == 1


# Behind sentinels.


async def test_behind_sentinels_the_promoted_replica_takes_over(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels, lane_to(sentinels.url) as lane:
        assert await lane.do([put("a"), tell("u")]) == [b"OK", 0]
        await sentinels.primary.ask("WAIT", 1, 1000)
        await sentinels.fail_over()
        await until_told(lambda: succeeds(lane, put("a", "2")))
        assert await sentinels.primary.ask("GET", "a") == b"2"


async def test_a_service_that_no_sentinel_knows_is_away(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels, lane_to(sentinels.url.replace("mymaster", "another")) as lane:
        assert "another" in await why(lane, get("a"))


async def test_at_the_close_the_connections_to_sentinels_are_closed_too(tmp_path: Path) -> None:
    async with Sentinels(tmp_path) as sentinels:
        async with lane_to(sentinels.url) as lane:
            await one(lane, get("a"))
            assert await names(sentinels.sentinel) == ["wsbridge"]
        await until_told(lambda: is_called([], sentinels.sentinel))


# A cluster.


async def test_a_cluster_says_who_has_which_keys(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, lane):
        with pytest.raises(Away):
            server.node_of("a")
        assert list(server.nodes()) == []
        assert await why(lane, get("a"))
        await server.refresh()
        for key in KEYS:
            assert server.node_of(key) == (await cluster.node_of(key)).address
        assert set(server.nodes()) == {node.address for node in cluster.nodes}


async def test_a_slot_that_has_moved_is_found(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, lane):
        await server.refresh()
        await lane.do([put(key, key) for key in KEYS])
        source = await cluster.node_of(KEYS[0])
        target = next(node for node in cluster.nodes if node is not source)
        for node in (target, source):
            await cluster.move_slot(key_slot(KEYS[0].encode()), node)
            assert await lane.do([get(key) for key in KEYS]) == [key.encode() for key in KEYS]
            await server.refresh()
            assert server.node_of(KEYS[0]) == node.address


async def test_a_slot_that_is_moving_is_found(cluster: Cluster) -> None:
    async with lane_to(cluster.url) as lane:
        slot = key_slot(b"new")
        source = await cluster.node_of("new")
        target = next(node for node in cluster.nodes if node is not source)
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", (await source.ask("CLUSTER", "MYID")).decode())
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", (await target.ask("CLUSTER", "MYID")).decode())
        try:
            one_more = Command("new", ("INCR", "new"))
            assert await lane.do([one_more, get("new"), one_more, get("new")]) == [1, b"1", 2, b"2"]
            assert await target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
        finally:
            await cluster.move_slot(slot, target)


async def test_a_command_whose_slot_is_moving_to_a_node_that_is_away_is_away(cluster: Cluster) -> None:
    async with lane_to(cluster.url) as lane:
        slot = key_slot(b"lost")
        source = await cluster.node_of("lost")
        target = next(node for node in cluster.nodes if node is not source)
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", (await target.ask("CLUSTER", "MYID")).decode())
        await target.kill()
        try:
            assert await why(lane, get("lost"))
        finally:
            await target.restart()
            await source.ask("CLUSTER", "SETSLOT", slot, "STABLE")
            await settled(cluster.is_ok)


async def test_a_node_that_is_not_in_the_cluster_is_away(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, _):
        await server.refresh()
        with pytest.raises(Away, match="no node of the cluster"):
            await server.connect("127.0.0.1:1")


async def test_a_cluster_of_which_nobody_answers_is_away_and_comes_back(tmp_path: Path) -> None:
    async with Valkey(tmp_path, cluster_enabled="yes") as node:
        await node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await node.kill()
        async with serving(f"redis+cluster://{node.address}") as (server, lane):
            for _ in range(2):
                with pytest.raises(Away):
                    await server.refresh()
                assert await why(lane, get("a"))
            await node.restart()
            await until_told(lambda: _refreshes(server))
            await until_told(lambda: succeeds(lane, put("a")))
            await node.kill()
            with pytest.raises(Away):
                await server.refresh()
            assert await why(lane, get("a"))


async def _refreshes(server: Server) -> bool:
    with contextlib.suppress(Away):
        await server.refresh()
        return True
    return False


async def test_a_server_that_is_no_cluster_is_told_of(valkey: Valkey) -> None:
    async with serving(f"redis+cluster://{valkey.address}") as (server, _):
        with pytest.raises(Away, match=r"[Cc]luster"):
            await server.refresh()


async def test_a_cluster_that_was_taken_for_one_server_is_told_of(cluster: Cluster) -> None:
    async with lane_to(cluster.nodes[0].url) as lane:
        replies = [str(reply) for reply in await lane.do([get(key) for key in KEYS]) if isinstance(reply, Away)]
        assert replies
        assert all("redis+cluster://" in reply for reply in replies)
