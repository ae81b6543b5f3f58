"""The health check of the sidecar: whether one has called since the start."""

import time
from collections.abc import Callable

from wsbridge.supervision.health_checks import Pending
from wsbridge.telemetry.metrics import Metrics

PATIENCE = 60.0  # seconds after the start in which a sidecar has to read the subscriptions


class SidecarCheck:
    """A sidecar reads the subscriptions once in its life. If only the bridge restarts, a delivery proves it instead."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._created = clock()

    def trouble(self) -> str | None:
        seen = self._metrics.subscription_read_at or self._metrics.delivered_at
        if seen:
            return None
        age = self._clock() - self._created
        if age < PATIENCE:
            return Pending(f"no sidecar seen yet (started {age:.0f} s ago)")
        return "no sidecar has read the subscriptions or delivered an event since the start; is APP_API_TOKEN the same?"
