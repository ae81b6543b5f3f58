"""Receipts of deliveries: which are stored, with which positions, and what is published when they are due."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.bench import Bench, in_memory
from wsbridge.broker.base import STORED, BrokerUnavailable, Outcome, Status
from wsbridge.broker.receipts import LEASE, MemoryReceipts
from wsbridge.config.settings import Settings
from wsbridge.core.events import Event, Position
from wsbridge.core.receipts import Awaited, Reached
from wsbridge.dapr import receipts as module
from wsbridge.dapr.publisher import Publisher, PublishFailed
from wsbridge.dapr.receipts import GIVE_UP, Receipts
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.metrics import Metrics

NOW = 1_800_000_000.0


class FakePublisher(Publisher):
    """Keeps what is published; raises `error` instead if that is set."""

    def __init__(self) -> None:
        super().__init__(port=0, pubsub="p", topic="t", token=None)
        self.events: list[Mapping[str, Any]] = []
        self.error: Exception | None = None

    async def publish(self, http: Any, event: Mapping[str, Any], key: str) -> None:
        if self.error:
            raise self.error
        assert key == event["data"]["user_id"]
        self.events.append(event)


class Scene:
    """The receipts of a bridge on its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.bench: Bench = in_memory()
        self.store = MemoryReceipts(60, clock=lambda: self.now)
        self.publisher = FakePublisher()
        self.here: dict[str, list[Reached]] = {}
        self.receipts = Receipts(
            self.store, self.bench.broker, self.publisher, Metrics(), self._ask, after=30, clock=lambda: self.now
        )

    async def _ask(self, users: Collection[str]) -> Mapping[str, Sequence[Reached]]:
        return {user: self.here[user] for user in users if user in self.here}

    async def deliver(self, *events: Event) -> list[Outcome]:
        outcomes = await self.bench.broker.append(events)
        return await self.receipts.expect("t", events, outcomes, self.now)

    async def look(self, later: float = 0.0) -> dict[str, str]:
        """What is published at the next look: the outcome of each event."""
        self.now += later
        http: Any = None
        before = len(self.publisher.events)
        while await self.receipts.publish_due(http):
            pass
        return {f"{e['data']['user_id']} {e['data']['event_id']}": e["data"]["outcome"]
                for e in self.publisher.events[before:]}  # fmt: skip

    @property
    def positions(self) -> dict[str, int]:
        return {f"{one.user} {one.event_id}": one.position.offset for one in self.store._waiting.values()}


def event(name: str, *users: str, receipt: float | None = 0.0) -> Event:
    return Event(users or ("u",), b"{}", "task_update", name, f"backend\n{name}", receipt=receipt)


async def reached(scene: Scene, offset: int, handled: int = 0) -> Reached:
    position = await scene.bench.broker.position("u")
    assert position
    return Reached(position.epoch, offset, handled)


async def test_events_that_ask_for_none_have_no_receipt() -> None:
    scene = Scene()
    outcomes = [STORED, STORED]
    assert await scene.receipts.expect("t", [event("a", receipt=None)] * 2, outcomes, NOW) is outcomes
    assert scene.store.pending == 0


async def test_receipts_of_a_bulk_have_the_positions_of_their_events() -> None:
    scene = Scene()
    await scene.deliver(event("0", receipt=None))
    events = [event("1"), event("2", "v", "u"), event("3", receipt=None), event("4")]
    assert await scene.deliver(*events) == [STORED] * 4
    assert scene.positions == {"u 1": 2, "v 2": 1, "u 2": 3, "u 4": 5}


async def test_receipt_of_a_redelivery_is_added_if_the_first_delivery_could_not() -> None:
    scene = Scene()
    await scene.bench.broker.append([event("a"), event("b", receipt=None)])
    assert [outcome.status for outcome in await scene.deliver(event("a"))] == [Status.DUPLICATE]
    assert scene.positions == {"u a": 2}  # the last position, since its own is not known


async def test_event_that_is_twice_in_a_bulk_has_one_receipt_with_the_position_of_the_first() -> None:
    scene = Scene()
    outcomes = await scene.deliver(event("a"), event("a"), event("b", receipt=None))
    assert [outcome.status for outcome in outcomes] == [Status.STORED, Status.DUPLICATE, Status.STORED]
    assert scene.positions == {"u a": 1}


async def test_receipt_that_cannot_be_stored_lets_the_sidecar_deliver_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(_: Sequence[Awaited]) -> int:
        raise BrokerUnavailable("down")

    scene = Scene()
    monkeypatch.setattr(scene.store, "expect", unavailable)
    first, second = await scene.deliver(event("a", receipt=None), event("b"))
    assert first is STORED
    assert (second.status, second.reason, second.detail) == (
        "retried", "redis_unavailable", "its receipt could not be stored: down"
    )  # fmt: skip


async def test_receipts_that_do_not_fit_are_counted_and_the_event_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.broker.receipts.MOST", 1)
    scene = Scene()
    with capture_logs() as lines:
        assert await scene.deliver(event("a"), event("b")) == [STORED] * 2
    assert [(line["event"], line["count"]) for line in lines] == [("receipt.refused", 1)]
    assert scene.receipts.counts["refused"] == 1


@pytest.mark.parametrize(("written", "handled", "outcome"), [(0, 0, "unseen"), (1, 0, "delivered"), (1, 1, "handled")])
async def test_receipt_says_how_far_connections_on_any_replica_have_got(
    written: int, handled: int, outcome: str
) -> None:
    scene = Scene()
    await scene.deliver(event("a"))
    scene.here["u"] = [await reached(scene, 0), await reached(scene, written, handled)]
    assert await scene.look(29.9) == {}
    assert await scene.look(0.2) == {"u a": outcome}
    assert (scene.receipts.counts[outcome], await scene.look(GIVE_UP)) == (1, {})


async def test_receipt_counts_connections_that_have_ended() -> None:
    scene = Scene()
    await scene.deliver(event("a"))
    await scene.store.note({"u": await reached(scene, 1, 1)})
    assert await scene.look(31) == {"u a": "handled"}


async def test_receipt_is_due_after_the_seconds_that_its_event_names() -> None:
    scene = Scene()
    await scene.deliver(event("a", receipt=5.0), event("b"))
    assert (await scene.look(6), await scene.look(25)) == ({"u a": "unseen"}, {"u b": "unseen"})


async def test_receipt_is_a_cloud_event_with_a_stable_id() -> None:
    scene = Scene()
    await scene.deliver(event("a", receipt=5.0))
    await scene.look(6)
    (published,) = scene.publisher.events
    position = await scene.bench.broker.position("u")
    assert published["data"] == {
        "outcome": "unseen", "user_id": "u", "event_id": "a", "event_source": "backend", "topic": "t",
        "position": str(position), "after_seconds": 5.0,
    }  # fmt: skip
    attributes = {name: published[name] for name in ("specversion", "id", "source", "type", "subject")}
    name = "0eff04c35cd2f0924762c747a6937aa3"
    assert attributes == {
        "specversion": "1.0", "id": name, "source": "wsbridge", "type": "wsbridge.receipt", "subject": "u"
    }  # fmt: skip


async def test_receipt_that_cannot_be_published_is_tried_again_and_reported() -> None:
    scene = Scene()
    await scene.deliver(event("a"))
    scene.publisher.error = PublishFailed("no sidecar")
    assert await scene.look(31) == {}
    assert (scene.receipts.trouble, scene.receipts.failures["publish"]) == ("no sidecar", 1)
    assert await scene.look(1) == {}  # it is not due again before the end of the lease
    assert scene.receipts.trouble == "no sidecar"
    scene.publisher.error = None
    assert await scene.look(LEASE) == {"u a": "unseen"}
    assert scene.receipts.trouble is None


async def test_receipt_that_another_replica_has_published_is_no_trouble_any_more() -> None:
    scene = Scene()
    await scene.deliver(event("a"))
    scene.publisher.error = PublishFailed("no sidecar")
    await scene.look(31)
    await scene.store.done(list(scene.store._waiting.values()))
    await scene.look(LEASE)
    assert scene.receipts.trouble is None


async def test_receipt_is_dropped_after_a_day_without_a_sidecar() -> None:
    scene = Scene()
    await scene.deliver(event("a"))
    scene.publisher.error = PublishFailed("no sidecar")
    with capture_logs() as lines:
        assert await scene.look(GIVE_UP + 31) == {}
    assert [(line["event"], line["event_id"], line["user"]) for line in lines] == [("receipt.dropped", "a", "u")]
    assert (scene.receipts.counts["dropped"], scene.store.pending) == (1, 0)


async def test_receipt_of_a_history_that_is_gone_is_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(_: str) -> Position | None:
        return None

    scene = Scene()
    await scene.bench.broker.append([event("a")])
    scene.here["u"] = [await reached(scene, 1, 1)]
    monkeypatch.setattr(scene.bench.broker, "position", gone)
    await scene.deliver(event("a"))
    assert await scene.look(31) == {"u a": "unseen"}


async def test_job_survives_a_failing_store(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    looks = 0

    async def failing(_: Any) -> bool:
        nonlocal looks
        looks += 1
        raise (BrokerUnavailable("down"), ZeroDivisionError(), KeyboardInterrupt())[looks - 1]

    monkeypatch.setattr(module, "LOOK", 0.0)
    monkeypatch.setattr(scene.receipts, "publish_due", failing)
    with capture_logs() as lines, pytest.raises(KeyboardInterrupt):
        await scene.receipts.run()
    assert (scene.receipts.failures["store"], [line["doing"] for line in lines]) == (1, ["receipts"])


async def test_build_needs_a_topic_and_adds_a_health_check() -> None:
    scene, checks = Scene(), Checks()
    arguments = scene.bench.broker, scene.store, Metrics(), checks, scene._ask
    assert module.build(Settings(receipts=True), *arguments) is None
    built = module.build(Settings(receipts_topic="receipts", dapr_http_port=7, dapr_api_token="x"), *arguments)
    assert built is not None
    assert (built.publisher.topic, built.publisher.port, built.publisher.token) == ("receipts", 7, "x")
    built.trouble = "no sidecar"
    assert checks.run() == {"receipts": "no sidecar"}
