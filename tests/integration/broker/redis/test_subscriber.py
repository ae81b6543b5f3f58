"""The live stream on real servers:

every joined channel is received, reconnects are automatic, every loss is reported.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from redis.asyncio import Connection
from redis.crc import key_slot
from structlog.testing import capture_logs

from tests.support.cluster import Cluster
from tests.support.running import DEADLINE, until, until_told
from tests.support.sentinels import Sentinels
from tests.support.valkey import Valkey
from wsbridge.broker.redis.subscriber import PING_INTERVAL, SILENCE, Subscriber
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one cluster for all tests that need one
CHANNELS = [f"w:{{{n}}}" for n in range(30)]


class Recorder:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.interruptions: list[str] = []
        self.again: list[str] = []  # channels, in the order of their rejoins
        self.failures: list[tuple[str, type[Exception]]] = []
        self.fails = 0  # number of messages for which it raises
        self.fails_again = 0  # number of rejoins for which it raises

    async def on_message(self, channel: str, payload: bytes) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a bug")
        self.messages.append((channel, payload))

    def on_interrupted(self, why: str) -> None:
        self.interruptions.append(why)

    def on_error(self, doing: str, error: Exception) -> None:
        self.failures.append((doing, type(error)))

    def on_resubscribed(self, channel: str) -> None:
        if self.fails_again:
            self.fails_again -= 1
            raise RuntimeError("a bug")
        self.again.append(channel)


class Listening:
    """A running stream with its listener, and the server for publishing."""

    def __init__(self, url: str, at: Callable[[str], Awaitable[Valkey]]) -> None:
        self.recorder = Recorder()
        self.server = create_server(parse(url))
        self.subscriber = Subscriber(self.server, self.recorder)
        self._at = at

    async def join(self, *channels: str) -> None:
        async with asyncio.timeout(2 * DEADLINE):
            await asyncio.gather(*map(self.subscriber.subscribe, channels))

    async def publish(self, channel: str, *payloads: str) -> None:
        node = await self._at(channel)
        for payload in payloads:
            await node.ask("SPUBLISH", channel, payload)

    async def receives(self, channel: str, payload: str = "now") -> None:
        """Publish a message and wait until it arrives."""
        await self.publish(channel, payload)
        await until(lambda: self.recorder.messages and self.recorder.messages[-1] == (channel, payload.encode()))

    async def back(self, *channels: str) -> None:
        """Wait until all of these channels are reported as rejoined and receive messages."""
        await until(lambda: set(channels) <= set(self.recorder.again))
        assert self.subscriber.is_complete()
        for channel in channels:
            await self.receives(channel, f"after {len(self.recorder.messages)}")


@contextlib.asynccontextmanager
async def listening(server: Valkey | Cluster | Sentinels) -> AsyncIterator[Listening]:
    async def at(channel: str) -> Valkey:
        if isinstance(server, Cluster):
            return await server.node_of(channel)
        return server.primary if isinstance(server, Sentinels) else server

    found = Listening(server.url, at)
    running = asyncio.create_task(found.subscriber.run())
    try:
        yield found
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await found.server.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short time-outs for silence. A slow connection may then count as silent, and is replaced."""
    monkeypatch.setattr("wsbridge.broker.redis.subscriber.PING_INTERVAL", 0.05)
    monkeypatch.setattr("wsbridge.broker.redis.subscriber.SILENCE", 0.3)
    monkeypatch.setattr("wsbridge.broker.redis.subscriber.RECONNECT", 0.02)


async def subscribers(valkey: Valkey, channel: str) -> int:
    return int((await valkey.ask("PUBSUB", "SHARDNUMSUB", channel))[1])


async def connections(valkey: Valkey) -> int:
    """The connections of the subscriber; sentinels have some as well."""
    return sum(
        b" name=wsbridge " in line for line in (await valkey.ask("CLIENT", "LIST", "TYPE", "PUBSUB")).splitlines()
    )


# Joining and leaving.


async def test_subscriber_messages_after_a_join_arrive_in_order(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        assert (len(it.subscriber.channels), it.subscriber.is_complete()) == (2, True)
        await it.publish("a", *map(str, range(20)))
        await it.publish("b", "x")
        await it.publish("c", "y")
        await it.receives("a")
        assert [payload for channel, payload in it.recorder.messages if channel == "a"][:-1] == [
            b"%d" % n for n in range(20)
        ]
        assert ("b", b"x") in it.recorder.messages
        assert {channel for channel, _ in it.recorder.messages} == {"a", "b"}
        assert (it.recorder.interruptions, it.recorder.again) == ([], [])


async def test_subscriber_join_waits_for_the_confirmation(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a")
        valkey.freeze()
        joining = asyncio.create_task(it.join("b"))
        await until(lambda: len(it.subscriber.channels) == 2)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (joining.done(), it.subscriber.is_complete()) == (False, False)
        valkey.thaw()
        await joining
        assert await subscribers(valkey, "b") == 1
        await it.receives("b")


async def test_subscriber_join_before_run_waits_for_it(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        server, recorder = create_server(parse(valkey.url)), Recorder()
        subscriber = Subscriber(server, recorder)
        joining = asyncio.create_task(subscriber.subscribe("a"))
        running = asyncio.create_task(subscriber.run())
        await joining
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until_told(lambda: _is(0, connections(valkey)))
        assert recorder.interruptions == []


async def test_subscriber_joining_twice_subscribes_once(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "a")
        await it.join("a")
        assert it.subscriber.add("a") is None
        await it.publish("a", "x")
        await it.receives("a")
        assert it.recorder.messages == [("a", b"x"), ("a", b"now")]


async def test_subscriber_two_thousand_joins_at_once_use_one_connection(tmp_path: Path) -> None:
    channels = [f"w:{{{n:032x}}}" for n in range(2_000)]
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        for channel in channels:
            it.subscriber.add(channel)
        await it.join(*channels[:10], *channels[-10:])
        assert it.subscriber.is_complete()
        assert await connections(valkey) == 1
        assert len(await valkey.ask("PUBSUB", "SHARDCHANNELS")) == 2_000
        await it.receives(channels[0])
        await it.receives(channels[-1])
        await it.subscriber.unsubscribe(channels[1:])
        await until_told(lambda: _is(0, subscribers(valkey, channels[-1])))
        assert len(await valkey.ask("PUBSUB", "SHARDCHANNELS")) == 1
        assert it.recorder.interruptions == []


async def test_subscriber_message_of_a_left_channel_is_ignored(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        await it.subscriber.unsubscribe(["a"])
        assert list(it.subscriber.channels) == ["b"]
        await until_told(lambda: _is(0, subscribers(valkey, "a")))
        await it.publish("a", "x")
        await it.receives("b")
        assert it.recorder.messages == [("b", b"now")]


async def test_subscriber_channel_joined_again_right_after_a_leave_is_received(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        for _ in range(20):
            await it.subscriber.unsubscribe(["a"])
            await it.join("a")
            await it.receives("a")
        assert await subscribers(valkey, "a") == 1
        assert (it.recorder.interruptions, it.recorder.again) == ([], [])


async def test_subscriber_last_channel_of_a_node_stays_subscribed(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b", "c")
        await it.subscriber.unsubscribe(["a", "b", "c"])
        assert list(it.subscriber.channels) == ["c"]
        await it.subscriber.unsubscribe(["c"])
        await it.receives("c")
        await valkey.kill_subscribers()
        await it.back("c")
        await it.join("a")
        await it.subscriber.unsubscribe(["c"])
        assert list(it.subscriber.channels) == ["a"]


async def test_subscriber_channel_left_before_its_request_is_not_requested(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        it.subscriber.add("a")
        await it.subscriber.unsubscribe(["a"])
        await it.join("b")
        assert await valkey.ask("PUBSUB", "SHARDCHANNELS") == [b"b"]
        assert list(it.subscriber.channels) == ["b"]


async def test_subscriber_channel_left_during_an_outage_is_not_joined_again(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b", "c")
        await valkey.kill()
        await it.subscriber.unsubscribe(["a"])
        await until(lambda: it.recorder.interruptions)
        await it.subscriber.unsubscribe(["b"])
        await valkey.restart()
        await it.back("c")
        assert await valkey.ask("PUBSUB", "SHARDCHANNELS") == [b"c"]


async def test_subscriber_listener_that_raises_does_not_end_the_stream(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        it.recorder.fails = 2
        await it.publish("a", "1", "2", "3")
        await it.receives("b")
        assert it.recorder.messages == [("a", b"3"), ("b", b"now")]
        assert it.recorder.again == ["a", "a"]  # messages of that time were missed
        assert it.recorder.failures == [("subscription", RuntimeError)] * 2
        assert it.recorder.interruptions == []


async def test_subscriber_unexpected_error_ends_the_connection_and_not_the_stream(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        it.recorder.fails_again = 1
        await valkey.kill_subscribers()
        await it.back("a", "b")
        assert it.recorder.failures == [("listen", RuntimeError)]
        assert len(it.recorder.interruptions) == 2


async def test_subscriber_error_during_subscribing_is_retried(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a")
        connect, bugs = it.server.connect, [RuntimeError("a bug")]

        async def connecting(node: str) -> Connection:
            if bugs:
                raise bugs.pop()
            return await connect(node)

        vars(it.server).update(connect=connecting)
        await valkey.kill_subscribers()
        await it.back("a")
        assert it.recorder.failures == [("subscribe", RuntimeError)]
        assert "a bug" in it.recorder.interruptions
        await until_told(lambda: _is(1, connections(valkey)))


async def test_subscriber_server_that_evicts_is_reported(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with Valkey(tmp_path, maxmemory_policy="allkeys-lru") as valkey, listening(valkey) as it:
            await it.join("a")
            await it.receives("a")
    assert [line for line in lines if line["event"] == "redis.evicts"] == [
        {"event": "redis.evicts", "policy": "allkeys-lru", "log_level": "warning"}
    ]


# Interruptions.


async def test_subscriber_broken_connection_is_reported_and_replaced(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        for count in (1, 2, 3):
            assert await valkey.kill_subscribers() == 1
            await until(lambda: len(it.recorder.again) == 2 * count)  # noqa: B023 - it is awaited here
            assert len(it.recorder.interruptions) == count
            await it.back("a", "b")
        await it.join("c")
        await it.receives("c")
        assert "c" not in it.recorder.again
        assert await connections(valkey) == 1


async def test_subscriber_waits_for_a_server_that_starts_late(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.kill()
        async with listening(valkey) as it:
            joining = asyncio.create_task(it.join("a"))
            await until(lambda: it.recorder.interruptions)
            assert not joining.done()
            await valkey.restart()
            await joining
            await it.receives("a")
            assert it.recorder.again == []  # it was not joined before


@pytest.mark.usefixtures("impatient")
async def test_subscriber_frozen_server_is_reported(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        valkey.freeze()
        await until(lambda: len(it.recorder.interruptions) > 1)  # the silence, and the failed reconnect
        assert not it.subscriber.is_complete()
        valkey.thaw()
        await it.back("a", "b")


async def test_subscriber_silence_is_noticed_before_the_third_ping() -> None:
    """A frozen server is noticed within 2 s."""
    assert SILENCE + PING_INTERVAL < 2
    assert SILENCE > 2 * PING_INTERVAL


async def test_subscriber_after_a_pause_of_the_process_keeps_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause of this process all clocks have advanced, and it has read nothing."""
    ahead, looks = 0.0, 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic() + ahead

    for module in ("subscriber", "connection"):
        monkeypatch.setattr(f"wsbridge.broker.redis.{module}.time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr("wsbridge.broker.redis.subscriber.PING_INTERVAL", 0.05)
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a")
        for _ in range(3):
            before, ahead = looks, ahead + 60
            await until(lambda: looks > before + 4)  # noqa: B023 - it is awaited here
        await it.receives("a")
        assert it.recorder.interruptions == []


async def test_subscriber_reconnects_to_a_restarted_server(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, listening(valkey) as it:
        await it.join("a", "b")
        await valkey.restart()
        await it.back("a", "b")
        await valkey.stop()
        joining = asyncio.create_task(it.join("c"))
        await until(lambda: not it.subscriber.is_complete())
        await valkey.restart()
        await joining
        await it.back("a", "b")
        await it.receives("c")
        assert len(it.recorder.interruptions) >= 2


@pytest.mark.usefixtures("impatient")
async def test_subscriber_without_the_right_reports_it_and_retries(tmp_path: Path) -> None:
    """Over the same connection, on which no channel is joined."""

    async def pings(valkey: Valkey) -> int:
        statistics = await valkey.ask("INFO", "commandstats")
        return int(statistics.get("cmdstat_ping", {}).get("calls", 0))

    async with Valkey(tmp_path) as valkey:
        await valkey.ask("ACL", "SETUSER", "default", "resetchannels")
        async with listening(valkey) as it:
            joining = asyncio.create_task(it.join("a"))
            await until(lambda: it.recorder.interruptions)
            await until_told(lambda: _more(5, pings(valkey)))
            assert [why for why in it.recorder.interruptions if "channel" not in why] == []
            await valkey.ask("ACL", "SETUSER", "default", "allchannels")
            await joining
            await it.receives("a")


# Clusters.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), node_timeout=1000) as cluster:
        yield cluster


async def elsewhere(cluster: Cluster, channel: str) -> list[Valkey]:
    """The primaries that do not own the channel."""
    return [node for node in cluster.primaries if node is not await cluster.node_of(channel)]


async def test_subscriber_in_a_cluster_listens_to_each_node(cluster: Cluster) -> None:
    async with listening(cluster) as it:
        await it.join(*CHANNELS)
        assert [await connections(node) for node in cluster.primaries] == [1, 1, 1]
        for channel in CHANNELS:
            await it.receives(channel)
        await it.subscriber.unsubscribe(CHANNELS)
        assert len(it.subscriber.channels) == 3  # one on each node
        assert it.recorder.interruptions == []


class Gate:
    """Holds back the requests to one node, like a slow link to it."""

    def __init__(self, it: Listening, node: Valkey) -> None:
        self._open = asyncio.Event()
        self._connect = it.server.connect
        self._node = node
        self.waiting = 0
        vars(it.server).update(connect=self.connect)

    async def connect(self, node: str) -> Connection:
        connection = await self._connect(node)
        if node == self._node.address:
            send = connection.send_packed_command

            async def sending(data: bytes, check_health: bool = True) -> None:
                self.waiting += 1
                await self._open.wait()
                await send(data, check_health)

            vars(connection).update(send_packed_command=sending)
        return connection

    def close(self) -> None:
        self.waiting = 0
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.mark.fault("D10")
async def test_stream_with_one_slow_node_receives_channels_joined_again_on_another(cluster: Cluster) -> None:
    """The requests for one channel reach its node in order, whatever another node does."""
    async with listening(cluster) as it:
        slow, quick, *_ = cluster.primaries
        gate = Gate(it, slow)
        gate.open()
        await it.join(*CHANNELS)
        theirs = [channel for channel in CHANNELS if await cluster.node_of(channel) is slow]
        others = [channel for channel in CHANNELS if await cluster.node_of(channel) is quick]
        gate.close()
        leaving = asyncio.create_task(it.subscriber.unsubscribe([theirs[0], others[0]]))
        await until(lambda: gate.waiting)
        await it.join(others[0])
        await it.publish(others[0], "disconnect")
        await until(lambda: (others[0], b"disconnect") in it.recorder.messages)
        gate.open()
        await leaving
        await it.receives(others[0])
        assert await subscribers(quick, others[0]) == 1
        assert (it.recorder.interruptions, it.recorder.again) == ([], [])


@pytest.mark.fault("D10")
async def test_stream_after_quick_leaves_and_joins_has_the_last_state(cluster: Cluster) -> None:
    """Even if requests overlap, the last one for each channel decides, on the server too."""
    async with listening(cluster) as it:
        stay = [f"stay:{{{n}}}" for n in range(12)]
        await it.join(*CHANNELS, *stay)
        for turn in range(40):
            some = CHANNELS[turn % 3 :: 3]
            leaving = asyncio.create_task(it.subscriber.unsubscribe(some))
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            await it.join(*some[::2])
            await leaving
            await it.join(*some)
        gone, *kept = CHANNELS
        await it.subscriber.unsubscribe([gone])
        for channel in kept:
            await it.receives(channel)
            assert await subscribers(await cluster.node_of(channel), channel) == 1
        assert await subscribers(await cluster.node_of(gone), gone) == 0
        assert (it.recorder.interruptions, it.recorder.again) == ([], [])


@pytest.mark.fault("D10")
async def test_stream_joins_again_a_channel_whose_slot_moves_while_it_is_left(cluster: Cluster) -> None:
    """The end of the old subscription, reported late, does not end the new one."""
    async with listening(cluster) as it:
        await it.join("w:{c}", *CHANNELS)
        for _ in range(2):
            target, *_ = await elsewhere(cluster, "w:{c}")
            moving = asyncio.create_task(cluster.move_slot(key_slot(b"c"), target))
            while not moving.done():
                await it.subscriber.unsubscribe(["w:{c}"])
                await it.join("w:{c}")
            await moving
            await until_told(lambda: _is(1, subscribers(target, "w:{c}")))  # noqa: B023 - it is awaited here
            await until(it.subscriber.is_complete)
            await it.receives("w:{c}")


async def test_stream_follows_a_slot_that_moves(cluster: Cluster) -> None:
    async with listening(cluster) as it:
        await it.join("w:{a}", *CHANNELS)
        for node in [*await elsewhere(cluster, "w:{a}"), await cluster.node_of("w:{a}")]:
            it.recorder.again.clear()
            await cluster.move_slot(key_slot(b"a"), node)
            await it.back("w:{a}")
            assert await cluster.node_of("w:{a}") is node
            assert await subscribers(node, "w:{a}") == 1
            assert it.recorder.again == ["w:{a}"]


async def test_subscriber_join_at_the_old_node_of_a_slot_follows_the_move(cluster: Cluster) -> None:
    async with listening(cluster) as it:
        await it.join(*CHANNELS)
        await cluster.move_slot(key_slot(b"a"), (await elsewhere(cluster, "w:{a}"))[0])
        others = [f"w:{{{n}}}" for n in range(30, 60)]
        await it.join("w:{a}", *others)
        for channel in ("w:{a}", *others):
            await it.receives(channel)
        assert it.recorder.interruptions  # it was requested at the old node
        assert it.recorder.again == []
        assert it.subscriber.is_complete()


async def test_stream_moves_a_channel_after_a_refresh_of_the_slots(cluster: Cluster) -> None:
    async with listening(cluster) as it:
        await it.join(*CHANNELS)
        (target, _) = await elsewhere(cluster, "w:{b}")
        await cluster.move_slot(key_slot(b"b"), target)
        assert it.server.node_of("w:{b}") != target.address
        it.subscriber.refresh_soon()
        await until(lambda: it.server.node_of("w:{b}") == target.address)
        assert it.recorder.interruptions == []


async def test_stream_follows_the_promoted_replica_of_a_killed_primary(cluster: Cluster) -> None:
    async with listening(cluster) as it:
        await it.join(*CHANNELS)
        primary = await cluster.node_of(CHANNELS[0])
        theirs = [channel for channel in CHANNELS if await cluster.node_of(channel) is primary]
        others = [channel for channel in CHANNELS if channel not in theirs]
        promoted = await cluster.fail_over(primary)
        await it.back(*theirs)
        assert await subscribers(promoted, CHANNELS[0]) == 1
        assert set(it.recorder.again).isdisjoint(others)  # they are not affected
        for channel in others:
            await it.receives(channel)


async def _is(expected: int, number: Awaitable[int]) -> bool:
    return await number == expected


async def _more(least: int, number: Awaitable[int]) -> bool:
    return await number > least
