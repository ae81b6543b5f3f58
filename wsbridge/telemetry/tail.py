"""Samples of the events that arrive, for consoles that are open. While none is open, nothing is computed."""

import random
from collections.abc import Sequence

import msgspec

from wsbridge.core.events import Event, Rejected
from wsbridge.telemetry.stations.records import Outcome

LONGEST = 500  # characters of a text in a line; the rest is left out
SHOWN = 3  # users in a line; the others are counted


class Line(msgspec.Struct, gc=False):
    """One event, without its data. `size` is in bytes; `age` is the time since its Kafka timestamp, in seconds."""

    at: float
    id: str
    topic: str
    kind: str  # the message type
    users: list[str]
    user_count: int
    place: str  # topic/partition/offset, as far as it is known
    outcome: str
    reason: str
    detail: str
    size: int | None = None
    age: float | None = None


class Sample:
    """The lines since the last `take`: at most `size`, drawn at random from all that match; the others are counted.

    An empty `user`, `kind` or `outcome` matches every event.
    """

    def __init__(self, size: int, *, user: str = "", kind: str = "", outcome: str = "") -> None:
        self.size = size
        self._user, self._kind, self._outcome = user, kind, outcome
        self._lines: list[Line] = []
        self._matched = 0

    def take(self) -> tuple[list[Line], int]:
        """Return the lines by time, and how many were left out. Begin again."""
        lines, left_out = self._lines, self._matched - len(self._lines)
        self._lines, self._matched = [], 0
        return sorted(lines, key=lambda line: line.at), left_out

    def matches(self, users: Sequence[str], kind: str, outcome: str) -> bool:
        return (
            (not self._user or self._user in users)
            and (not self._kind or self._kind == kind)
            and (not self._outcome or self._outcome == outcome)
        )

    def draw(self) -> int | None:
        """Count an event that matches. Return the place of its line, or None if it is left out (algorithm R)."""
        self._matched += 1
        if len(self._lines) < self.size:
            return len(self._lines)
        place = random.randrange(self._matched)  # noqa: S311 - no secret
        return place if place < self.size else None

    def put(self, place: int, line: Line) -> None:
        self._lines[place : place + 1] = [line]


class Tail:
    """The samples of all open consoles. Their number is bounded by the caller."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    @property
    def is_on(self) -> bool:
        return bool(self._samples)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)

    def discard(self, sample: Sample) -> None:
        if sample in self._samples:
            self._samples.remove(sample)

    def received(self, at: float, topic: str, events: Sequence[Event], outcomes: Sequence[Outcome]) -> None:
        """Offer the events of a delivery, with the outcome of each."""
        for sample in self._samples:
            for event, outcome in zip(events, outcomes, strict=True):
                if sample.matches(event.users, event.type, outcome[0]):
                    place = sample.draw()
                    if place is not None:
                        sample.put(place, _line(at, topic, event, outcome))

    def dropped(self, at: float, topic: str, kind: str, event: Rejected) -> None:
        """Offer an event that can never be accepted. Its users are not known."""
        for sample in self._samples:
            if sample.matches((), kind, "dropped"):
                place = sample.draw()
                if place is not None:
                    line = Line(
                        at, _text(event.event_id), topic, kind, [], 0, topic, "dropped", event.reason, _text(event.text)
                    )  # fmt: skip
                    sample.put(place, line)


def _line(at: float, topic: str, event: Event, outcome: Outcome) -> Line:
    status, reason, detail = outcome
    return Line(
        at, _text(event.id), topic, event.type, [_text(user) for user in event.users[:SHOWN]], len(event.users),
        "/".join(_text(part) for part in (topic, event.partition, event.offset) if part != ""),
        status, reason or "", _text(detail), len(event.data), None if event.produced is None else at - event.produced,
    )  # fmt: skip


def _text(value: object) -> str:
    """A bounded text that can be encoded, whatever a header of the message contains."""
    return str(value)[:LONGEST].encode(errors="replace").decode()
