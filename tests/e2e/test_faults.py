"""What the whole chain survives: nothing is lost, doubled or out of order, and tabs come back by themselves."""

import pytest

from tests.e2e.chain import WITH_REDIS, Chain, Start
from tests.e2e.load import SETTINGS, loaded
from tests.support.running import until
from tests.support.valkey import Valkey


@pytest.fixture
async def pair(chained: Start, redis: Valkey) -> Chain:
    """Two replicas with Redis."""
    return await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url, LOG_LEVEL="info", **SETTINGS)


async def test_bridges_are_killed(pair: Chain) -> None:
    """The first one stays away, until its sidecar has noticed and left; the second one is back at once."""
    first, second = pair.pods
    async with loaded(pair) as load:
        first.bridge.kill()
        await load.flow()
        first.bridge.start()
        await pair.ready()
        second.bridge.kill()
        second.bridge.start()
        await pair.ready()


async def test_sidecars_are_killed(pair: Chain) -> None:
    """The first one stays away, until Kafka has noticed; the second one is back at once."""
    first, second = pair.pods
    async with loaded(pair) as load:
        first.sidecar.kill()
        await load.flow()
        first.sidecar.start()
        await pair.ready()
        second.sidecar.kill()
        second.sidecar.start()


async def test_a_whole_replica_is_killed(pair: Chain) -> None:
    async with loaded(pair) as load:
        pair.pods[0].kill()
        await load.flow()
        pair.pods[0].start()
        await pair.ready()


async def test_kafka_is_killed(pair: Chain) -> None:
    async with loaded(pair) as load:
        pair.kafka.kill()
        await until(lambda: load.tally["published again"])
        pair.kafka.start()
        await pair.kafka.ready()


async def test_redis_is_frozen(pair: Chain, redis: Valkey) -> None:
    async with loaded(pair):
        redis.freeze()
        await until(lambda: all(bridge.log.of("event.retried") for bridge in pair.bridges))
        redis.thaw()


async def test_both_replicas_are_rolled_over(pair: Chain) -> None:
    async with loaded(pair) as load:
        for pod in pair.pods:
            async with pair.rolled_over(pod):
                await load.flow()
