"""Commands on real servers of every shape: each gets its reply, or the reason why there is none."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.crc import key_slot

from tests.support import until, until_told
from tests.valkey import Cluster, TlsFront, Valkey, settled, write_certificates
from wsbridge.broker import Away
from wsbridge.redis_keys import all_positions, keys_of
from wsbridge.redis_server import BATCH, LIBRARY, ClusterServer, Command, Lane, Server, call, server_at
from wsbridge.redis_url import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests that leave it as it was
KEYS = [f"k{n}" for n in range(30)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("server")) as valkey:
        yield valkey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), replicas=0, cluster_require_full_coverage="no") as cluster:
        yield cluster


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that will not answer, however long one waits."""
    monkeypatch.setattr("wsbridge.redis_server.TIMEOUT", 0.5)


@contextlib.asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[Server, Lane]]:
    server = server_at(parse(url))
    lane = Lane(server)
    try:
        yield server, lane
    finally:
        await lane.close()
        await server.close()


@contextlib.asynccontextmanager
async def lane_to(url: str) -> AsyncIterator[Lane]:
    async with serving(url) as (server, lane):
        await server.refresh()
        yield lane


def put(key: str, value: str = "1") -> Command:
    return Command(key, ("SET", key, value))


def get(key: str) -> Command:
    return Command(key, ("GET", key))


def tell(user: str) -> Command:
    """One of our functions."""
    return call("tell", [keys_of("w", user).position], b"x")


async def one(lane: Lane, command: Command) -> Any:
    (reply,) = await lane.do([command])
    return reply


async def names(valkey: Valkey) -> list[str]:
    """Of those who are connected and have one."""
    return re.findall(r" name=(\S+)", (await valkey.ask("CLIENT", "LIST")).decode())


async def _is(expected: list[str], valkey: Valkey) -> bool:
    return await names(valkey) == expected


async def why(lane: Lane, command: Command) -> str:
    """The reason why there is no reply."""
    reply = await one(lane, command)
    assert isinstance(reply, Away), reply
    return str(reply)


# One server.


async def test_each_command_gets_its_reply_in_order(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        words = [("SET", "a", b"\x00\xff"), ("GET", "a"), ("INCR", "b"), ("RPUSH", "c", "x", 7), ("LRANGE", "c", 0, -1)]
        replies = await lane.do([Command("a", words) for words in [*words, ("GET", "nothing"), ("DEL", "b", "c")]])
        assert replies == [b"OK", b"\x00\xff", 1, 2, [b"x", b"7"], None, 2]


async def test_commands_of_many_callers_go_over_one_connection(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        before = (await valkey.info())["total_connections_received"]
        many = [put(f"m{n}", str(n)) for n in range(2 * BATCH)]
        done = await asyncio.gather(lane.do(many), *(one(lane, put(key, key)) for key in KEYS))
        assert done == [[b"OK"] * len(many), *[b"OK"] * len(KEYS)]
        assert await asyncio.gather(*(one(lane, get(key)) for key in KEYS)) == [key.encode() for key in KEYS]
        assert await lane.do([get(f"m{n}") for n in range(2 * BATCH)]) == [b"%d" % n for n in range(2 * BATCH)]
        assert (await valkey.info())["total_connections_received"] == before + 2  # ours, and that of who asks
        assert await lane.do([]) == []


async def test_one_server_is_one_node_that_has_every_key(valkey: Valkey) -> None:
    async with serving(valkey.url) as (server, _):
        assert {server.node_of(key) for key in KEYS} == set(server.nodes())


async def test_at_the_close_every_connection_is_closed(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        await one(lane, get("a"))
        assert await names(valkey) == ["wsbridge"]
    await until_told(lambda: _is([], valkey))
    async with lane_to(valkey.url):
        pass  # nothing was asked


async def test_a_connection_that_was_closed_while_nobody_looked_is_made_again(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        for _ in range(3):
            assert await one(lane, put("a")) == b"OK"
            await valkey.ask("CLIENT", "KILL", "TYPE", "normal")


async def test_a_connection_that_ends_in_between_keeps_the_replies_that_came(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        replies = await lane.do([put("a", "2"), Command("a", ("QUIT",)), put("a", "3"), get("a")])
        assert replies[:2] == [b"OK", b"OK"]
        assert [isinstance(reply, Away) for reply in replies[2:]] == [True, True]
        assert await one(lane, get("a")) == b"2"


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


async def test_an_error_is_that_commands_alone(valkey: Valkey) -> None:
    async with lane_to(valkey.url) as lane:
        await lane.do([put("s"), Command("l", ("DEL", "l")), Command("l", ("RPUSH", "l", "x"))])
        before, wrong, after = await lane.do([get("s"), get("l"), get("s")])
        assert (before, after) == (b"1", b"1")
        assert isinstance(wrong, Away)
        assert "WRONGTYPE" in str(wrong)


@pytest.mark.parametrize("user", ["bob", "nobody", ""])
async def test_a_wrong_password_is_not_shown(valkey: Valkey, user: str) -> None:
    await valkey.ask("ACL", "SETUSER", "bob", "on", ">open-sesame", "~*", "&*", "+@all")
    async with lane_to(f"redis://bob:open-sesame@{valkey.address}") as lane:
        assert await one(lane, put("a")) == b"OK"
    async with lane_to(f"redis://{user}:hocus-pocus@{valkey.address}") as lane:
        reason = await why(lane, get("a"))
    assert reason
    assert "hocus" not in reason


async def test_what_a_user_may_not_do_is_said(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "reader", "on", "nopass", "~*", "+get", "+client", "+fcall")
    async with lane_to(f"redis://reader:x@{valkey.address}") as lane:
        assert await one(lane, get("nothing")) is None
        assert "permissions" in await why(lane, put("a"))


async def test_a_server_without_memory_is_away_for_writes(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        assert await one(lane, tell("u")) == 0
        await valkey.ask("CONFIG", "SET", "maxmemory", "1")
        keys = keys_of("w", "u")
        assert "maxmemory" in await why(lane, call("append", keys, "", "s", 5, 1000, 1000, 1000, b"", b"x"))
        await valkey.ask("CONFIG", "SET", "maxmemory", "0")
        assert isinstance(await one(lane, call("append", keys, "", "s", 5, 1000, 1000, 1000, b"", b"x")), bytes)


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


async def test_a_replica_takes_no_writes_and_is_not_kept(tmp_path: Path) -> None:
    """Behind sentinels it was the primary a moment ago; a new connection finds the one that is."""
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        await one(lane, put("a"))
        await valkey.ask("REPLICAOF", "127.0.0.1", valkey.port)
        before = (await valkey.info())["total_connections_received"]
        assert "read only" in await why(lane, put("a", "2"))
        await valkey.ask("REPLICAOF", "NO", "ONE")
        assert await one(lane, get("a")) == b"1"
        assert (await valkey.info())["total_connections_received"] == before + 3


# A server that is not there.


async def test_a_server_that_refuses_is_away_and_comes_back(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        for _ in range(2):
            assert await one(lane, put("a")) == b"OK"
            await valkey.kill()
            assert [type(reply) for reply in await lane.do([put("a"), get("a")])] == [Away, Away]
            assert str(valkey.port) in await why(lane, get("a"))
            await valkey.restart()
        assert await one(lane, get("a")) is None


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_is_frozen_is_away_and_never_answers_something_else(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        await lane.do([put("a", "1"), put("b", "2")])
        for _ in range(2):
            valkey.freeze()
            assert [type(reply) for reply in await lane.do([get("a"), get("b")])] == [Away, Away]
            assert await why(lane, get("a"))  # nor does it take a connection
            valkey.thaw()
            assert await lane.do([get("b"), get("a")]) == [b"2", b"1"]


@pytest.mark.usefixtures("impatient")
async def test_while_one_lane_waits_another_goes_on(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as frozen, Valkey(tmp_path) as valkey, lane_to(frozen.url) as slow:
        await one(slow, get("a"))
        frozen.freeze()
        waiting = asyncio.create_task(one(slow, get("a")))
        async with lane_to(valkey.url) as lane:
            assert await one(lane, put("a")) == b"OK"
        assert isinstance(await waiting, Away)


async def test_nobody_waits_for_a_lane_that_is_closed(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        await one(lane, get("a"))
        valkey.freeze()
        waiting = [asyncio.create_task(lane.do([get("a")])) for _ in range(3)]
        await until(lambda: lane._batches._task)
        for _ in range(3):
            await asyncio.sleep(0)
        await lane.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3


# Keys of a node.


async def test_a_scan_finds_what_matches_many_at_a_time(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, _):
        keys = {f"w:{{{n}}}" for n in range(3_000)}
        await valkey.client().mset(dict.fromkeys([*keys, *(f"{key}:h" for key in keys), "x:{1}"], "1"))
        portions = [portion async for portion in server.scan("", all_positions("w"))]
        assert len(portions) > 1
        assert {key for portion in portions for key in portion} == keys
        await until_told(lambda: _is([], valkey))


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


# The functions.


async def test_functions_that_are_gone_are_loaded_again(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        for _ in range(3):
            assert await lane.do([put("a"), tell("u"), get("a"), tell("v")]) == [b"OK", 0, b"1", 0]
            ((_, name, *_),) = await valkey.ask("FUNCTION", "LIST")
            assert name == LIBRARY.encode()
            await valkey.ask("FUNCTION", "FLUSH")


async def test_two_replicas_may_load_them_at_once(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, lane):
        await asyncio.gather(*(server.load() for _ in range(5)))
        assert await one(lane, tell("u")) == 0
        assert len(await valkey.ask("FUNCTION", "LIST")) == 1


async def test_another_version_of_them_may_be_there(tmp_path: Path) -> None:
    older = "#!lua name=wsbridge_older\nredis.register_function('wsbridge_older_tell', function() return 7 end)"
    async with Valkey(tmp_path) as valkey, lane_to(valkey.url) as lane:
        await valkey.ask("FUNCTION", "LOAD", older)
        assert await one(lane, tell("u")) == 0
        assert await valkey.ask("FCALL", "wsbridge_older_tell", 0) == 7


async def test_who_may_not_load_them_is_told_so_at_the_call(valkey: Valkey) -> None:
    await valkey.ask("FUNCTION", "FLUSH")
    await valkey.ask("ACL", "SETUSER", "caller", "on", "nopass", "~*", "&*", "+@all", "-function")
    async with lane_to(f"redis://caller:x@{valkey.address}") as lane:
        before, reply = await lane.do([put("a"), tell("u")])
        assert before == b"OK"
        assert "Function not found" in str(reply)
        async with lane_to(valkey.url) as other:
            await one(other, tell("u"))
        assert await one(lane, tell("u")) == 0


# A cluster.


async def _succeeds(lane: Lane, command: Command) -> bool:
    return not isinstance(await one(lane, command), Away)


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


async def test_each_node_gets_its_own_commands_and_the_replies_are_in_order(cluster: Cluster) -> None:
    async with lane_to(cluster.url) as lane:
        assert await lane.do([put(key, key) for key in KEYS]) == [b"OK"] * len(KEYS)
        assert await lane.do([get(key) for key in KEYS]) == [key.encode() for key in KEYS]
        assert await lane.do([tell(key) for key in KEYS]) == [0] * len(KEYS)


async def test_functions_are_loaded_on_every_node(cluster: Cluster) -> None:
    async with lane_to(cluster.url) as lane:
        for node in cluster.nodes:
            await node.ask("FUNCTION", "FLUSH")
        assert await one(lane, tell("u")) == 0
        assert [len(await node.ask("FUNCTION", "LIST")) for node in cluster.nodes] == [1, 1, 1]
        await cluster.nodes[0].ask("FUNCTION", "FLUSH")  # as on one that is new
        assert await lane.do([tell(key) for key in KEYS]) == [0] * len(KEYS)


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


async def test_a_slot_that_nobody_has_is_away_and_the_others_are_not(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, lane):
        await server.refresh()
        await lane.do([put(key, key) for key in KEYS])
        assert isinstance(server, ClusterServer)
        del server._redis.nodes_manager.slots_cache[key_slot(KEYS[3].encode())]
        replies = await lane.do([get(key) for key in KEYS])
        assert [place for place, reply in enumerate(replies) if isinstance(reply, Away)] == [3]
        assert [reply for reply in replies if not isinstance(reply, Away)] == [
            key.encode() for key in KEYS if key != KEYS[3]
        ]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_where_one_node_is_away_only_its_commands_are(cluster: Cluster, how: str) -> None:
    async with lane_to(cluster.url) as lane:
        await lane.do([put(key, key) for key in KEYS])
        bad = cluster.nodes[1]
        theirs = {key for key in KEYS if await cluster.node_of(key) is bad}
        assert theirs
        if how == "frozen":
            bad.freeze()
        else:
            await bad.kill()
        replies = await lane.do([get(key) for key in KEYS])
        assert {key for key, reply in zip(KEYS, replies, strict=True) if isinstance(reply, Away)} == theirs
        for key, reply in zip(KEYS, replies, strict=True):
            assert key in theirs or reply == key.encode()
        if how == "frozen":
            bad.thaw()
        else:
            await bad.restart()
        await settled(cluster._is_ok)
        replies = await lane.do([get(key) for key in KEYS])
        assert [reply for key, reply in zip(KEYS, replies, strict=True) if key not in theirs] == [
            key.encode() for key in KEYS if key not in theirs
        ]
        assert not any(isinstance(reply, Away) for reply in replies)


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
            await until_told(lambda: _succeeds(lane, put("a")))
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
