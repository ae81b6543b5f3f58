"""The publisher's log: events sent, events that got SUCCESS, and the faults of the servers.

A user's events have serial numbers from 1, in the order of their partition. Times are seconds of one clock.
"""

import hashlib
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

DETECTION = 4.0  # seconds after a loss in which clients may still get positions that are withdrawn later
LATE = 5.0  # seconds for which a bridge may continue a request that its sender has abandoned


class Position(NamedTuple):
    """`<epoch>:<offset>`."""

    epoch: str
    offset: int

    @classmethod
    def read(cls, text: str) -> "Position":
        epoch, offset = text.split(":")
        return cls(epoch, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @property
    def next(self) -> "Position":
        return Position(self.epoch, self.offset + 1)

    def holds(self, other: "Position") -> bool:
        """Whether the other position is at or before this one. Positions of two epochs cannot be compared."""
        return self.epoch == other.epoch and other.offset <= self.offset


@dataclass
class Loss:
    """Redis lost a part of the data that it had acknowledged, at some time between the two."""

    kind: str
    start: float
    end: float = float("inf")


@dataclass
class _Event:
    digest: bytes
    tried: float  # when a request with it last ended
    waiting: int = 0  # number of open requests that contain it
    acked: float | None = None


@dataclass
class _Stream:
    """A user's events, in order; the first has serial 1."""

    events: list[_Event] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)  # when each was first sent; ascending
    acked: list[float] = field(default_factory=list)  # when it and all before it had got SUCCESS; ascending
    required: int = 0  # the last one that got SUCCESS


class Ledger:
    """The publisher's own log: events sent, events that got SUCCESS, their order, and the faults of the servers."""

    def __init__(self, *, ttl: float, size: int, run: str = "", verbatim: bool = True) -> None:
        """`ttl` and `size` are those of the histories, `run` marks the events.

        With `verbatim` events must arrive byte for byte. A sidecar writes the JSON of a CloudEvent again.
        """
        self.ttl = ttl
        self.size = size
        self.run = run
        self._verbatim = verbatim
        self.losses: list[Loss] = []
        self.faults: list[tuple[float, str]] = []
        self._streams: dict[str, _Stream] = {}
        self._places: dict[tuple[str, Position], int] = {}  # the event of each position

    def sending(self, user: str, serial: int, data: bytes, now: float) -> None:
        """Note that a request with this event begins."""
        stream = self._streams.setdefault(user, _Stream())
        if serial == len(stream.events) + 1:
            stream.events.append(_Event(self._digest(data), now))
            stream.sent.append(now)
        stream.events[serial - 1].waiting += 1

    def answered(self, user: str, serial: int, now: float, *, success: bool) -> None:
        """Note that this request has ended, with or without SUCCESS for this event."""
        stream = self._streams[user]
        event = stream.events[serial - 1]
        event.waiting -= 1
        event.tried = now
        if success and event.acked is None:
            event.acked = now
            stream.required = max(stream.required, serial)
            while len(stream.acked) < len(stream.events) and stream.events[len(stream.acked)].acked is not None:
                stream.acked.append(now)

    def count(self, user: str) -> int:
        """Number of events that were sent."""
        return len(self._streams[user].events) if user in self._streams else 0

    def required(self, user: str) -> int:
        """The last event that got SUCCESS."""
        return self._streams[user].required if user in self._streams else 0

    def acked_by(self, user: str, time: float) -> int:
        """The last event such that it and all before it had got SUCCESS before that time."""
        return bisect_left(self._streams[user].acked, time) if user in self._streams else 0

    def sent_by(self, user: str, time: float) -> int:
        """The last event that was first sent before that time."""
        return bisect_left(self._streams[user].sent, time) if user in self._streams else 0

    def sent_at(self, user: str, serial: int) -> float:
        return self._streams[user].sent[serial - 1]

    def is_of(self, user: str, serial: int, data: bytes) -> bool:
        """Whether these are the bytes of that event."""
        return 1 <= serial <= self.count(user) and self._streams[user].events[serial - 1].digest == self._digest(data)

    def may_come_again(self, user: str, serial: int) -> bool:
        """Whether the event was in a request when Redis lost the event's id."""
        event, sent = self._streams[user].events[serial - 1], self.sent_at(user, serial)
        tried = float("inf") if event.waiting else event.tried + LATE
        return any(sent <= loss.end + DETECTION and tried >= loss.start for loss in self.losses)

    def placed(self, user: str, position: Position, serial: int) -> int:
        """The event that was first seen at this position."""
        return self._places.setdefault((user, position), serial)

    def describe(self, user: str, around: int) -> list[str]:
        """Describe the events around one, for a report."""
        lines = []
        for serial in range(max(1, around - 4), min(self.count(user), around + 4) + 1):
            event = self._streams[user].events[serial - 1]
            acked = "no SUCCESS yet" if event.acked is None else f"SUCCESS {event.acked:.3f}"
            first = self.sent_at(user, serial)
            lines.append(f"event {serial}: first sent {first:.3f}, {acked}, last tried {event.tried:.3f}")
        return lines

    def _digest(self, data: bytes) -> bytes:
        value = data if self._verbatim else msgspec.json.encode(msgspec.json.decode(data), order="sorted")
        return hashlib.blake2b(value, digest_size=8).digest()
