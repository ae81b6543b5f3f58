"""What a run has seen so far: deliveries, connections, broken promises and the command in the middle."""

import math
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.viewer import Broken, Flaw, Viewer
from wsbridge.core.close_codes import Close

EXAMPLES = 3  # reports of each flaw that are kept


class Cut(NamedTuple):
    """The end of a connection. Times in seconds."""

    at: float
    close: Close
    age: float  # since `connected`
    idle: float  # since the last message
    expected: bool  # after a goodbye


class Gap(NamedTuple):
    at: float
    reason: str
    explained: bool  # by what the oracle knows


@dataclass
class Track:
    """One client: its check, its connections and the times without one."""

    viewer: Viewer
    dark: list[tuple[float, float]] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    away: float | None = None  # since when it has had no connection, after its first one
    trouble: str = ""  # the last reason why connecting failed
    ended: str = ""  # why it does not reconnect

    @property
    def connected(self) -> bool:
        """Whether it ever was."""
        return self.viewer.position is not None

    @property
    def missing(self) -> int:
        """How many events it has not got. Those after its last one may come when it is connected again."""
        return len(self.viewer.missed) + len(self.viewer.lacking()) if self.connected else 0

    @property
    def lost(self) -> int:
        """How many of them never come."""
        return self.missing if self.away is None else len(self.viewer.missed)

    @property
    def dark_ms(self) -> float:
        return 1_000 * sum(end - start for start, end in self.dark)


@dataclass
class During:
    """The command in the middle. `code` is None until it has ended."""

    command: str
    start: float
    end: float | None = None
    code: int | None = None


@dataclass
class Record:
    """One run. Times are seconds since it began."""

    ledger: Ledger
    users: Sequence[str]
    started: float = 0.0  # publishing, once the clients are connected
    ended: float = 0.0
    tracks: list[Track] = field(default_factory=list)
    flaws: Counter[Flaw] = field(default_factory=Counter)
    examples: dict[Flaw, list[str]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)  # why an attempt to publish failed
    during: During | None = None
    interrupted: bool = False
    arrivals: "array[float]" = field(default_factory=lambda: array("d"))
    latencies: "array[float]" = field(default_factory=lambda: array("f"))  # of each arrival, since it was published
    before: "array[float]" = field(default_factory=lambda: array("f"))  # … until the bridge had it, by both clocks
    after: "array[float]" = field(default_factory=lambda: array("f"))  # … from there to the client, without replays
    _spans: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # user, epoch → first and last time
    _zero: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return time.monotonic() - self._zero

    def event_id(self, user: str, serial: int) -> str:
        return f"{self.ledger.run}-{self.users.index(user) + 1}-{serial}"

    def broken(self, broken: Broken) -> None:
        """Count a broken promise. The first ones are kept."""
        self.flaws[broken.flaw] += 1
        kept = self.examples.setdefault(broken.flaw, [])
        if len(kept) < EXAMPLES:
            kept.append(str(broken))

    def arrived(self, user: str, serial: int, now: float, wall: float, *, stamp: float | None, live: bool) -> None:
        """Note an arrival. `wall` is the present time and `stamp` the bridge's, both in seconds since 1970."""
        latency = now - self.ledger.sent_at(user, serial)
        self.arrivals.append(now)
        self.latencies.append(latency)
        if stamp is not None:
            self.before.append(stamp - (wall - latency))
            if live:
                self.after.append(wall - stamp)

    def saw(self, user: str, epoch: str, now: float) -> None:
        """Note that a client of this user has a position of this epoch."""
        self._spans.setdefault((user, epoch), [now, now])[1] = now

    def overlap(self, user: str) -> float:
        """For how many seconds clients of the user had positions of two epochs at the same time."""
        spans = sorted(span for (of, _), span in self._spans.items() if of == user)
        longest, reach = 0.0, -math.inf
        for start, end in spans:
            longest = max(longest, min(reach, end) - start)
            reach = max(reach, end)
        return longest


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values is; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def counted(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
