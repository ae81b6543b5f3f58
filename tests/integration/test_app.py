"""The wiring of one replica: its routes, gauges and health checks."""

import re

import pytest

from tests.support.logs import Logs
from tests.support.running import ROOT, Start
from wsbridge.app import QUEUE_WARNING, Bridge
from wsbridge.config.env import load
from wsbridge.core.close_codes import CLOSE_LABELS
from wsbridge.core.events import Entry
from wsbridge.sessions.registry import REGISTRY
from wsbridge.telemetry.metrics import ERRORS, OUTCOMES

HEALTH = {"GET /health", "GET /healthz"}
FRONT = {"GET /"}
CLIENT = {"GET /client.js", "GET /client.json", "GET /client.{hash}.js", "GET /client.{hash}.js.map"}
PUBLIC = {"GET /ws", "GET /sse", "OPTIONS /sse", *CLIENT}
INTERNAL = {
    "GET /dapr/subscribe",
    "POST /events/{topic}",
    "GET /stats",
    "GET /user",
    "GET /user/events",
    "POST /user/disconnect",
    "GET /users/{user_id}",
    "GET /users/{user_id}/events/{event_id}",
    "POST /users/{user_id}/disconnect",
    "GET /metrics",
    "GET /console",
    "GET /console/console.js",
    "GET /console/console.css",
    "GET /console/stream",
    "GET /console/payload",
    "POST /console/events/{topic}",
}


def bridge(**settings: str) -> Bridge:
    return Bridge(load({f"WSBRIDGE_{name}": value for name, value in settings.items()})[0])


def routes(of: Bridge, *, public: bool, internal: bool) -> set[str]:
    router = of.application(public=public, internal=internal).router
    return {f"{r.method} {r.resource.canonical}" for r in router.routes() if r.resource and r.method != "HEAD"}


@pytest.mark.parametrize(
    ("public", "internal", "expected"),
    [
        (True, True, FRONT | HEALTH | PUBLIC | INTERNAL),
        (True, False, FRONT | HEALTH | PUBLIC),
        (False, True, FRONT | HEALTH | INTERNAL),
    ],
    ids=["one port", "public port", "internal port"],
)
async def test_application_has_the_routes_of_its_port(public: bool, internal: bool, expected: set[str]) -> None:
    assert routes(bridge(JWT_SECRET="s" * 32), public=public, internal=internal) == expected


async def test_bridge_applications_of_both_ports_hold_the_same_registry() -> None:
    of = bridge()
    applications = [of.application(public=True, internal=False), of.application(public=False, internal=True)]
    assert [application[REGISTRY] for application in applications] == [of.registry] * 2


async def test_health_with_a_nearly_full_queue_is_degraded(start: Start) -> None:
    running = await start(QUEUE_SIZE="10")
    assert (await running.get("/health"))[1]["checks"]["queue"] == "ok"
    running.bridge.bus.depth = int(10 * QUEUE_WARNING) + 1
    status, health = await running.get("/health")
    assert (status, health["status"], health["checks"]["queue"]) == (200, "degraded", "nearly full")
    running.bridge.bus.depth = 0


@pytest.mark.fault("E1")
async def test_health_without_a_key_set_is_unavailable(start: Start) -> None:
    running = await start(JWT_JWKS_URL="http://127.0.0.1:1/jwks")
    status, health = await running.get("/health")
    assert (status, health["status"]) == (503, "unavailable")
    assert health["checks"]["keys"].startswith("the key set ")


@pytest.mark.fault("E1")
async def test_health_without_redis_is_unavailable(start: Start, logs: Logs, unused_tcp_port: int) -> None:
    running = await start(REDIS_URL=f"redis://127.0.0.1:{unused_tcp_port}")
    await logs.line("redis.unavailable")
    status, health = await running.get("/health")
    assert (status, health["status"]) == (503, "unavailable")
    assert str(unused_tcp_port) in health["checks"]["redis"]


@pytest.mark.fault("E5")
async def test_health_without_a_sidecar_is_degraded_after_a_minute(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(JWT_SECRET="s" * 32, APP_API_TOKEN="t" * 16, ADMIN_TOKEN="a" * 16)
    read = running.bridge.metrics.registry.get_sample_value
    operator = {"Authorization": "Bearer " + "a" * 16}
    assert (await running.get("/health", **operator))[1]["checks"]["sidecar"].startswith("ok, but no sidecar seen yet ")
    monkeypatch.setattr("wsbridge.dapr.sidecar_check.PATIENCE", 0.0)
    status, health = await running.get("/health", **operator)
    assert (status, health["status"]) == (200, "degraded")
    assert "no sidecar has read the subscriptions" in health["checks"]["sidecar"]
    assert read("wsbridge_last_subscription_read_timestamp_seconds") == 0
    await running.get("/dapr/subscribe", **{"dapr-api-token": "t" * 16})
    assert (await running.get("/health", **operator))[1]["checks"]["sidecar"] == "ok"
    assert (read("wsbridge_last_subscription_read_timestamp_seconds") or 0) > 0
    async with running.http.head(f"{running.url}/dapr/subscribe", headers={"dapr-api-token": "wrong"}) as response:
        assert response.status == 401  # as `wsbridge doctor` does
    assert (await running.get("/health", **operator))[1]["checks"]["sidecar"] == "ok"
    await running.get("/dapr/subscribe", **{"dapr-api-token": "wrong"})
    status, health = await running.get("/health", **operator)
    assert (status, health["status"]) == (200, "degraded")
    assert "its last read of the subscriptions was refused (401, " in health["checks"]["sidecar"]
    assert (await running.get("/healthz"))[0] == 200
    await running.get("/dapr/subscribe", **{"dapr-api-token": "t" * 16})
    assert (await running.get("/health", **operator))[1]["checks"]["sidecar"] == "ok"
    assert read("wsbridge_last_delivery_timestamp_seconds") == 0


@pytest.mark.fault("E5")
async def test_delivery_sets_its_gauge_and_development_needs_no_sidecar(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.dapr.sidecar_check.PATIENCE", 0.0)
    running = await start()
    assert (await running.get("/health"))[1]["status"] == "healthy"
    await running.publish({"user_id": "u1"})
    assert running.bridge.metrics.delivered_at > 0


async def test_gauges_are_read_at_scrape() -> None:
    of = bridge()
    of.bus.put([Entry("u", "e", 1, "task_update", b"{}", "", 0.0, "")])
    assert of.metrics.registry.get_sample_value("wsbridge_queue_entries") == 1
    assert of.metrics.registry.get_sample_value("wsbridge_connections") == 0


@pytest.mark.fault("E7")
async def test_metrics_at_the_start_are_those_of_the_documentation() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(wsbridge_[a-z_]+)` \|", document, re.MULTILINE))
    families = [
        f for of in (bridge(RECEIPTS_TOPIC="t"), bridge(REDIS_URL="redis://localhost")) for f in of.metrics.collect()
    ]
    assert {f.name + "_total" * (f.type == "counter") for f in families} == documented
    assert [f.name for f in families if not f.samples] == []


@pytest.mark.fault("E7")
async def test_metrics_have_a_series_for_every_close_and_error_from_the_start() -> None:
    read = bridge().metrics.registry.get_sample_value
    for code, reason in CLOSE_LABELS:
        assert read("wsbridge_closes_total", {"code": code, "reason": reason}) == 0
    for outcome in OUTCOMES:
        assert read("wsbridge_topic_events_total", {"topic": "task-updates", "outcome": outcome}) == 0
    for kind in ERRORS:
        assert read("wsbridge_errors_total", {"kind": kind}) == 0


@pytest.mark.fault("E7")
async def test_queue_peak_entries_shows_a_peak_between_scrapes() -> None:
    of = bridge()
    of.bus.put([Entry("u", "e", n, "task_update", b"{}", "", 0.0, "") for n in range(7)])
    of.bus.depth = 0
    read = of.metrics.registry.get_sample_value
    assert (read("wsbridge_queue_entries"), read("wsbridge_queue_peak_entries")) == (0, 7)
