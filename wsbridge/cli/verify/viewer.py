"""Checks the promise for one client: compares the publisher's log with the events that it got. Does no I/O.

A user's events have serial numbers from 1, in the order of their partition. Times are seconds of one clock.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum

from wsbridge.cli.verify.ledger import DETECTION, LATE, Ledger, Position

_REMEMBERED = 12  # observations of a client that a report shows


class Flaw(StrEnum):
    """How a promise is broken."""

    LOST = "lost"
    TWICE = "twice"
    OUT_OF_ORDER = "out of order"
    SKIPPED = "position skipped"
    GAP = "gap without a cause"
    ALTERED = "altered"
    WRONG_USER = "event of another user"
    PROTOCOL = "against the protocol"


class Broken(Exception):  # noqa: N818 - a promise, not an error
    """A promise was broken; the text describes how."""

    def __init__(self, text: str, flaw: Flaw = Flaw.PROTOCOL) -> None:
        super().__init__(text)
        self.flaw = flaw


def stop(broken: Broken) -> None:
    """Raise at the first broken promise."""
    raise broken


class Viewer:
    """One client with all its connections. It has handled everything up to `serial`, or was told of a gap.

    `report` is called with each broken promise. If it returns, the check continues with what the client got.
    """

    def __init__(self, ledger: Ledger, user: str, name: str, report: Callable[[Broken], None] = stop) -> None:
        self.user = user
        self.name = name
        self.position: Position | None = None  # of the last handled event, from which it resumes
        self.tally: Counter[str] = Counter()
        self.ledger = ledger
        self.serial = 0
        self.missed = set[int]()  # events that later ones have overtaken
        self._report = report
        self._excused: float | None = None  # after a gap: events from before this may be missing
        self._obtained = 0.0  # when the client got its position
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)

    def attached(self, last: Position, started: float, now: float) -> None:
        """Note the first connection. From then on all events must arrive, and none that had got SUCCESS before."""
        self.move(last, now)
        self.serial = self.ledger.acked_by(self.user, started)
        self._excused = now

    def handle(self, position: Position, serial: int, now: float) -> None:
        """Check the next event: exactly once and in order, or after a gap."""
        self.move(position, now)
        self.tally["delivered"] += 1
        if serial <= self.serial:
            if self._excused is None or not self.ledger.may_come_again(self.user, serial):
                flaw = Flaw.OUT_OF_ORDER if serial in self.missed else Flaw.TWICE
                self.missed.discard(serial)
                self.broken(f"event {serial} came after {self.serial}: twice, or out of order", serial, flaw)
                return
        elif serial > self.serial + 1:
            first = self._first_required()
            if first < serial:
                self.missed.update(range(first, serial))
                how = f"event {serial} came after {self.serial} without a gap"
                if self._excused is not None:
                    how = f"event {first} was first sent after the gap"
                self.broken(f"missed: {how}", serial, Flaw.LOST)
        self.serial = serial
        self._excused = None

    def skip(self, last: Position, reason: str, after: int, started: float, now: float) -> None:
        """Note a gap after that event, on a connection that began at `started`."""
        if not self._is_allowed(reason, last, after, now):
            self.broken(f"a gap ({reason}) though nothing was lost", after + 1, Flaw.GAP)
        again = reason == "reset" and any(loss.end < self._obtained for loss in self.ledger.losses[-1:])
        self.tally[f"gap: {reason}{' again, of a position given after the loss' if again else ''}"] += 1
        self.move(last, now)
        self.serial = max(self.serial, self.ledger.acked_by(self.user, max(started, now - LATE)))
        self._excused = now

    def lacking(self) -> range:
        """The events after the last one that should have arrived. Those in `missed` are not among them."""
        return range(self._first_required(), self.ledger.required(self.user) + 1)

    def lacks(self) -> str | None:
        """The event or gap that the client still lacks, in words; None if there is none."""
        if self.position is None:
            return "it did not connect"
        return next((f"event {serial} did not arrive" for serial in self.lacking()), None)

    def note(self, now: float, text: str) -> None:
        self._seen.append(f"{now:.3f} {text}")

    def broken(self, what: str, around: int | None = None, flaw: Flaw = Flaw.PROTOCOL) -> None:
        """Report a broken promise."""
        lines = [f"{self.name} of {self.user}: {what}", *self._seen]
        lines += self.ledger.describe(self.user, self.serial + 1 if around is None else around)
        lines += [f"{at:.3f} {fault}" for at, fault in self.ledger.faults[-6:]]
        self._report(Broken("\n  ".join(lines), flaw))

    def move(self, position: Position, now: float) -> None:
        self.position = position
        self._obtained = now

    def _first_required(self) -> int:
        """The first event after the last one that must arrive: a gap excuses what was sent before it."""
        if self._excused is None:
            return self.serial + 1
        return max(self.serial, self.ledger.sent_by(self.user, self._excused)) + 1

    def _is_allowed(self, reason: str, last: Position, after: int, now: float) -> bool:
        """Whether the events before a gap up to `last` may be lost: too old, too many, or lost by a server."""
        missed = self.ledger.sent_by(self.user, now) - after
        match reason:
            case "expired":
                return missed > 0 and now - self.ledger.sent_at(self.user, after + 1) >= self.ledger.ttl
            case "trimmed":
                since = self.position.offset if self.position and self.position.epoch == last.epoch else last.offset
                return max(missed, last.offset - since) > self.ledger.size  # others may publish for this user too
            case "reset":
                losses = self.ledger.losses
                return any(loss.start <= now and self._obtained <= loss.end + DETECTION for loss in losses)
        return False


def unsettled(viewers: list[Viewer]) -> tuple[Viewer, str] | None:
    """A client that still waits for an event. At the end all clients of a user are at the same position."""
    tops: dict[str, Position | None] = {}
    for viewer in viewers:
        if lacking := viewer.lacks():
            return viewer, lacking
        top = tops.setdefault(viewer.user, viewer.position)
        if top != viewer.position:
            return viewer, f"it is at {viewer.position}, another one of the same user at {top}"
    return None
