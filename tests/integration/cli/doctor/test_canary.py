"""`wsbridge doctor --canary` through a stand-in for a sidecar with three partitions. Real ones: `tests/e2e`."""

import functools
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.support.doctor import FAILURE, NOT_CHECKED, OK, StandIn, examined, found
from tests.support.running import Running, Start
from wsbridge.broker.base import Outcome, retried
from wsbridge.cli.doctor import canary as module
from wsbridge.core.events import Event
from wsbridge.core.reasons import Retry


class Publishing(StandIn):
    """Passes what is published on to a bridge, except for the `lost` partitions."""

    def __init__(self, bridge: Running, *, lost: Sequence[int] = (), **metadata: Any) -> None:
        super().__init__(**metadata)
        self.bridge = bridge
        self.lost = lost
        self.refuses = False
        self.is_old = False  # then it ignores the partition

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (*super().routes(), web.post("/v1.0/publish/pubsub-kafka/task-updates", self._publish))

    async def _publish(self, request: web.Request) -> web.Response:
        partition = int(request.query.get("metadata.partitionNumber", "0"))
        if partition > 2 or self.refuses:
            raise web.HTTPInternalServerError
        if partition not in self.lost:
            place = "0" if self.is_old else str(partition)
            await self.bridge.post(await request.read(), __partition=place, __offset="1")
        return web.Response(status=204)


async def test_canary_without_the_option_is_not_checked(bridge: Running) -> None:
    assert (await found("canary", url=bridge.url)).state is NOT_CHECKED


async def test_canary_names_each_partition_that_delivers(bridge: Running) -> None:
    notes: list[str] = []
    async with Publishing(bridge) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True, note=notes.append)
    assert finding.state is OK
    assert notes == ["canary: waits up to 10 s for task-updates/0, task-updates/1, task-updates/2"]
    assert finding.text.startswith("an event arrived through each of task-updates/0, task-updates/1, task-updates/2 ")


async def test_canary_names_each_partition_that_does_not_deliver(bridge: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    async with Publishing(bridge, lost=(0, 2)) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert finding.state is FAILURE
    assert finding.text == (
        "no event arrived within 1 s through task-updates/0, task-updates/2, while task-updates/1 delivers and nothing "
        "is retried: another member of the consumer group has them, most likely a second replica without Redis"
    )
    assert finding.cure.startswith("one replica, Redis, or a consumer group each (docs/replicas.md); ")
    assert "event.retried" not in finding.cure


async def test_examination_with_a_failed_canary_doubts_that_one_replica_is_all(
    bridge: Running, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    async with Publishing(bridge, lost=(0,)) as sidecar:
        examine = functools.partial(examined, url=bridge.url, public_url=bridge.url, sidecar=sidecar.url, canary=True)
        findings = await examine(idle=0.1)
        sidecar.lost = ()
        healthy = await examine(idle=0.1)
    doubt = "; but not every event comes to this address: see canary"
    for check in ("replicas", "histories"):
        assert (findings[check].state, findings[check].text) == (OK, healthy[check].text + doubt)
    assert findings["partitions"].text == "see canary"


async def test_canary_of_a_bridge_with_redis_does_not_blame_a_replica_without(
    bridge: Running, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    bridge.bridge.checks.add("redis", lambda: "ok")
    async with Publishing(bridge, lost=(1,)) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert finding.text.endswith("has it, most likely a bridge with another Redis or prefix")


async def test_canary_through_silent_partitions_names_the_check_that_failed(bridge: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    async with Publishing(bridge, lost=(0, 1, 2)) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
        assert (finding.state, finding.text.endswith(", and nothing is retried")) == (FAILURE, True)
        sidecar.metadata["subscriptions"] = []
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
        assert finding == (NOT_CHECKED, "no event can arrive: see subscription", "")
        sidecar.invoked = web.HTTPUnauthorized
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
        assert finding == (NOT_CHECKED, "no event can arrive: see app-token", "")


async def test_canary_through_a_component_without_partitions_is_one_event(bridge: Running) -> None:
    async with Publishing(bridge, components=[{"name": "pubsub-kafka", "type": "pubsub.in-memory"}]) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert (finding.state, "each of task-updates within" in finding.text) == (OK, True), finding


async def test_canary_through_a_sidecar_that_ignores_the_partition_is_not_checked(bridge: Running) -> None:
    async with Publishing(bridge) as sidecar:
        sidecar.is_old = True
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert (finding.state, "it needs Dapr 1.18" in finding.text) == (NOT_CHECKED, True)


async def test_canary_that_the_bridge_drops_fails_with_the_reason(start: Start) -> None:
    bridge = await start(USER_ID_FIELD="owner")
    async with Publishing(bridge) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert (finding.state, "the bridge dropped the event of task-updates/0: " in finding.text) == (FAILURE, True)


async def test_canary_that_the_bridge_retries_fails(bridge: Running, monkeypatch: Any) -> None:
    async def retry(events: Sequence[Event], *_: object) -> list[Outcome]:
        return [retried(Retry.QUEUE_FULL)] * len(events)

    monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(bridge.bridge.broker, "append", retry)
    async with Publishing(bridge) as sidecar:
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert (finding.state, finding.cure.startswith("event.retried in the bridge's log")) == (FAILURE, True)
    assert finding.text.endswith(", and events are retried")


async def test_canary_that_cannot_be_published_fails(bridge: Running) -> None:
    async with Publishing(bridge) as sidecar:
        sidecar.refuses = True
        finding = await found("canary", url=bridge.url, sidecar=sidecar.url, canary=True)
    assert (finding.state, "does not publish to task-updates" in finding.text) == (FAILURE, True)
