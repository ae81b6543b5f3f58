"""How many lines a second an event may fill the log with: outsiders cause some of them, as often as they like."""

import time
from collections import Counter
from collections.abc import Callable

# Lines a second, and how many at once. Lines beyond are counted and reported once a second.
UNKNOWN_PEERS = (20.0, 100.0)
KNOWN_USERS = (1_000.0, 10_000.0)  # a restart brings all clients back within seconds, and each of them has a line
# Events that somebody who has shown no valid token or app token can cause. A token that names an unknown key may have
# the key set fetched; a connection too many may leave no descriptor for the next.
FROM_UNKNOWN_PEERS = frozenset(
    {
        "accept.failed", "auth.failed", "http.request", "internal.error", "jwks.failed", "jwks.fetched", "library.log",
        "request.bad", "request.denied", "request.timeout", "session.refused", "topic.unknown",
    }
)  # fmt: skip
REPORT_INTERVAL = 1.0  # seconds


class LogBudget:
    """A token bucket for each event name; the names are ours, so there are few."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # event → lines left, and when that was
        self._refused: Counter[str] = Counter()
        self._reported = clock()

    def allows(self, event: str) -> bool:
        """Count one line; False if it is one too many."""
        rate, burst = UNKNOWN_PEERS if event in FROM_UNKNOWN_PEERS else KNOWN_USERS
        now = self._clock()
        left, at = self._buckets.get(event, (burst, now))
        left = min(burst, left + (now - at) * rate)
        self._buckets[event] = (max(0.0, left - 1.0), now)
        if left < 1.0:
            self._refused[event] += 1
        return left >= 1.0

    @property
    def size(self) -> int:
        return len(self._buckets)

    def due(self) -> dict[str, int]:
        """Event → lines that were refused since the last report; empty within a second of it."""
        if not self._refused or self._clock() - self._reported < REPORT_INTERVAL:
            return {}
        refused, self._refused = dict(self._refused), Counter()
        self._reported = self._clock()
        return refused
