"""Commands of many callers on real servers: each gets its reply, or the reason for its absence."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.crc import key_slot

from tests.support.bench import event
from tests.support.cluster import Cluster
from tests.support.pipelines import KEYS, get, is_called, names, one, pipeline_to, put, serving, tell, why
from tests.support.running import until, until_told
from tests.support.valkey import Valkey, settled
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.append_call import grouped
from wsbridge.broker.redis.codec import encode_body
from wsbridge.broker.redis.commands import LIBRARY, Command
from wsbridge.broker.redis.pipeline import BATCH
from wsbridge.broker.redis.topology import ClusterServer

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests that do not change it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), replicas=0, cluster_require_full_coverage="no") as cluster:
        yield cluster


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short time-outs, for servers that will not answer."""
    for module in ("topology", "pipeline"):
        monkeypatch.setattr(f"wsbridge.broker.redis.{module}.TIMEOUT", 0.5)


# One server.


async def test_pipeline_returns_the_replies_in_order(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        words = [("SET", "a", b"\x00\xff"), ("GET", "a"), ("INCR", "b"), ("RPUSH", "c", "x", 7), ("LRANGE", "c", 0, -1)]
        replies = await pipeline.do([Command("a", words) for words in [*words, ("GET", "nothing"), ("DEL", "b", "c")]])
        assert replies == [b"OK", b"\x00\xff", 1, 2, [b"x", b"7"], None, 2]


async def test_pipeline_of_many_callers_uses_one_connection(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        before = (await valkey.info())["total_connections_received"]
        many = [put(f"m{n}", str(n)) for n in range(2 * BATCH)]
        done = await asyncio.gather(pipeline.do(many), *(one(pipeline, put(key, key)) for key in KEYS))
        assert done == [[b"OK"] * len(many), *[b"OK"] * len(KEYS)]
        assert await asyncio.gather(*(one(pipeline, get(key)) for key in KEYS)) == [key.encode() for key in KEYS]
        assert await pipeline.do([get(f"m{n}") for n in range(2 * BATCH)]) == [b"%d" % n for n in range(2 * BATCH)]
        assert (await valkey.info())["total_connections_received"] == before + 2  # this one, and that of the test
        assert await pipeline.do([]) == []


async def test_pipeline_close_closes_every_connection(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        await one(pipeline, get("a"))
        assert await names(valkey) == ["wsbridge"]
    await until_told(lambda: is_called([], valkey))
    async with pipeline_to(valkey.url):
        pass  # no command was sent


async def test_pipeline_reconnects_after_an_unnoticed_close(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        for _ in range(3):
            assert await one(pipeline, put("a")) == b"OK"
            await valkey.ask("CLIENT", "KILL", "TYPE", "normal")


async def test_pipeline_connection_that_ends_keeps_the_received_replies(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        replies = await pipeline.do([put("a", "2"), Command("a", ("QUIT",)), put("a", "3"), get("a")])
        assert replies[:2] == [b"OK", b"OK"]
        assert [isinstance(reply, BrokerUnavailable) for reply in replies[2:]] == [True, True]
        assert await one(pipeline, get("a")) == b"2"


# Refusals of a server.


async def test_pipeline_error_concerns_its_command_only(valkey: Valkey) -> None:
    async with pipeline_to(valkey.url) as pipeline:
        await pipeline.do([put("s"), Command("l", ("DEL", "l")), Command("l", ("RPUSH", "l", "x"))])
        before, wrong, after = await pipeline.do([get("s"), get("l"), get("s")])
        assert (before, after) == (b"1", b"1")
        assert isinstance(wrong, BrokerUnavailable)
        assert "WRONGTYPE" in str(wrong)


async def test_pipeline_command_without_the_right_names_it(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "reader", "on", "nopass", "~*", "+get", "+client", "+fcall")
    async with pipeline_to(f"redis://reader:x@{valkey.address}") as pipeline:
        assert await one(pipeline, get("nothing")) is None
        assert "permissions" in await why(pipeline, put("a"))


async def test_pipeline_server_without_memory_is_unavailable_for_writes(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        assert await one(pipeline, tell("u")) == 0
        await valkey.ask("CONFIG", "SET", "maxmemory", "1")
        (found,) = grouped({"u": [0]}, [(b"", encode_body(event(), "now"))], "w", len)
        append = found.command(["", "s", 5, 1000, 1000, 1000, 1000])
        assert "maxmemory" in await why(pipeline, append)
        await valkey.ask("CONFIG", "SET", "maxmemory", "0")
        assert isinstance((await one(pipeline, append))[0], bytes)


async def test_pipeline_write_to_a_replica_closes_the_connection(tmp_path: Path) -> None:
    """A former primary behind sentinels; a new connection finds the present one."""
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        await one(pipeline, put("a"))
        await valkey.ask("REPLICAOF", "127.0.0.1", valkey.port)
        before = (await valkey.info())["total_connections_received"]
        assert "read only" in await why(pipeline, put("a", "2"))
        await valkey.ask("REPLICAOF", "NO", "ONE")
        assert await one(pipeline, get("a")) == b"1"
        assert (await valkey.info())["total_connections_received"] == before + 3


# Unavailable servers.


async def test_pipeline_server_that_refuses_connections_is_unavailable_until_it_accepts(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        for _ in range(2):
            assert await one(pipeline, put("a")) == b"OK"
            await valkey.kill()
            assert [type(reply) for reply in await pipeline.do([put("a"), get("a")])] == [
                BrokerUnavailable,
                BrokerUnavailable,
            ]
            assert str(valkey.port) in await why(pipeline, get("a"))
            await valkey.restart()
        assert await one(pipeline, get("a")) is None


@pytest.mark.usefixtures("impatient")
async def test_pipeline_frozen_server_is_unavailable_and_replies_are_not_mixed_up(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        await pipeline.do([put("a", "1"), put("b", "2")])
        for _ in range(2):
            valkey.freeze()
            assert [type(reply) for reply in await pipeline.do([get("a"), get("b")])] == [
                BrokerUnavailable,
                BrokerUnavailable,
            ]
            assert await why(pipeline, get("a"))  # nor does it take a connection
            valkey.thaw()
            assert await pipeline.do([get("b"), get("a")]) == [b"2", b"1"]


@pytest.mark.usefixtures("impatient")
async def test_pipeline_waiting_for_a_reply_does_not_block_another_pipeline(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as frozen, Valkey(tmp_path) as valkey, pipeline_to(frozen.url) as slow:
        await one(slow, get("a"))
        frozen.freeze()
        waiting = asyncio.create_task(one(slow, get("a")))
        async with pipeline_to(valkey.url) as pipeline:
            assert await one(pipeline, put("a")) == b"OK"
        assert isinstance(await waiting, BrokerUnavailable)


async def test_pipeline_close_ends_all_waiting_callers(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        await one(pipeline, get("a"))
        valkey.freeze()
        waiting = [asyncio.create_task(pipeline.do([get("a")])) for _ in range(3)]
        await until(lambda: pipeline._is_sending)
        for _ in range(3):
            await asyncio.sleep(0)
        await pipeline.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3


# The functions.


async def test_pipeline_loads_missing_functions_again(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        for _ in range(3):
            assert await pipeline.do([put("a"), tell("u"), get("a"), tell("v")]) == [b"OK", 0, b"1", 0]
            ((_, name, *_),) = await valkey.ask("FUNCTION", "LIST")
            assert name == LIBRARY.encode()
            await valkey.ask("FUNCTION", "FLUSH")


async def test_pipeline_functions_of_two_versions_coexist(tmp_path: Path) -> None:
    older = "#!lua name=wsbridge_older\nredis.register_function('wsbridge_older_tell', function() return 7 end)"
    async with Valkey(tmp_path) as valkey, pipeline_to(valkey.url) as pipeline:
        await valkey.ask("FUNCTION", "LOAD", older)
        assert await one(pipeline, tell("u")) == 0
        assert await valkey.ask("FCALL", "wsbridge_older_tell", 0) == 7


async def test_pipeline_without_the_right_to_load_functions_raises_at_the_call(valkey: Valkey) -> None:
    await valkey.ask("FUNCTION", "FLUSH")
    await valkey.ask("ACL", "SETUSER", "caller", "on", "nopass", "~*", "&*", "+@all", "-function")
    async with pipeline_to(f"redis://caller:x@{valkey.address}") as pipeline:
        before, reply = await pipeline.do([put("a"), tell("u")])
        assert before == b"OK"
        assert "Function not found" in str(reply)
        async with pipeline_to(valkey.url) as other:
            await one(other, tell("u"))
        assert await one(pipeline, tell("u")) == 0


async def test_pipeline_loads_functions_on_every_node(cluster: Cluster) -> None:
    async with pipeline_to(cluster.url) as pipeline:
        for node in cluster.nodes:
            await node.ask("FUNCTION", "FLUSH")
        assert await one(pipeline, tell("u")) == 0
        assert [len(await node.ask("FUNCTION", "LIST")) for node in cluster.nodes] == [1, 1, 1]
        await cluster.nodes[0].ask("FUNCTION", "FLUSH")  # like a new node
        assert await pipeline.do([tell(key) for key in KEYS]) == [0] * len(KEYS)


# A cluster.


async def test_pipeline_in_a_cluster_returns_the_replies_of_all_nodes_in_order(cluster: Cluster) -> None:
    async with pipeline_to(cluster.url) as pipeline:
        assert await pipeline.do([put(key, key) for key in KEYS]) == [b"OK"] * len(KEYS)
        assert await pipeline.do([get(key) for key in KEYS]) == [key.encode() for key in KEYS]
        assert await pipeline.do([tell(key) for key in KEYS]) == [0] * len(KEYS)


async def test_pipeline_slot_without_an_owner_is_unavailable_and_others_are_not(cluster: Cluster) -> None:
    async with serving(cluster.url) as (server, pipeline):
        await server.refresh()
        await pipeline.do([put(key, key) for key in KEYS])
        assert isinstance(server, ClusterServer)
        del server._redis.nodes_manager.slots_cache[key_slot(KEYS[3].encode())]
        replies = await pipeline.do([get(key) for key in KEYS])
        assert [place for place, reply in enumerate(replies) if isinstance(reply, BrokerUnavailable)] == [3]
        assert [reply for reply in replies if not isinstance(reply, BrokerUnavailable)] == [
            key.encode() for key in KEYS if key != KEYS[3]
        ]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_pipeline_with_one_unavailable_node_fails_only_its_commands(cluster: Cluster, how: str) -> None:
    async with pipeline_to(cluster.url) as pipeline:
        await pipeline.do([put(key, key) for key in KEYS])
        bad = cluster.nodes[1]
        theirs = {key for key in KEYS if await cluster.node_of(key) is bad}
        assert theirs
        if how == "frozen":
            bad.freeze()
        else:
            await bad.kill()
        replies = await pipeline.do([get(key) for key in KEYS])
        assert {key for key, reply in zip(KEYS, replies, strict=True) if isinstance(reply, BrokerUnavailable)} == theirs
        for key, reply in zip(KEYS, replies, strict=True):
            assert key in theirs or reply == key.encode()
        if how == "frozen":
            bad.thaw()
        else:
            await bad.restart()
        await settled(cluster.is_ok)
        replies = await pipeline.do([get(key) for key in KEYS])
        assert [reply for key, reply in zip(KEYS, replies, strict=True) if key not in theirs] == [
            key.encode() for key in KEYS if key not in theirs
        ]
        assert not any(isinstance(reply, BrokerUnavailable) for reply in replies)
