"""Settings reach the brokers, and their metrics and checks are registered."""

from wsbridge.broker.factory import memory_broker, redis_broker
from wsbridge.config.redis_url import parse
from wsbridge.config.settings import Settings
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.metrics import Metrics


def bus(metrics: Metrics) -> Bus:
    return Bus(Registry(), metrics, size=10, max_bytes=1_000)


def test_memory_broker_has_the_limits_of_the_settings_and_its_metrics() -> None:
    metrics = Metrics()
    settings = Settings(
        history_size=3, history_ttl=4.0, history_max_bytes=5, history_max_bytes_per_user=6, dedupe_ttl=7
    )
    broker = memory_broker(settings, bus(metrics), metrics)
    limits = (broker.size, broker.ttl, broker.max_bytes, broker.max_bytes_per_user)
    assert limits == (3, 4.0, 5, 6)
    assert metrics.registry.get_sample_value("wsbridge_history_users") == 0
    assert metrics.registry.get_sample_value("wsbridge_history_bytes") == 0


async def test_redis_broker_is_down_until_redis_answers_and_its_check_is_required() -> None:
    metrics, checks = Metrics(), Checks()
    url = parse("redis://127.0.0.1:1")
    broker = redis_broker(url, Settings(redis_prefix="p", history_size=3), bus(metrics), metrics, checks, lambda: False)
    assert (broker.prefix, broker.size) == ("p", 3)
    assert metrics.registry.get_sample_value("wsbridge_redis_up") == 0
    assert metrics.registry.get_sample_value("wsbridge_redis_subscriptions") == 0
    checks.run()
    assert not checks.are_ready()
