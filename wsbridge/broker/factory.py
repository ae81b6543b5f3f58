"""Creates the brokers from the settings, with their metrics and health checks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from wsbridge.broker.base import Answerer, Sink
from wsbridge.broker.memory import MemoryBroker
from wsbridge.config.redis_url import RedisUrl
from wsbridge.config.settings import Settings
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from wsbridge.broker.redis.broker import RedisBroker


def memory_broker(s: Settings, sink: Sink, metrics: Metrics) -> MemoryBroker:
    broker = MemoryBroker(
        sink,
        size=s.history_size,
        ttl=s.history_ttl,
        max_bytes=s.history_max_bytes,
        max_bytes_per_user=s.history_max_bytes_per_user,
        dedupe_ttl=s.dedupe_ttl,
    )
    metrics.watch("history_bytes", "Approximate memory for histories and remembered ids.", lambda: broker.bytes)
    metrics.watch("limit_history_bytes", "WSBRIDGE_HISTORY_MAX_BYTES.", lambda: s.history_max_bytes)
    metrics.watch("history_users", "Users with a history.", lambda: broker.users)
    return broker


def redis_broker(
    url: RedisUrl,
    s: Settings,
    sink: Sink,
    metrics: Metrics,
    checks: Checks,
    is_pressed: Callable[[], bool],
    answer: Answerer | None = None,
) -> "RedisBroker":
    """While `is_pressed` returns True, much data waits for peers, and the broker delays large data.

    `answer` answers questions of other replicas; see `RedisBroker`.
    """
    # loading redis-py takes a good part of the start-up, and most runs on a laptop do not need it
    from wsbridge.broker.redis.broker import RedisBroker  # noqa: PLC0415
    from wsbridge.broker.redis.topology import create_server  # noqa: PLC0415

    broker = RedisBroker(
        create_server(url),
        sink,
        prefix=s.redis_prefix,
        size=s.history_size,
        ttl=s.history_ttl,
        max_bytes_per_user=s.history_max_bytes_per_user,
        dedupe_ttl=s.dedupe_ttl,
        metrics=metrics,
        is_pressed=is_pressed,
        answer=answer,
    )
    checks.add("redis", lambda: broker.trouble, required=True)
    metrics.watch("redis_up", "1 while Redis answers and all channels are subscribed.", lambda: not broker.trouble)
    metrics.watch("redis_subscriptions", "Subscribed channels.", lambda: broker.subscriptions)
    return broker
