"""The largest events, bulks and histories over a link of 5 MB/s to a real Redis. Takes two minutes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.slow_redis import FULL, Replicas, replicas
from tests.support.spawned import Spawn
from tests.support.valkey import Valkey


@pytest.fixture
async def pair(tmp_path: Path, spawn: Spawn) -> AsyncIterator[Replicas]:
    async with Valkey(tmp_path) as valkey, replicas(FULL, valkey.port, spawn) as pair:
        yield pair


async def test_slow_redis_with_the_largest_data_delays_no_other_user(pair: Replicas) -> None:
    async with pair.nobody_else_waits():
        await pair.everybody_gets_the_largest_event()
    async with pair.nobody_else_waits():
        await pair.the_largest_bulk_arrives()
    async with pair.nobody_else_waits():
        await pair.tabs_resume_a_long_history()
