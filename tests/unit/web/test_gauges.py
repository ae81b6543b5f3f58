"""The values of a bridge's gauges."""

from tests.support.logs import Logs
from wsbridge.config.settings import Settings
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.metrics import Metrics
from wsbridge.web.gauges import watch_bridge, watch_limits


def watched() -> tuple[Metrics, Bus, RateLimits]:
    metrics = Metrics()
    registry = Registry(max_connections=10, max_per_user=10)
    bus = Bus(registry, metrics, size=10, max_bytes=1_000)
    rate_limits = RateLimits(failure_rate=1.0, handshake_rate=1.0, trusts=lambda _: False)
    slow_consumers = SlowConsumers(metrics, max_session=1_000, max_total=1_000)
    checks = Checks()
    checks.add("queue", lambda: "nearly full" if bus.depth else None)
    watch_bridge(metrics, registry, bus, slow_consumers, rate_limits, checks)
    return metrics, bus, rate_limits


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"wsbridge_{name}")


def test_gauge_read_after_a_change_shows_it(logs: Logs) -> None:
    metrics, bus, rate_limits = watched()
    assert (value(metrics, "queue_entries"), value(metrics, "budget_addresses")) == (0, 0)
    bus.depth = 3
    rate_limits.failed("192.0.2.1")
    assert (value(metrics, "queue_entries"), value(metrics, "budget_addresses")) == (3, 1)


def test_gauge_of_a_health_check_follows_it() -> None:
    metrics, bus, _ = watched()
    read = metrics.registry.get_sample_value
    assert read("wsbridge_health_check_ok", {"check": "queue"}) == 1
    bus.depth = 1
    assert read("wsbridge_health_check_ok", {"check": "queue"}) == 0


def test_gauges_of_limits_are_the_settings() -> None:
    metrics = Metrics()
    watch_limits(metrics, Settings(max_connections=1, queue_size=2, queue_max_bytes=3, max_unsent_bytes=4))
    names = ("connections", "queue_entries", "queue_bytes", "unsent_bytes")
    assert [value(metrics, f"limit_{name}") for name in names] == [1, 2, 3, 4]


def test_gauge_of_tasks_without_a_loop_is_zero() -> None:
    metrics, _, _ = watched()
    assert value(metrics, "event_loop_tasks") == 0


async def test_gauge_of_tasks_with_a_loop_counts_them() -> None:
    metrics, _, _ = watched()
    assert (value(metrics, "event_loop_tasks") or 0) >= 1
