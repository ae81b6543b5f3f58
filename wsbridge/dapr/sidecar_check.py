"""The health check of the sidecar: whether one has called since the start, and was not refused later."""

import time
from collections.abc import Callable
from http import HTTPStatus

from wsbridge.supervision.health_checks import Pending
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.fates import span
from wsbridge.telemetry.stations.ring import Stations

SUBSCRIPTIONS = "/dapr/subscribe"
PATIENCE = 60.0  # seconds after the start in which a sidecar has to read the subscriptions


class SidecarCheck:
    """A sidecar reads the subscriptions once in its life. If only the bridge restarts, a delivery proves it instead."""

    def __init__(self, metrics: Metrics, stations: Stations, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._stations = stations
        self._clock = clock
        self._created = clock()
        self._refused_at = 0.0  # when a read of the subscriptions was refused, in seconds since 1970

    def denied(self, path: str, status: int | None) -> None:
        """Count a refused call to a route of the sidecar. `status` is None if anybody can be the caller.

        Only a wrong token counts as a sidecar's read: other apps are refused with 403, also through the sidecar.
        """
        self._stations.denied()
        if path == SUBSCRIPTIONS and status == HTTPStatus.UNAUTHORIZED:
            self._refused_at = time.time()

    def trouble(self) -> str | None:
        seen = max(self._metrics.subscription_read_at, self._metrics.delivered_at)
        if self._refused_at > seen:
            refused = f"was refused (401, {span(time.time() - self._refused_at)} ago)"
            return f"its last read of the subscriptions {refused}: check its APP_API_TOKEN with wsbridge doctor"
        if seen:
            return None
        age = self._clock() - self._created
        if age < PATIENCE:
            return Pending(f"no sidecar seen yet (started {age:.0f} s ago)")
        return "no sidecar has read the subscriptions or delivered an event since the start; is APP_API_TOKEN the same?"
