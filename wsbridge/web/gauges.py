"""Gauges of a whole bridge, read at each scrape."""

import asyncio

from wsbridge.connections.rate_limits import RateLimits
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.telemetry.log import dropped_lines
from wsbridge.telemetry.metrics import Metrics


def watch_bridge(
    metrics: Metrics, registry: Registry, bus: Bus, backlog: SlowConsumers, rate_limits: RateLimits
) -> None:
    """Register the gauges of parts that are the same for all brokers."""
    watch = metrics.watch
    watch("connections", "Open sessions.", lambda: len(registry))
    watch("users", "Users with an open session.", lambda: float(registry.user_count))
    watch("budget_addresses", "Addresses whose failures are remembered.", lambda: rate_limits.addresses)
    watch("queue_depth", "Entries in the bus.", lambda: bus.depth)
    watch(
        "queue_depth_max",
        "Maximum of entries in the queue since the last scrape, or in the last minute if that is longer.",
        bus.most,
    )
    watch("tasks", "Tasks of the event loop.", _tasks)
    metrics.count("log_lines_dropped", "Log lines that were dropped.", dropped_lines, "why")
    watch("queue_bytes", "Bytes of data in the queue.", lambda: bus.bytes)
    watch("unsent_bytes", "Bytes that wait for slow peers, shared ones counted once.", lambda: backlog.bytes)


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # there is no loop: the caller only wants the names of the metrics
        return 0
