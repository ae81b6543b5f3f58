"""Losses of a server are detected, and a lost history is never continued in the same epoch."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.bench import Bench, event, numbered, on_redis
from tests.support.clocks import WallClock
from tests.support.cluster import Cluster
from tests.support.running import until_told
from tests.support.valkey import Valkey, is_linked, settled
from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.broker.redis.append_call import Replies, grouped
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.broker.redis.codec import encode_body, keys_of, parse_position
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.loss_detector import PORTION, LossDetector
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.events import Position
from wsbridge.core.recovery import Gap, Resume
from wsbridge.telemetry.metrics import Metrics

DAY = 86_400_000  # ms
Answer = tuple[dict[str, Position | None], int]


class Witness:
    """The evidence of one replica, its appends, and the positions of its connected users."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix
        self.metrics = Metrics()
        self.detector = LossDetector(server, prefix, self.metrics)
        self.known: dict[str, Position] = {}
        self._pipeline = Pipeline(server)

    async def append(self, user: str, count: int = 1, *, connected: bool = False) -> Position:
        (append,) = grouped({user: range(count)}, [(b"", encode_body(event(user), "now"))] * count, self.prefix, len)
        command = append.command(["", secrets.token_hex(8), 100, DAY, DAY, DAY, 10**6])
        ((_, reply),) = Replies(append.users, *await self._pipeline.do([command])).by_user()
        if isinstance(reply, BrokerUnavailable):
            raise reply
        epoch, offset, _ = reply.decode().split(" ")
        last = Position(epoch, int(offset))
        self.detector.record(user, last)
        if connected:
            self.known[user] = last
        return last

    async def top(self, user: str) -> Position | None:
        key = keys_of(self.prefix, user).position
        (reply,) = await self._pipeline.do([Command(key, ("GET", key))])
        return parse_position(reply)

    async def call(self, function: str, *args: str | int) -> Any:
        return (await self._pipeline.do([call(function, [keys_of(self.prefix, "a").position], *args)]))[0]

    async def check(self) -> Answer:
        return await self.detector.check(self.known.items())

    async def close(self) -> None:
        await self.detector.close()
        await self._pipeline.close()
        await self.server.close()


@contextlib.asynccontextmanager
async def witnesses(url: str, count: int = 1, prefix: str = "w") -> AsyncIterator[list[Witness]]:
    async with contextlib.AsyncExitStack() as stack:
        found = [Witness(create_server(parse(url)), prefix) for _ in range(count)]
        for witness in found:
            stack.push_async_callback(witness.close)
            await witness.server.refresh()
        yield found


async def test_loss_detector_without_evidence_finds_no_loss(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        assert await witness.check() == ({}, 0)


async def test_loss_detector_without_a_loss_returns_the_positions(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", 3, connected=True)
        await one.append("b", connected=True)
        await one.append("c")
        further = await other.append("b", 2)
        with capture_logs() as lines:
            for _ in range(3):
                assert await one.check() == ({"a": one.known["a"], "b": further}, 0)
                assert await other.check() == ({}, 0)
        assert lines == []
        assert further.offset == 3


async def test_loss_detector_reads_many_positions_and_lets_other_tasks_run(tmp_path: Path) -> None:
    """One turn of the loop for 15,000 positions took 75 ms."""
    users = [f"user-{number}" for number in range(3 * PORTION + 1)]
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        for user in users[:1] + users[-1:]:
            await witness.append(user, connected=True)
        known = {user: witness.known.get(user, Position("gone", 1)) for user in users}
        expected = {user: witness.known.get(user) for user in users}
        largest = 0

        async def spied(*commands: Command) -> Sequence[Any]:
            nonlocal largest
            largest = max(largest, sum(len(command.words) for command in commands))
            return await ask(*commands)

        ask, witness.detector._pipeline.ask = witness.detector._pipeline.ask, spied  # type: ignore[method-assign]
        witness.detector._written_off = {(user, "gone") for user in users}  # handled before
        assert await witness.detector.check(known.items()) == (expected, 0)
        assert PORTION < largest < 2 * PORTION


@pytest.mark.parametrize("connected", [False, True])
async def test_loss_detector_after_an_older_snapshot_forgets_every_history(tmp_path: Path, connected: bool) -> None:
    """The last append is missing, even if no connected user sees it. All others may be missing too."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        await witness.append("b", 2, connected=True)
        old = await witness.append("a", 3, connected=connected)
        snapshot = await valkey.snapshot()
        await witness.append("a", 2, connected=connected)
        await valkey.restore(snapshot)
        assert await witness.top("a") == old
        with capture_logs() as lines:
            found, lost = await witness.check()
        assert found == dict.fromkeys(witness.known)
        assert lost == 1
        assert [(line["event"], line["log_level"]) for line in lines] == [("history.lost", "warning")]
        new = await witness.append("a")
        assert new.offset == 1
        assert new.epoch != old.epoch


async def test_loss_detector_after_a_wipe_finds_all_positions_missing(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        await witness.append("a", connected=True)
        await witness.append("b", connected=True)
        await valkey.wipe()
        assert await witness.check() == ({"a": None, "b": None}, 2)


async def test_loss_detector_lost_event_of_another_replica_is_seen_by_connected_sessions(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", 3)
        snapshot = await valkey.snapshot()
        other.known["a"] = await one.append("a")
        await valkey.restore(snapshot)
        assert await other.check() == ({"a": None}, 1)


async def test_loss_detector_of_several_replicas_resets_once(tmp_path: Path) -> None:
    """New positions after the first replica's reset do not hide the loss from the second one."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 3) as (one, other, fresh):
        await one.append("a", 3, connected=True)
        await other.append("b", 3, connected=True)
        fresh.known["b"] = other.known["b"]  # a replica that has not looked yet
        snapshot = await valkey.snapshot()
        for witness, user in ((one, "a"), (other, "b")):
            await witness.append(user, connected=True)
            await witness.check()
        await valkey.restore(snapshot)
        with capture_logs() as lines:
            assert await one.check() == ({"a": None}, 1)
            new = {user: await one.append(user) for user in "ab"}
            for late in (other, fresh):
                assert await late.check() == ({"b": new["b"]}, 1)
                assert await late.check() == ({"b": new["b"]}, 0)
        assert [line["event"] for line in lines] == ["history.lost"]
        assert (await one.top("a"), await one.top("b")) == (new["a"], new["b"])


async def test_loss_detector_loss_noticed_by_another_replica_forgets_nothing_more(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", connected=True)
        await other.append("b", connected=True)
        for witness in (one, other):
            await witness.check()
        await valkey.wipe()
        with capture_logs() as lines:
            await one.check()
            new = await one.append("a", connected=True)
            assert await other.check() == ({"b": None}, 1)
            assert await one.check() == ({"a": new}, 0)
        assert [line["event"] for line in lines] == ["history.lost"]
        assert (one.metrics.losses, other.metrics.losses) == (1, 0)
        assert one.metrics.lost_at > other.metrics.lost_at == 0


@pytest.mark.parametrize("connected", [False, True])
async def test_loss_detector_after_a_reset_finds_no_loss(tmp_path: Path, connected: bool) -> None:
    """Even if no client ever resumes from the lost history."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", connected=connected)
        await one.check()
        await valkey.wipe()
        with capture_logs() as lines:
            assert (await one.check())[1] == 1
            new = await other.append("b", 2, connected=True)
            for _ in range(3):
                await one.check()
                assert await other.check() == ({"b": new}, 0)
        assert [line["event"] for line in lines] == ["history.lost"]


async def test_loss_detector_finds_another_loss(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        for _ in range(3):
            await witness.append("b", connected=True)
            await witness.append("a", connected=True)
            assert (await witness.check())[1] == 0
            await valkey.wipe()
            kept = await witness.append("c")
            with capture_logs() as lines:
                assert await witness.check() == ({"a": None, "b": None}, 2)
            assert [line["event"] for line in lines] == ["history.lost"]
            assert await witness.top("c") == kept  # it began after the last look in the same life, so it is sound


async def test_loss_detector_history_of_an_earlier_epoch_is_a_loss(tmp_path: Path) -> None:
    """A snapshot brought back an epoch from before the known one."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        old = await witness.append("a", 3)
        snapshot = await valkey.snapshot()
        await valkey.wipe()
        await witness.append("a", connected=True)
        assert (await witness.check())[1] == 0
        await valkey.restore(snapshot)
        assert await witness.top("a") == old
        assert await witness.check() == ({"a": None}, 1)
        assert (await witness.append("a")).epoch not in (old.epoch, witness.known["a"].epoch)


async def test_loss_detector_during_the_reset_of_another_replica_is_unavailable(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", connected=True)
        await one.check()
        await valkey.wipe()
        mark = await other.call("forget", "seed", "0 w", "", "")
        assert isinstance(mark, int)
        assert await other.call("forget", "seed", "0 w", "", "") == b"busy 0"
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(BrokerUnavailable, match="another replica"):
                    await one.check()
            await other.call("forgotten", "seed", "0 w", mark)
            assert await one.check() == ({"a": None}, 1)
        assert lines == []


async def test_loss_detector_continues_the_abandoned_reset_of_another_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if the other one makes no progress, measured by the clock of the replica that waits."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url, 2) as (one, other):
        await one.append("a", connected=True)
        await one.append("b", connected=True)
        await one.check()
        await valkey.ask("DEL", keys_of("w", "a").position)
        mark = await other.call("forget", "seed", "0 w", "", "")
        with pytest.raises(BrokerUnavailable, match="another replica"):
            await one.check()
        monkeypatch.setattr("wsbridge.broker.redis.loss_detector.STUCK", 0.0)
        await other.call("drop", "0 w", mark)
        with pytest.raises(BrokerUnavailable, match="another replica"):
            await one.check()
        with capture_logs() as lines:
            assert await one.check() == ({"a": None, "b": None}, 1)
        assert [line["event"] for line in lines] == ["history.lost"]


async def test_loss_detector_ignores_an_append_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        await witness.append("a")
        await valkey.wipe()
        monkeypatch.setattr("wsbridge.broker.redis.loss_detector.LASTS", 0.0)
        assert await witness.check() == ({}, 0)
        monkeypatch.undo()
        assert await witness.check() == ({}, 1)


async def test_loss_detector_drops_only_positions_of_its_prefix(tmp_path: Path) -> None:
    async with (
        Valkey(tmp_path) as valkey,
        witnesses(valkey.url, prefix="w*") as (witness,),
        witnesses(valkey.url, prefix="w*x") as (stranger,),
    ):
        theirs = await stranger.append("a", 2, connected=True)
        await witness.append("a", 2, connected=True)
        await valkey.ask("SET", "somebody's", "1")
        await valkey.ask("DEL", keys_of("w*", "a").position)
        await witness.append("b")
        before = {key.decode() for key in await valkey.ask("KEYS", "*")}
        assert await witness.check() == ({"a": None}, 1)
        gone = before - {key.decode() for key in await valkey.ask("KEYS", "*")}
        assert gone == {keys_of("w*", "b").position}
        assert await stranger.check() == ({"a": theirs}, 0)


async def test_loss_detector_forgets_any_number_of_positions(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        users = [f"u{n}" for n in range(2_500)]
        await witness.append("a", connected=True)
        await valkey.wipe()
        await valkey.client().mset({keys_of("w", user).position: "e 1 0" for user in users})
        assert (await witness.check())[1] == 1
        assert await valkey.ask("DBSIZE") == 0


async def test_loss_detector_with_an_unavailable_server_raises(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        last = await witness.append("a", connected=True)
        snapshot = await valkey.snapshot()
        await valkey.kill()
        with capture_logs() as lines:
            for _ in range(2):
                with pytest.raises(BrokerUnavailable):
                    await witness.check()
        assert lines == []
        await valkey.restore(snapshot)
        assert await witness.check() == ({"a": last}, 0)


async def test_loss_detector_in_a_cluster_checks_each_node_by_itself(tmp_path: Path) -> None:
    async with Cluster(tmp_path, replicas=0) as cluster, witnesses(cluster.url) as (witness,):
        users = [f"u{n}" for n in range(30)]
        for user in users:
            await witness.append(user, connected=True)
        places = {user: await cluster.node_of(keys_of("w", user).position) for user in users}
        bad = cluster.nodes[0]
        assert set(places.values()) == set(cluster.nodes)
        assert await witness.check() == (witness.known, 0)
        unlucky = next(user for user in users if places[user] is bad)
        old = await bad.ask("GET", keys_of("w", unlucky).position)
        await witness.append(unlucky, connected=True)
        await bad.ask("SET", keys_of("w", unlucky).position, old)
        with capture_logs() as lines:
            found, lost = await witness.check()
        assert lost == 1
        assert found == {user: None if places[user] is bad else witness.known[user] for user in users}
        assert [(line["event"], line["node"]) for line in lines] == [("history.lost", bad.address)]


# Clocks and lives: none of the above depends on the server's wall clock.

SKEWS = [0, -5, -15, -60, -600, -10_800, 15, 7_200]  # seconds


@pytest.mark.fault("D7")
@pytest.mark.parametrize("skew", SKEWS)
async def test_evidence_of_a_restored_snapshot_is_found_whatever_the_clock_says(tmp_path: Path, skew: int) -> None:
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, witnesses(valkey.url) as (witness,):
        old = await witness.append("a", 3)
        await witness.check()
        snapshot = await valkey.snapshot()
        await witness.append("b", connected=True)
        clock.set(skew)
        await valkey.restore(snapshot)
        assert await witness.check() == ({"b": None}, 1)
        new = await witness.append("a")
        assert new.epoch != old.epoch


@pytest.mark.fault("D7")
@pytest.mark.parametrize("skew", SKEWS)
async def test_evidence_of_a_lagging_replica_is_found_whatever_its_clock_says(tmp_path: Path, skew: int) -> None:
    clocks = WallClock(tmp_path), WallClock(tmp_path, skew)
    async with (
        Valkey(tmp_path, clocks[0]) as first,
        Valkey(tmp_path, clocks[1]) as second,
        witnesses(first.url) as (witness,),
    ):
        await second.ask("REPLICAOF", "127.0.0.1", first.port)
        old = await witness.append("c", 3)
        assert await witness.check() == ({}, 0)
        await settled(lambda: has(second, old))
        await second.ask("REPLICAOF", "NO", "ONE")  # it does not get the next entries
        await witness.append("b", connected=True)
        await asked_of(witness, second, instead_of=first)
        assert await found_by(witness) == ({"b": None}, 1)
        new = await witness.append("c")
        assert new.epoch != old.epoch


@pytest.mark.fault("D7")
@pytest.mark.parametrize("step", [-10_800, 7_200])
async def test_evidence_of_a_loss_is_found_when_the_clock_is_set_in_between(tmp_path: Path, step: int) -> None:
    """In one process, a position that began before the clock was set is as unsure as the others."""
    clock = WallClock(tmp_path)
    async with Valkey(tmp_path, clock) as valkey, witnesses(valkey.url, 2) as (one, other):
        old = await one.append("a", 3, connected=True)
        await other.append("b", connected=True)
        for witness in (one, other):
            await witness.check()
        text = await valkey.ask("GET", keys_of("w", "a").position)
        await one.append("a", connected=True)
        clock.set(step)
        await valkey.ask("SET", keys_of("w", "a").position, text)
        assert await one.check() == ({"a": None}, 1)
        assert await other.check() == ({"b": None}, 1)  # and all others are dropped
        assert (await one.append("a")).epoch != old.epoch


@pytest.mark.fault("D7")
async def test_evidence_of_a_primary_that_was_a_replica_in_between_is_not_trusted(tmp_path: Path) -> None:
    """Its process and memory are the old ones, but its data may be older."""
    async with Valkey(tmp_path) as first, Valkey(tmp_path) as second, witnesses(first.url) as (witness,):
        await witness.append("a", 3, connected=True)
        await witness.check()
        await first.ask("DEL", keys_of("w", "a").position)
        assert (await witness.check())[1] == 1  # it dropped positions in this life
        old = await witness.append("c", 2)
        await second.ask("REPLICAOF", "127.0.0.1", first.port)
        await settled(lambda: has(second, old))
        await second.ask("REPLICAOF", "NO", "ONE")
        await first.ask("REPLICAOF", "127.0.0.1", second.port)
        await settled(lambda: is_linked(first))
        await asked_of(witness, second, instead_of=first)
        assert await found_by(witness) == ({"a": None}, 0)  # this loss is handled already
        await first.ask("REPLICAOF", "NO", "ONE")  # it does not get the next entries
        await witness.append("c", connected=True)
        await asked_of(witness, first, instead_of=second)
        assert await found_by(witness) == ({"a": None, "c": None}, 1)
        assert (await witness.append("c")).epoch != old.epoch


async def has(valkey: Valkey, last: Position) -> bool:
    return parse_position(await valkey.ask("GET", keys_of("w", "c").position)) == last


async def asked_of(witness: Witness, valkey: Valkey, *, instead_of: Valkey) -> None:
    """Make an address lead to another server from now on."""
    vars(witness.server).update(vars(create_server(parse(valkey.url))))
    await instead_of.ask("CLIENT", "KILL", "TYPE", "normal")


@pytest.mark.fault("D7")
async def test_evidence_of_a_loss_concerns_one_prefix_and_database_only(tmp_path: Path) -> None:
    """Two installations on one server lose data together, but each forgets only its own positions."""
    async with (
        Valkey(tmp_path) as valkey,
        witnesses(valkey.url, prefix="w") as (one,),
        witnesses(valkey.url, prefix="v") as (other,),
        witnesses(valkey.url.replace("/0", "/1"), prefix="w") as (third,),
    ):
        installations = (one, other, third)
        old = [await witness.append("a", 2) for witness in installations]
        snapshot = await valkey.snapshot()
        for witness in installations:
            await witness.append("b", connected=True)
        await valkey.restore(snapshot)
        for witness, before in zip(installations, old, strict=True):
            assert await found_by(witness) == ({"b": None}, 1)
            assert (await witness.append("a")).epoch != before.epoch


async def found_by(witness: Witness) -> Answer:
    """The result of a check, as soon as the server answers."""
    found: list[Answer] = []

    async def asked() -> bool:
        with contextlib.suppress(BrokerUnavailable):
            await witness.server.refresh()
            found.append(await witness.check())
        return bool(found)

    await until_told(asked)
    return found[0]


async def test_loss_detector_resets_once_for_a_loss_although_a_session_stays_in_the_lost_epoch(tmp_path: Path) -> None:
    """A session that replays slowly during the loss; another one of its user is in the new epoch already."""
    async with Valkey(tmp_path) as valkey, witnesses(valkey.url) as (witness,):
        await witness.append("a", connected=True)
        slow = await witness.append("slow", 5)
        known = [*witness.known.items(), ("slow", slow)]
        assert (await witness.detector.check(known))[1] == 0
        await valkey.wipe()
        assert (await witness.detector.check(known))[1] == 2
        new = {user: await witness.append(user) for user in ("a", "slow")}
        for _ in range(3):
            assert await witness.detector.check([*new.items(), ("slow", slow)]) == (new, 0)
        assert witness.metrics.losses == 1


# Consequences, through the broker.


async def is_trusting(broker: Broker) -> bool:
    assert isinstance(broker, RedisBroker)
    with contextlib.suppress(BrokerUnavailable):
        await broker.verify([])
        return True
    return False


async def taken(bench: Bench, count: int, user: str = "u") -> Position:
    await bench.take(*numbered(count, user))
    return await bench.top(user)


@pytest.mark.parametrize("restored", [False, True])
async def test_loss_detector_rest_of_a_forgotten_history_is_not_served(tmp_path: Path, restored: bool) -> None:
    async with Valkey(tmp_path) as valkey, on_redis(valkey.url) as bench:
        old = await taken(bench, 2)
        snapshot = await valkey.snapshot()
        last = await taken(bench, 2)
        await (valkey.restore(snapshot) if restored else valkey.wipe())
        assert (await valkey.ask("DBSIZE")) == (2 if restored else 0)  # the position and the entries
        async with witnesses(valkey.url, prefix=bench.broker.prefix) as (witness,):  # type: ignore[attr-defined]  # which
            witness.known["u"] = last
            assert await witness.check() == ({"u": None}, 1)
        await until_told(lambda: is_trusting(bench.broker))
        new = await bench.top("u")
        assert new.epoch != old.epoch
        assert new.offset == 0
        for offset in range(5):
            asked = Position(old.epoch, offset)
            assert await bench.resume("u", str(asked)) == Resume(new, (), False, Gap(asked, "reset"))
        assert await bench.resume("u", str(new)) == Resume(new, (), True, None)
