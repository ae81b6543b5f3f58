"""Several replicas, in both shipped ways: every client gets every event, on any replica."""

import asyncio

import pytest

from tests.e2e.chain import GROUP_EACH, WITH_REDIS, Start
from tests.support.running import receive
from tests.support.valkey import Valkey

USERS = [f"user-{number}" for number in range(12)]
EVENTS = 25


@pytest.mark.parametrize("manifest", [WITH_REDIS, GROUP_EACH])
async def test_replicas_each_serve_their_clients_every_event(manifest: str, chained: Start, redis: Valkey) -> None:
    settings = {"REDIS_URL": redis.url} if manifest == WITH_REDIS else {}
    chain = await chained(manifest, replicas=2, **settings)
    tabs = [(user, (await bridge.opened(user))[0]) for bridge in chain.bridges for user in USERS]
    for n in range(EVENTS):
        await asyncio.gather(*(chain.publish(user, n=n) for user in USERS))
    for user, tab in tabs:
        seen = [(await receive(tab))["event"] for _ in range(EVENTS)]
        assert seen == [{"user_id": user, "n": n} for n in range(EVENTS)]


async def test_replicas_with_redis_divide_the_partitions(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url)
    shares = await chain.kafka.members("websocket-service")
    assert sorted(map(sorted, shares or [])) in ([[0], [1, 2]], [[0, 1], [2]])


async def test_replicas_without_redis_each_read_all_partitions(chained: Start) -> None:
    chain = await chained(GROUP_EACH, replicas=2)
    for pod in chain.pods:
        assert await chain.kafka.members(f"wsbridge-{pod.name}") == [{0, 1, 2}]


async def test_replicas_with_redis_let_a_client_resume_on_another_one(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url)
    first, second = chain.bridges
    tab, _ = await first.opened("alice")
    for n in range(5):
        await chain.publish("alice", n=n)
    seen = [await receive(tab) for _ in range(5)]
    again, hello = await second.opened("alice", last_event_id=seen[1]["id"])
    assert hello["recovered"] is True
    assert [await receive(again) for _ in range(3)] == seen[2:]
