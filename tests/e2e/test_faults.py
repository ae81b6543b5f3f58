"""Faults of the whole chain: no event is lost, doubled or out of order, and tabs reconnect by themselves."""

import pytest

from tests.e2e.chain import WITH_REDIS, Chain, Start
from tests.e2e.load import SETTINGS, loaded
from tests.support.running import until
from tests.support.valkey import Valkey


@pytest.fixture
async def pair(chained: Start, redis: Valkey) -> Chain:
    """Two replicas with Redis."""
    return await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url, LOG_LEVEL="info", **SETTINGS)


async def test_chain_with_killed_bridges_loses_nothing(pair: Chain) -> None:
    """The first one stays dead until its sidecar has left its group; the second one is restarted at once."""
    first, second = pair.pods
    async with loaded(pair) as load:
        first.bridge.kill()
        await load.flow()
        first.bridge.start()
        await pair.ready()
        second.bridge.kill()
        second.bridge.start()
        await pair.ready()


async def test_chain_with_killed_sidecars_loses_nothing(pair: Chain) -> None:
    """The first one stays dead until Kafka has removed it; the second one is restarted at once."""
    first, second = pair.pods
    async with loaded(pair) as load:
        first.sidecar.kill()
        await load.flow()
        first.sidecar.start()
        await pair.ready()
        second.sidecar.kill()
        second.sidecar.start()


async def test_chain_with_a_killed_replica_loses_nothing(pair: Chain) -> None:
    async with loaded(pair) as load:
        pair.pods[0].kill()
        await load.flow()
        pair.pods[0].start()
        await pair.ready()


async def test_chain_with_a_killed_kafka_loses_nothing(pair: Chain) -> None:
    async with loaded(pair) as load:
        pair.kafka.kill()
        await until(lambda: load.tally["published again"])
        pair.kafka.start()
        await pair.kafka.ready()


async def test_chain_with_a_frozen_redis_loses_nothing(pair: Chain, redis: Valkey) -> None:
    async with loaded(pair):
        redis.freeze()
        await until(lambda: all(bridge.log.of("event.retried") for bridge in pair.bridges))
        redis.thaw()


async def test_chain_during_a_rolling_update_loses_nothing(pair: Chain) -> None:
    async with loaded(pair) as load:
        for pod in pair.pods:
            async with pair.rolled_over(pod):
                await load.flow()
