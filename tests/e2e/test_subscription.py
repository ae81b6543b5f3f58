"""How sidecars and bridges find each other."""

from tests.e2e.chain import Chain
from tests.support import receive

SUBSCRIPTION = {
    "pubsubname": "pubsub-kafka",
    "topic": "task-updates",
    "rules": [{"path": "/events/task-updates"}],
    "type": "PROGRAMMATIC",
}


async def test_the_sidecar_lists_the_subscription(chain: Chain) -> None:
    [pod] = chain.pods
    [found] = await pod.sidecar.subscriptions()
    assert SUBSCRIPTION.items() <= found.items()


async def test_what_the_backend_publishes_reaches_its_user_alone(chain: Chain) -> None:
    [bridge] = chain.bridges
    alice, _ = await bridge.opened("alice")
    bob, _ = await bridge.opened("bob")
    await chain.publish("alice", n=1)
    await chain.publish("bob", n=2)
    assert (await receive(alice))["event"] == {"user_id": "alice", "n": 1}
    assert (await receive(bob))["event"] == {"user_id": "bob", "n": 2}
