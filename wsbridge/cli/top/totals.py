"""Turns the lines of `/console/stream` into numbers to show: counters into rates, histograms into quantiles."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from wsbridge.supervision.health_checks import OK, passes

WINDOW = 10  # looks whose latencies count
Line = Mapping[str, Any]


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which a share of the observations lies, interpolated within its bucket.

    Infinite if it is above the last bound. None without observations.
    """
    wanted = share * sum(counts)
    below = 0
    for low, high, count, total in zip((0.0, *bounds), bounds, counts, accumulate(counts), strict=False):
        if count and total >= wanted:
            return low + (high - low) * (wanted - below) / count
        below = total
    return math.inf if wanted else None


@dataclass(eq=False)
class Replica:
    """The last lines `numbers` of a replica, of which there is at least one."""

    looks: deque[Line] = field(default_factory=lambda: deque(maxlen=WINDOW + 1))
    is_silent: bool = False

    def take(self, line: Line) -> None:
        if self.looks and line["uptime"] < self.now["uptime"]:  # it was restarted
            self.looks.clear()
        self.looks.append(line)
        self.is_silent = False

    @property
    def now(self) -> Line:
        return self.looks[-1]

    @property
    def problems(self) -> list[str]:
        """The results of health checks that are not `ok`, those that do not fail yet included."""
        return [f"{name}: {text}" for name, text in self.now["checks"].items() if text != OK and name != "lifecycle"]

    def _checks(self) -> list[str]:
        return [text for name, text in self.now["checks"].items() if name != "lifecycle"]

    @property
    def state(self) -> str:
        if self.is_silent:
            return "no answer"
        return "draining" if self.now["draining"] else "healthy" if all(map(passes, self._checks())) else "degraded"

    @property
    def fullness(self) -> float:
        """The share of the queue's bounds that is used."""
        queue = self.now["queue"]
        return float(max(queue["entries"] / queue["max_entries"], queue["bytes"] / queue["max_bytes"]))

    def rate(self, read: Callable[[Line], float]) -> float:
        """By how much a counter grew a second between the last two looks; 0 after the first."""
        if len(self.looks) < 2:  # noqa: PLR2004 - two looks
            return 0.0
        before, now = self.looks[-2], self.now
        return (read(now) - read(before)) / (now["at"] - before["at"]) if now["at"] > before["at"] else 0.0

    def latency(self, stage: str, share: float) -> float | None:
        """A quantile of a stage over the looks that are kept, in seconds; as `quantile`."""
        now, before = self.now["latency"][stage], self.looks[0]["latency"][stage]
        grown = [count - old for count, old in zip(now["counts"], before["counts"], strict=True)]
        return quantile(now["bounds"], grown, share)


class Totals:
    """All replicas by name, and what the last look said about those that did not answer."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.missing = 0

    def take(self, line: Line) -> bool:
        """Returns True if the line ends a look."""
        if line["type"] == "numbers":
            self.replicas.setdefault(line["replica"], Replica()).take(line)
        if line["type"] != "replicas":
            return False
        known = {*line["answered"], *line["silent"]}
        self.replicas = {name: self.replicas[name] for name in sorted(self.replicas) if name in known}
        for name in self.replicas:
            self.replicas[name].is_silent = name in line["silent"]
        self.missing = line["missing"]
        return True

    def counts(self, *names: str) -> dict[str, int]:
        """Counters since the start by label, summed over the replicas and the metrics; the largest first."""
        found: dict[str, int] = {}
        for label, count in _items(replica.now[name] for replica in self.replicas.values() for name in names):
            found[label] = found.get(label, 0) + count
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def growth(self, name: str) -> dict[str, int]:
        """By how much the counters of a metric grew, by label, since the first kept look at each replica."""
        found: dict[str, int] = {}
        for replica in self.replicas.values():
            before = replica.looks[0][name]
            for label, count in replica.now[name].items():
                found[label] = found.get(label, 0) + count - before.get(label, 0)
        return found

    def losses(self) -> tuple[int, float | None]:
        """How often Redis had lost histories since the start, and the seconds since the last time if they are known.

        A replica of an earlier version does not send them.
        """
        lines = [replica.now for replica in self.replicas.values()]
        ago = min((line["at"] - line["lost_at"] for line in lines if line.get("lost_at")), default=None)
        return sum(line.get("losses", 0) for line in lines), ago


def _items(all_counts: Iterable[Mapping[str, int]]) -> Iterable[tuple[str, int]]:
    for counts in all_counts:
        yield from counts.items()
