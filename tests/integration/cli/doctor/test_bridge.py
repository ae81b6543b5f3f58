"""`wsbridge doctor` and bridges: health, tokens, competing replicas, silent partitions, a wrong clock."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.clocks import WallClock
from tests.support.deliveries import cloud_event
from tests.support.doctor import FAILURE, NOT_CHECKED, NOWHERE, OK, WARNING, found
from tests.support.reverse_proxies import ReverseProxy
from tests.support.running import ADMIN_TOKEN, SECRET, Running, Served, Start
from tests.support.spawned import Spawned
from tests.support.valkey import Valkey
from wsbridge.cli.doctor.bridge import share_partitions
from wsbridge.core.timestamps import timestamp

CHECKS = ("bridge", "admin-token", "replicas", "partitions", "bridge-clock")


async def deliver(bridge: Running, partition: int, event_id: str) -> None:
    headers = {"__partition": str(partition), "__offset": "7"}
    assert (await bridge.post(cloud_event({"user_id": "u1"}, id=event_id), **headers))["status"] == "SUCCESS"


async def test_checks_of_a_healthy_bridge_are_ok(bridge: Running) -> None:
    await deliver(bridge, 0, "e1")
    partitions = await found("partitions", url=bridge.url)
    assert partitions.state is NOT_CHECKED  # without Redis, others may have never delivered
    assert partitions.text.startswith("last deliveries: task-updates/0 ")
    assert partitions.text.endswith("; --canary shows whether there are other partitions")
    bridge.bridge.checks.add("redis", lambda: "ok")
    for check in CHECKS:
        finding = await found(check, url=bridge.url)
        assert finding.state is OK, (check, finding)


async def test_partitions_of_which_some_are_missing_warn_without_redis(bridge: Running) -> None:
    await deliver(bridge, 2, "e1")
    finding = await found("partitions", url=bridge.url)
    assert (finding.state, finding.text) == (WARNING, "only task-updates/2 has delivered since the start")
    bridge.bridge.checks.add("redis", lambda: "ok")
    assert (await found("partitions", url=bridge.url)).state is OK


async def test_bridge_that_does_not_run_fails() -> None:
    finding = await found("bridge")
    assert (finding.state, finding.text) == (FAILURE, f"no bridge answers at {NOWHERE}: Connection refused")
    for check in CHECKS[1:]:
        assert (await found(check)).state is NOT_CHECKED


async def test_bridge_with_failing_checks_names_them(bridge: Running) -> None:
    bridge.bridge.checks.add("redis", lambda: "it refuses writes")
    finding = await found("bridge", url=bridge.url)
    assert (finding.state, finding.text) == (WARNING, "it is degraded, redis: it refuses writes")
    bridge.bridge.admission.draining = True
    assert (await found("bridge", url=bridge.url)).state is FAILURE


async def test_admin_token_that_differs_fails_without_printing_it(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    token = "another token of an operator"
    finding = await found("admin-token", {"ADMIN_TOKEN": token}, url=bridge.url)
    assert (finding.state, "another WSBRIDGE_ADMIN_TOKEN" in finding.text) == (FAILURE, True)
    assert token not in finding.text + finding.cure
    assert (await found("admin-token", url=bridge.url)).text == "WSBRIDGE_ADMIN_TOKEN is not set in this shell"
    assert (await found("admin-token", {"ADMIN_TOKEN": ADMIN_TOKEN}, url=bridge.url)).state is OK


async def test_admin_token_at_the_public_port_or_without_one_says_what_to_set(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    assert "WSBRIDGE_INTERNAL_PORT" in (await found("admin-token", url=bridge.url)).cure
    closed = await start(JWT_SECRET=SECRET, ADMIN_TOKEN="")
    assert "refuses all operators" in (await found("admin-token", url=closed.url)).text


class Limiting(Served):
    """Answers as a bridge that refuses an address after too many failures."""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/{path:.*}", self._refuse),)

    async def _refuse(self, _: web.Request) -> web.Response:
        raise web.HTTPTooManyRequests


async def test_admin_token_at_a_bridge_that_limits_failures_does_not_blame_the_port() -> None:
    async with Limiting() as limiting:
        finding = await found("admin-token", url=f"http://127.0.0.1:{limiting.port}")
    assert (finding.state, "too many failed requests" in finding.text) == (NOT_CHECKED, True), finding


async def test_replicas_behind_one_url_that_divide_the_partitions_fail(start: Start, tmp_path: Path) -> None:
    """Two bridges behind a real HAProxy, as behind a Service."""
    first, second = await start(), await start()
    async with ReverseProxy("haproxy to two", tmp_path, first.port, second.port) as service:
        assert (await found("replicas", url=service.url)).state is WARNING
        await deliver(first, 0, "e1")
        await deliver(second, 1, "e2")
        finding = await found("replicas", url=service.url)
        assert (finding.state, "2 replicas" in finding.text) == (FAILURE, True), finding
        await deliver(first, 1, "e2")
        await deliver(second, 0, "e1")
        assert (await found("replicas", url=service.url)).state is OK  # each has a consumer group


async def test_replicas_that_share_redis_are_ok(start: Start, tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        first, second = await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)
        async with ReverseProxy("haproxy to two", tmp_path, first.port, second.port) as service:
            finding = await found("replicas", url=service.url)
    assert (finding.state, "use Redis" in finding.text) == (OK, True), finding


def stats(started_at: float, **deliveries: float) -> dict[str, Any]:
    return {
        "started_at": timestamp(started_at),
        "deliveries": {partition: timestamp(at) for partition, at in deliveries.items()},
    }


@pytest.mark.parametrize(
    ("replicas", "shared"),
    [
        ([stats(0), stats(0)], None),
        ([stats(1000, a=2000, b=2000), stats(1000, a=2001, b=1999)], False),
        ([stats(1000, a=2000, b=2000), stats(3000)], False),  # the second has started since
        ([stats(1000, a=2000), stats(1000, b=2000)], True),
        ([stats(1000, a=2000, b=2000), stats(1000, a=3000, b=2001)], True),  # a has moved
    ],
)
def test_share_partitions_compares_the_last_deliveries(replicas: list[dict[str, Any]], shared: bool | None) -> None:
    assert share_partitions(replicas) is shared


async def test_partitions_without_a_delivery_or_with_a_silent_one_warn(bridge: Running) -> None:
    assert (await found("partitions", url=bridge.url)).state is WARNING
    await deliver(bridge, 0, "e1")
    await deliver(bridge, 1, "e2")
    bridge.bridge.stations.deliveries["task-updates/1"] -= 3_600
    finding = await found("partitions", url=bridge.url)
    assert (finding.state, "task-updates/1 1 h ago" in finding.text) == (WARNING, True), finding


async def test_partitions_without_stations_or_with_a_canary_are_not_checked(start: Start) -> None:
    bridge = await start(STATIONS_MAX_BYTES="0")
    assert (await found("partitions", url=bridge.url)).state is NOT_CHECKED
    assert (await found("partitions", url=bridge.url, canary=True)).state is NOT_CHECKED


async def test_bridge_clock_that_is_wrong_fails(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        bridge = await Spawned.start(http, WallClock(tmp_path, ahead=-120))
        try:
            finding = await found("bridge-clock", url=bridge.url)
        finally:
            await bridge.end()
    assert (finding.state, "behind this one" in finding.text) == (FAILURE, True), finding
