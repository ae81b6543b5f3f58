"""Logs one line a minute while there is traffic, so that missing events show in the log without the debug level."""

import asyncio

from wsbridge.sessions.registry import Registry
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

INTERVAL = 60.0  # seconds


class TrafficSummary:
    """Differences between two looks at the counters."""

    def __init__(self, metrics: Metrics, registry: Registry) -> None:
        self._metrics = metrics
        self._registry = registry
        self._before = self._counts()

    async def run(self) -> None:
        """Write for as long as the bridge runs, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                self.write()
        finally:
            self.write()

    def write(self) -> None:
        """A line, unless nothing happened since the last one."""
        counts = self._counts()
        happened = {name: count - self._before.get(name, 0) for name, count in counts.items()}
        self._before = counts
        if any(happened.values()):
            sessions, users = len(self._registry), self._registry.user_count
            log.info("traffic.summary", **happened, connections=sessions, users=users)

    def _counts(self) -> dict[str, int]:
        metrics = self._metrics
        events = {f"events_{outcome}": count for outcome, count in metrics.events.items()}
        return events | {
            "deliveries": metrics.deliveries,
            "opened": metrics.opened,
            "closed": metrics.closes.total(),
            "errors": metrics.errors.total(),
        }
