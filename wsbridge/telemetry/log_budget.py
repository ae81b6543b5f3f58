"""Limits the number of log lines per event and second, because untrusted peers can cause some events at will."""

import time
from collections import Counter
from collections.abc import Callable

# Lines per second, and the burst. Lines above are dropped, counted, and reported once a second.
UNKNOWN_PEERS = (20.0, 100.0)
KNOWN_USERS = (1_000.0, 10_000.0)  # after a restart all clients reconnect within seconds, with one line each
# Events that a peer without a valid token can cause. A token with an unknown `kid` can cause a fetch of the key set;
# too many connections can cause `accept.failed`.
FROM_UNKNOWN_PEERS = frozenset(
    {
        "accept.failed", "auth.failed", "http.request", "internal.error", "jwks.failed", "jwks.fetched", "library.log",
        "request.bad", "request.denied", "request.timeout", "session.refused", "topic.unknown",
    }
)  # fmt: skip
REPORT_INTERVAL = 1.0  # seconds


class LogBudget:
    """A token bucket for each event name. Their number is bounded, because event names are constants."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # event → lines left, and the time of that
        self._refused: Counter[str] = Counter()
        self._reported = clock()

    def allows(self, event: str) -> bool:
        """Count one line. Returns False if it must be dropped."""
        rate, burst = UNKNOWN_PEERS if event in FROM_UNKNOWN_PEERS else KNOWN_USERS
        now = self._clock()
        left, at = self._buckets.get(event, (burst, now))
        left = min(burst, left + (now - at) * rate)
        self._buckets[event] = (max(0.0, left - 1.0), now)
        if left < 1.0:
            self._refused[event] += 1
        return left >= 1.0

    def due(self) -> dict[str, int]:
        """Event → dropped lines since the last report; empty if that was less than a second ago."""
        if not self._refused or self._clock() - self._reported < REPORT_INTERVAL:
            return {}
        refused, self._refused = dict(self._refused), Counter()
        self._reported = self._clock()
        return refused
