"""Sidecars and bridges find each other and check each other's tokens."""

from tests.e2e.chain import APP_TOKEN, Chain, Start
from tests.support.deliveries import cloud_event
from tests.support.running import receive, until

SUBSCRIPTION = {
    "pubsubname": "pubsub-kafka",
    "topic": "task-updates",
    "rules": [{"path": "/events/task-updates"}],
    "type": "PROGRAMMATIC",
}


async def test_sidecar_metadata_lists_the_subscription(chain: Chain) -> None:
    [pod] = chain.pods
    [found] = await pod.sidecar.subscriptions()
    assert SUBSCRIPTION.items() <= found.items()


async def test_subscription_event_of_the_backend_reaches_its_user_only(chain: Chain) -> None:
    [bridge] = chain.bridges
    alice, _ = await bridge.opened("alice")
    bob, _ = await bridge.opened("bob")
    await chain.publish("alice", n=1)
    await chain.publish("bob", n=2)
    assert (await receive(alice))["event"] == {"user_id": "alice", "n": 1}
    assert (await receive(bob))["event"] == {"user_id": "bob", "n": 2}


async def test_sidecar_delivers_many_events_in_few_requests(chained: Start) -> None:
    """Kafka may return them over some milliseconds, so the sidecar waits longer than by default."""
    chain = await chained(BULK_WAIT="0.02")
    [bridge] = chain.bridges
    tab, _ = await bridge.opened("alice")
    await chain.publisher.publish_bulk([("alice", {"user_id": "alice", "n": n}) for n in range(200)])
    assert [(await receive(tab))["event"]["n"] for _ in range(200)] == list(range(200))
    await until(lambda: len(bridge.log.of("http.request", path="/events/task-updates")) > 1)
    requests = bridge.log.of("http.request", path="/events/task-updates")
    assert 2 <= len(requests) < 20  # at most 100 in each


async def test_bridge_that_starts_after_its_sidecar_is_subscribed(chain: Chain) -> None:
    [pod] = chain.pods
    await chain.take_down(pod)
    pod.sidecar.start()
    await until(lambda: any("waiting on port" in line for line in pod.sidecar.log.lines))
    pod.bridge.start()
    await chain.ready()
    tab, _ = await pod.bridge.opened("alice")
    await chain.publish("alice", n=1)
    assert (await receive(tab))["event"]["n"] == 1


async def test_bridge_refuses_a_sidecar_with_another_token(chain: Chain) -> None:
    [pod] = chain.pods
    await chain.take_down(pod)
    pod.sidecar.app_token = "another token"
    pod.start()
    await until(lambda: pod.bridge.log.of("request.denied", path="/dapr/subscribe", why="token"))
    await pod.sidecar.ready()
    assert await pod.sidecar.subscriptions() == []


async def test_delivery_without_the_token_is_refused_even_from_loopback(chain: Chain) -> None:
    [bridge] = chain.bridges
    event = cloud_event({"user_id": "alice"})
    for headers, status in [({}, 401), ({"dapr-api-token": "x"}, 401), ({"dapr-api-token": APP_TOKEN}, 200)]:
        async with chain.http.post(
            f"{bridge.internal.url}/events/task-updates", json=event, headers=headers
        ) as response:
            assert response.status == status
