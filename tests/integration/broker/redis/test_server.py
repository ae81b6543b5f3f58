"""The operations of all topologies: eviction policy, scan of keys, loading of functions."""

import asyncio
from pathlib import Path

import pytest

from tests.support.pipelines import is_called, one, serving, tell
from tests.support.running import until_told
from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import all_positions


@pytest.mark.parametrize(("config", "policy"), [({"maxmemory_policy": "allkeys-lru"}, "allkeys-lru"), ({}, None)])
async def test_server_eviction_returns_policy(tmp_path: Path, config: dict[str, str], policy: str | None) -> None:
    async with Valkey(tmp_path, **config) as valkey, serving(valkey.url) as (server, _):
        connection = await server.connect("")
        assert await server.eviction(connection) == policy
        await connection.disconnect()


@pytest.mark.parametrize("rights", ["-config", "-@all +client"])
async def test_server_eviction_without_permission_returns_none(tmp_path: Path, rights: str) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.ask("ACL", "SETUSER", "guest", "reset", "on", "nopass", "~*", "+@all", *rights.split())
        async with serving(f"redis://guest:x@{valkey.address}") as (server, _):
            connection = await server.connect("")
            assert await server.eviction(connection) is None
            await connection.disconnect()


async def test_server_scan_yields_matching_keys_in_portions(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, _):
        keys = {f"w:{{{n}}}" for n in range(3_000)}
        await valkey.client().mset(dict.fromkeys([*keys, *(f"{key}:h" for key in keys), "x:{1}"], "1"))
        portions = [portion async for portion in server.scan("", all_positions("w"))]
        assert len(portions) > 1
        assert {key for portion in portions for key in portion} == keys
        await until_told(lambda: is_called([], valkey))


async def test_server_scan_when_server_ends_raises_unavailable(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, _):
        await valkey.client().mset({f"w:{{{n}}}": "1" for n in range(3_000)})
        scan = server.scan("", "*")
        await anext(scan)
        await valkey.kill()
        with pytest.raises(BrokerUnavailable):
            await anext(scan)
        with pytest.raises(BrokerUnavailable):
            await anext(server.scan("", "*"))


async def test_server_load_concurrently_loads_one_library(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, serving(valkey.url) as (server, pipeline):
        await asyncio.gather(*(server.load() for _ in range(5)))
        assert await one(pipeline, tell("u")) == 0
        assert len(await valkey.ask("FUNCTION", "LIST")) == 1
