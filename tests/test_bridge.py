"""The parts of one replica, wired: which routes are where, what is watched, what is checked."""

import pytest

from tests.conftest import Start
from wsbridge.bridge import QUEUE_WARNING, REGISTRY, Bridge
from wsbridge.environment import load
from wsbridge.event import Entry

HEALTH = {"GET /health", "GET /healthz"}
FRONT = {"GET /"}
PUBLIC = {"GET /ws", "GET /sse", "OPTIONS /sse", "GET /client.js"}
INTERNAL = {
    "GET /dapr/subscribe",
    "POST /events/{topic}",
    "GET /stats",
    "GET /users/{user_id}",
    "POST /users/{user_id}/disconnect",
    "GET /metrics",
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
async def test_which_routes_are_on_which_port(public: bool, internal: bool, expected: set[str]) -> None:
    assert routes(bridge(JWT_SECRET="s" * 32), public=public, internal=internal) == expected


async def test_the_application_holds_the_registry() -> None:
    of = bridge()
    assert of.application(public=True, internal=True)[REGISTRY] is of.registry


async def test_a_queue_that_is_nearly_full_makes_it_degraded(start: Start) -> None:
    running = await start(QUEUE_SIZE="10")
    assert (await running.get("/health"))[1]["checks"] == {"queue": "ok"}
    running.bridge.bus.depth = int(10 * QUEUE_WARNING) + 1
    status, health = await running.get("/health")
    assert (status, health["status"], health["checks"]) == (200, "degraded", {"queue": "nearly full"})
    running.bridge.bus.depth = 0


async def test_a_key_set_that_never_came_makes_it_degraded(start: Start) -> None:
    running = await start(JWT_JWKS_URL="http://127.0.0.1:1/jwks")
    _, health = await running.get("/health")
    assert health["status"] == "degraded"
    assert health["checks"]["keys"].startswith("the key set ")


async def test_gauges_are_read_at_scrape() -> None:
    of = bridge()
    of.bus.put([Entry("u", "e", 1, "task_update", b"{}", "", 0.0, "")])
    assert of.metrics.registry.get_sample_value("wsbridge_queue_depth") == 1
    assert of.metrics.registry.get_sample_value("wsbridge_connections") == 0
