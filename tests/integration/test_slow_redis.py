"""The largest data over a slow link to a real Redis, scaled down.

`make e2e` runs it in full size.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.slow_redis import SMALL, Replicas, replicas
from tests.support.spawned import Spawn
from tests.support.valkey import Valkey


@pytest.fixture
async def pair(tmp_path: Path, spawn: Spawn) -> AsyncIterator[Replicas]:
    async with Valkey(tmp_path) as valkey, replicas(SMALL, valkey.port, spawn) as pair:
        yield pair


@pytest.mark.fault("D1")
async def test_largest_event_for_most_users_over_a_slow_link_arrives_and_is_sent_once(pair: Replicas) -> None:
    async with pair.nobody_else_waits():
        await pair.everybody_gets_the_largest_event()


@pytest.mark.fault("D2")
async def test_largest_bulk_over_a_slow_link_delays_no_other_user(pair: Replicas) -> None:
    async with pair.nobody_else_waits():
        await pair.the_largest_bulk_arrives()


@pytest.mark.fault("D2")
async def test_long_history_over_a_slow_link_is_resumed_by_many_tabs_and_read_once(pair: Replicas) -> None:
    async with pair.nobody_else_waits():
        await pair.tabs_resume_a_long_history()


@pytest.mark.fault("D2")
async def test_largest_bulk_over_a_slow_link_when_the_sidecar_times_out_first_arrives_once(pair: Replicas) -> None:
    await pair.the_largest_bulk_arrives_once_if_its_sidecar_gives_up_sooner(patience=1.0)
