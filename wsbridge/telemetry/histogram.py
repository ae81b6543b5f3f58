"""A histogram of durations in seconds, counted in plain ints: prometheus-client's is too slow for the hot path."""

from bisect import bisect_left
from collections.abc import Iterable

# Upper bounds of the buckets, in seconds.
LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
STAGE = (*LATENCY, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
AGE = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
DURATION = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)


class Histogram:
    """Counts per bucket; `bounds` are the upper bounds in seconds, in ascending order."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times

    def observe_each(self, seconds: Iterable[float]) -> None:
        counts, bounds, total = self.counts, self.bounds, 0.0
        for each in seconds:
            counts[bisect_left(bounds, each)] += 1
            total += each
        self.sum += total

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound → observations up to it, as Prometheus counts them."""
        total, buckets = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets
