"""Events that are never accepted go to the dead-letter topic; those that only have to wait do not."""

from tests.e2e.chain import WITH_REDIS, Start
from tests.support.running import receive, until
from tests.support.valkey import Valkey

DEAD = "task-updates-dead"
POISON = {b"[1]": "not_an_object", b'{"title":"whose?"}': "no_user", b'{"user_id":[]}': "no_user"}


async def test_dropped_event_becomes_a_dead_letter_with_a_logged_reason(chained: Start) -> None:
    chain = await chained(DEAD_LETTER_TOPIC=DEAD)
    await chain.kafka.make(DEAD)
    [bridge], starts = chain.bridges, await chain.kafka.ends(DEAD)
    tab, _ = await bridge.opened("alice")
    for value in POISON:
        await chain.kafka.produce(value, key="alice")
    await chain.publish("alice", n=1)
    assert (await receive(tab))["event"]["n"] == 1
    letters = await chain.kafka.messages(DEAD, starts, len(POISON))
    assert {letter.value() for letter in letters} == POISON.keys()
    assert [line["reason"] for line in bridge.log.of("event.dropped")] == list(POISON.values())


async def test_event_that_waits_for_redis_is_not_a_dead_letter(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, REDIS_URL=redis.url, DEAD_LETTER_TOPIC=DEAD)
    await chain.kafka.make(DEAD)
    [bridge], starts = chain.bridges, await chain.kafka.ends(DEAD)
    tab, _ = await bridge.opened("alice")
    redis.freeze()
    await chain.publish("alice", n=1)
    await chain.publish("alice", n=2)
    await until(lambda: len(bridge.log.of("event.retried")) > 1)
    redis.thaw()
    assert [(await receive(tab))["event"]["n"] for _ in range(2)] == [1, 2]
    assert await chain.kafka.ends(DEAD) == starts
