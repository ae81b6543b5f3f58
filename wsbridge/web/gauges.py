"""Gauges of a whole bridge, read at each scrape."""

import asyncio
from functools import partial

from wsbridge.config.settings import Settings
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.supervision.health_checks import Checks, passes
from wsbridge.telemetry.log import dropped_lines
from wsbridge.telemetry.metrics import Metrics


def watch_bridge(
    metrics: Metrics,
    registry: Registry,
    bus: Bus,
    slow_consumers: SlowConsumers,
    rate_limits: RateLimits,
    checks: Checks,
) -> None:
    """Register the gauges of parts that are the same for all brokers."""
    watch = metrics.watch
    watch("connections", "Open sessions.", lambda: len(registry))
    watch("users", "Users with an open session.", lambda: float(registry.user_count))
    watch("budget_addresses", "Addresses whose failures are remembered.", lambda: rate_limits.addresses)
    watch("queue_entries", "Entries in the queue.", lambda: bus.depth)
    watch(
        "queue_peak_entries",
        "Maximum of entries in the queue since the last scrape, or in the last minute if that is longer.",
        bus.most,
    )
    watch("event_loop_tasks", "Tasks of the event loop.", _tasks)
    metrics.count("log_lines_dropped", "Log lines that were dropped.", dropped_lines, "reason")
    watch("queue_bytes", "Bytes of data in the queue.", lambda: bus.bytes)
    watch("unsent_bytes", "Bytes that wait for slow peers, shared ones counted once.", lambda: slow_consumers.bytes)
    metrics.watch_each(
        "health_check_ok",
        "1 if the check of /health succeeds, else 0.",
        lambda: {name: float(passes(text)) for name, text in checks.run().items()},
        "check",
    )


def watch_limits(metrics: Metrics, s: Settings) -> None:
    """Register the bounds of other gauges, so that alerts can compare them; 0 means that there is none."""
    for name, value in (
        ("connections", s.max_connections),
        ("queue_entries", s.queue_size),
        ("queue_bytes", s.queue_max_bytes),
        ("unsent_bytes", s.max_unsent_bytes),
    ):
        metrics.watch(f"limit_{name}", f"The bound on wsbridge_{name}; 0 if there is none.", partial(float, value))


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # there is no loop: the caller only wants the names of the metrics
        return 0
