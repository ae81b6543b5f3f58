"""Appending on a real server: the history afterwards, also next to replicas of another version."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.bench import DEDUPE_TTL, DUPLICATE, RETRIED, STORED, Bench, event, numbered, on_redis
from tests.support.valkey import Valkey, settled
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.broker.redis.codec import keys_of

MOST = 10_000  # bytes of a history


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def bench(valkey: Valkey) -> AsyncIterator[Bench]:
    async with on_redis(valkey.url, prefix="p", size=1_000, max_bytes_per_user=MOST) as found:
        found.sink.size = 10_000
        yield found


def sized(size: int) -> str:
    return f'{{"x":"{"x" * (size - 8)}"}}'


async def length(valkey: Valkey) -> int:
    found: int = await valkey.ask("LLEN", keys_of("p", "u").entries)
    return found


@pytest.mark.fault("D5")
@pytest.mark.parametrize(("size", "kept"), [(100, 100), (1_000, 91), (9_100, 10), (9_900, 2), (9_901, 1), (40_000, 1)])
async def test_append_of_a_large_event_removes_just_as_many_small_ones_as_it_must(
    valkey: Valkey, bench: Bench, size: int, kept: int
) -> None:
    await bench.append([event(data=sized(100)) for _ in range(150)])
    assert await length(valkey) == 100
    await bench.append([event(data=sized(size))])
    assert await length(valkey) == kept


@pytest.mark.fault("D5")
@pytest.mark.parametrize("lost", ["entries", "position"])
async def test_append_after_entries_are_gone_counts_from_none(valkey: Valkey, bench: Bench, lost: str) -> None:
    """The list has expired, or the position was dropped after a loss."""
    await bench.append([event(data=sized(MOST))])
    await valkey.ask("DEL", getattr(keys_of("p", "u"), lost))
    await bench.append([event(data=sized(MOST // 2)), event(data=sized(MOST // 2))])
    assert await length(valkey) == 2


@pytest.mark.fault("D5")
async def test_append_without_the_right_to_trim_is_stored_and_published(valkey: Valkey, bench: Bench) -> None:
    await bench.follow("u")
    await valkey.ask("ACL", "SETUSER", "default", "-ltrim")
    assert await bench.append([event(data=sized(MOST)), event(data=sized(MOST))]) == [STORED] * 2
    await valkey.ask("ACL", "SETUSER", "default", "+ltrim")
    await bench.received("u")
    await bench.append([event(data=sized(10))])
    assert await length(valkey) == 1


@pytest.mark.fault("D5")
async def test_append_next_to_entries_of_a_version_without_weights_is_resumed_with_them(
    valkey: Valkey, bench: Bench
) -> None:
    """During a rolling update both versions write to one history.

    New entries are bounded, and older ones are removed first.
    """
    await bench.append([event(data=sized(100))])
    top = await bench.top("u")
    keys = keys_of("p", "u")
    old = msgspec.msgpack.encode(("task_update", "2026-02-07T12:00:00.000Z", b"", b"{}", 0, 0, None))
    now = int(bench.clock.now * 1000)
    entry = struct.pack(">8sQQI", top.epoch.encode(), 2, now, len(old)) + old
    await valkey.client().rpush(keys.entries, entry)
    _, _, trimmed, born = (await valkey.ask("GET", keys.position)).decode().split(" ")
    await valkey.ask("SET", keys.position, f"{top.epoch} 2 {trimmed} {born}")
    await bench.append([event(data=sized(100))])
    resumed = await bench.resume_all("u", f"{top.epoch}:0")
    assert [len(entry.data) for entry in resumed.entries] == [100, 2, 100]
    await bench.append([event(data=sized(MOST))])
    assert await length(valkey) == 1


async def test_append_leaves_the_position_as_versions_before_read_it(valkey: Valkey, bench: Bench) -> None:
    await bench.append(numbered(3))
    assert len((await valkey.ask("GET", keys_of("p", "u").position)).split(b" ")) == 4


async def test_append_of_an_abandoned_delivery_stops_after_the_first_slice_with_something_new(bench: Bench) -> None:
    events = [event(key=f"k{n}", data=sized(200_000)) for n in range(9)]  # three or more slices

    async def deliver(*, is_wanted: bool) -> list[str]:
        outcomes = await bench.broker.append(events, lambda: is_wanted)
        return [outcome.reason or outcome.status for outcome in outcomes]

    first = await deliver(is_wanted=False)
    stored = first.count("stored")
    assert 0 < stored < len(events)
    assert first == ["stored"] * stored + ["abandoned"] * (len(events) - stored)
    second = await deliver(is_wanted=False)
    again = second.count("stored")
    assert again > 0  # it makes progress, although it is abandoned too
    assert second[: stored + again] == ["duplicate"] * stored + ["stored"] * again
    assert set(second[stored + again :]) <= {"abandoned"}
    assert await deliver(is_wanted=True) == ["duplicate"] * (stored + again) + ["stored"] * (9 - stored - again)


async def test_append_that_fails_for_one_user_is_stored_for_the_others_of_the_call(
    valkey: Valkey, bench: Bench
) -> None:
    await valkey.ask("SET", keys_of("p", "bad").seen, "not a set")
    outcomes = await bench.append([event("a", key="1"), event("bad", key="2"), event("b", key="3")])
    assert outcomes == [STORED, RETRIED, STORED]
    await valkey.ask("DEL", keys_of("p", "bad").seen)
    outcomes = await bench.append([event("a", key="1"), event("bad", key="2"), event("b", key="3")])
    assert outcomes == [DUPLICATE, STORED, DUPLICATE]


async def test_append_of_thousands_of_events_of_one_user_is_one_step(valkey: Valkey, bench: Bench) -> None:
    events = [event(key=f"k{n}") for n in range(2_000)]
    assert await bench.append(events) == [STORED] * 2_000
    assert await bench.append(events) == [DUPLICATE] * 2_000
    assert await length(valkey) == 1_000


@pytest.mark.parametrize("at_once", [1, 7, 16])
async def test_append_removes_expired_ids_after_a_few_events(valkey: Valkey, bench: Bench, at_once: int) -> None:
    await bench.append([event(key=f"old{n}") for n in range(3)])
    bench.clock.now += 2 * DEDUPE_TTL
    for first in range(0, 48, at_once):
        await bench.append([event(key=f"new{n}") for n in range(first, first + at_once)])
    assert await valkey.ask("ZCARD", keys_of("p", "u").seen) == len(range(0, 48, at_once)) * at_once


async def test_append_to_a_cluster_of_one_node_behind_a_plain_url_is_retried_once(tmp_path: Path) -> None:
    """The first refusal shows that the server has slots."""
    async with Valkey(tmp_path, cluster_enabled="yes") as valkey:
        await valkey.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)

        async def is_ok() -> bool:
            return bool((await valkey.ask("CLUSTER INFO"))["cluster_state"] == "ok")

        await settled(is_ok)
        async with on_redis(valkey.url) as bench:
            events = [event("a"), event("b")]
            assert await bench.append(events) == [RETRIED] * 2
            assert isinstance(bench.broker, RedisBroker)
            await bench.broker.verify([])
            assert await bench.append(events) == [STORED] * 2
