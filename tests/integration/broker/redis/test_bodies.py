"""Data that is stored once: the bytes that are sent and kept, lost parts, and the cache."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.bench import event
from tests.support.valkey import Valkey
from wsbridge.broker.redis.bodies import CHUNK, INLINE, Bodies, is_large
from wsbridge.broker.redis.codec import Reference, body_key
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.events import Event

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIZES = [INLINE + 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 1_048_576]
TTL = 300_000


@contextlib.asynccontextmanager
async def bodies(valkey: Valkey) -> AsyncIterator[Bodies]:
    server = create_server(parse(valkey.url))
    found = Bodies(server, "b", TTL)
    try:
        yield found
    finally:
        await found.close()
        await server.close()


def sized(size: int, key: str = "k") -> Event:
    return event(data="x" * (size - 1) + "y", key=key)


@pytest.mark.parametrize(("size", "users", "large"), [(INLINE, 1, False), (INLINE + 1, 1, True), (50, 1_000, True)])
async def test_data_is_large_by_its_size_times_its_users(size: int, users: int, large: bool) -> None:
    assert is_large(Event(("u",) * users, b"x" * size, "", "", "")) is large


@pytest.mark.fault("D1")
@pytest.mark.parametrize("size", SIZES)
async def test_data_of_any_size_is_stored_once_and_comes_back(valkey: Valkey, size: int) -> None:
    async with bodies(valkey) as one, bodies(valkey) as other:
        reference = await one.store(sized(size, f"{size}"))
        key = body_key("b", reference.name)
        assert await valkey.ask("STRLEN", key) == size
        assert await valkey.ask("MEMORY", "USAGE", key) < 1.3 * size + 1_000
        assert await valkey.ask("PTTL", key) > TTL
        assert one.known(reference) is not None
        assert other.known(reference) is None
        assert await other.load(reference) == sized(size).data


@pytest.mark.fault("D3")
async def test_data_that_is_stored_already_is_not_sent_again(valkey: Valkey) -> None:
    async with bodies(valkey) as one, bodies(valkey) as other:
        reference = await one.store(sized(500_000, "again"))
        before = (await valkey.info())["total_net_input_bytes"]
        assert await other.store(sized(500_000, "again")) == reference
        assert (await valkey.info())["total_net_input_bytes"] - before < 5_000


async def test_data_that_is_stored_in_part_is_sent_again(valkey: Valkey) -> None:
    async with bodies(valkey) as one, bodies(valkey) as other:
        reference = await one.store(sized(500_000, "half"))
        key = body_key("b", reference.name)
        await valkey.ask("SETRANGE", key, 0, "z" * CHUNK)
        await valkey.ask("PEXPIRE", key, 30_000)  # the expiry while it is incomplete
        assert await other.load(reference) is None
        assert await other.store(sized(500_000, "half")) == reference
        async with bodies(valkey) as third:
            assert await third.load(reference) == sized(500_000).data


@pytest.mark.parametrize("change", [("DEL",), ("SETRANGE", 70_000, "\0" * 10), ("APPEND", "x"), ("SET", "")])
async def test_data_that_is_incomplete_is_none(valkey: Valkey, change: tuple[str | int, ...]) -> None:
    async with bodies(valkey) as one, bodies(valkey) as other:
        reference = await one.store(sized(100_000, f"{change}"))
        await valkey.ask(str(change[0]), body_key("b", reference.name), *change[1:])
        assert await other.load(reference) is None


@pytest.mark.fault("D2")
async def test_concurrent_loads_of_one_body_read_it_once(valkey: Valkey) -> None:
    async with bodies(valkey) as one, bodies(valkey) as other:
        reference = await one.store(sized(1_000_000, "shared"))
        before = (await valkey.info())["total_net_output_bytes"]
        found = await asyncio.gather(*(other.load(reference) for _ in range(20)))
        assert {id(data) for data in found} == {id(found[0])}
        assert await other.load(reference) is found[0]
        assert (await valkey.info())["total_net_output_bytes"] - before < 1_100_000


async def test_bodies_cache_is_bounded(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.bodies.CACHE", 250_000)
    async with bodies(valkey) as one:
        references: list[Reference] = [await one.store(sized(100_000, f"c{n}")) for n in range(3)]
        assert [one.known(reference) is not None for reference in references] == [False, True, True]
        assert await one.load(references[0]) == sized(100_000).data
        assert [one.known(reference) is not None for reference in references] == [True, False, True]


async def test_events_with_the_same_data_have_separate_bodies(valkey: Valkey) -> None:
    async with bodies(valkey) as one:
        names = {(await one.store(sized(100_000, key))).name for key in ("a", "b", "", "")}
        assert len(names) == 4
