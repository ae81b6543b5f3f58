"""Checks the promise: compares the publisher's log with the messages that each client got. Does no I/O.

A user's events have serial numbers from 1, in the order of their partition. Times are seconds of one clock.
"""

from collections import Counter, deque

from tests.support.ledger import DETECTION, LATE, Ledger, Position

_REMEMBERED = 12  # observations of a client that a report shows


class Broken(Exception):  # noqa: N818 - a promise, not an error
    """A promise was broken; the text describes how."""


class Viewer:
    """One client with all its connections. It has handled everything up to `serial`, or was told of a gap."""

    def __init__(self, ledger: Ledger, user: str, name: str) -> None:
        self.user = user
        self.name = name
        self.position: Position | None = None  # of the last handled event, from which it resumes
        self.tally: Counter[str] = Counter()
        self.ledger = ledger
        self.serial = 0
        self._excused: float | None = None  # after a gap: events from before this may be missing
        self._obtained = 0.0  # when the client got its position
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)

    def visit(self, now: float) -> "Visit":
        """Note that a connection begins; it resumes if the client has a position."""
        return Visit(self, self.position, self.serial, now)

    def attached(self, last: Position, started: float, now: float) -> None:
        """Note the first connection. From then on all events must arrive, and none that had got SUCCESS before."""
        self._move(last, now)
        self.serial = self.ledger.acked_by(self.user, started)
        self._excused = now

    def handle(self, position: Position, serial: int, now: float) -> None:
        """Check the next event: exactly once and in order, or after a gap."""
        self._move(position, now)
        if serial <= self.serial:
            if self._excused is None or not self.ledger.may_come_again(self.user, serial):
                raise self.broken(f"event {serial} came after {self.serial}: twice, or out of order", serial)
        elif serial > self.serial + 1:
            if self._excused is None:
                raise self.broken(f"missed: event {serial} came after {self.serial} without a gap", serial)
            if self.ledger.sent_at(self.user, serial - 1) >= self._excused:
                raise self.broken(f"missed: event {serial - 1} was first sent after the gap", serial)
        self.serial = serial
        self._excused = None
        self.tally["delivered"] += 1

    def skip(self, last: Position, reason: str, after: int, started: float, now: float) -> None:
        """Note a gap after that event, on a connection that began at `started`."""
        if not self._is_allowed(reason, after, now):
            raise self.broken(f"a gap ({reason}) though nothing was lost", after + 1)
        again = reason == "reset" and any(loss.end < self._obtained for loss in self.ledger.losses[-1:])
        self.tally[f"gap: {reason}{' again, of a position given after the loss' if again else ''}"] += 1
        self._move(last, now)
        self.serial = max(self.serial, self.ledger.acked_by(self.user, max(started, now - LATE)))
        self._excused = now

    def lacks(self) -> str | None:
        """The event or gap that the client still lacks, in words; None if there is none."""
        if self.position is None:
            return "it did not connect"
        required = self.ledger.required(self.user)
        if self.serial >= required:
            return None
        if self._excused is None:
            return f"event {self.serial + 1} did not arrive"
        return f"event {required} did not arrive" if self.ledger.sent_at(self.user, required) >= self._excused else None

    def note(self, now: float, text: str) -> None:
        self._seen.append(f"{now:.3f} {text}")

    def broken(self, what: str, around: int | None = None) -> Broken:
        """Make the report of a broken promise."""
        lines = [f"{self.name} of {self.user}: {what}", *self._seen]
        lines += self.ledger.describe(self.user, self.serial + 1 if around is None else around)
        lines += [f"{at:.3f} {fault}" for at, fault in self.ledger.faults[-6:]]
        return Broken("\n  ".join(lines))

    def _move(self, position: Position, now: float) -> None:
        self.position = position
        self._obtained = now

    def _is_allowed(self, reason: str, after: int, now: float) -> bool:
        """Whether the events before a gap may be lost: too old, too many, or lost by a server."""
        missed = self.ledger.sent_by(self.user, now) - after
        match reason:
            case "expired":
                return missed > 0 and now - self.ledger.sent_at(self.user, after + 1) >= self.ledger.ttl
            case "trimmed":
                return missed > self.ledger.size
            case "reset":
                losses = self.ledger.losses
                return any(loss.start <= now and self._obtained <= loss.end + DETECTION for loss in losses)
        return False


class Visit:
    """One connection of a client: the messages must fit the position that it asked for."""

    def __init__(self, viewer: Viewer, asked: Position | None, serial: int, started: float) -> None:
        self.asked = asked
        self._serial = serial  # of the last event on this connection, or of the position before it
        self._viewer = viewer
        self._started = started
        self._position: Position | None = None
        self._promised: Position | None = None  # from `connected`, for the gap that must follow
        self._behind: Position | None = None  # an older connection continued up to here: events up to it arrive twice

    def connected(self, last: Position, *, recovered: bool | None, now: float) -> None:
        viewer, asked = self._viewer, self.asked
        viewer.note(now, f"connected at {last}, asked for {asked}, recovered: {recovered}")
        if self._position is not None:
            raise viewer.broken("a second `connected` on one connection")
        if recovered is not (None if asked is None else bool(recovered)):
            raise viewer.broken(f"asked for {asked}, and `recovered` is {recovered}")
        if recovered and last != asked:
            raise viewer.broken(f"recovered, and {last} is not what was asked for")
        self._position = asked or last
        if asked is None:
            viewer.attached(last, self._started, now)
            self._serial = viewer.serial
        elif not recovered:
            self._promised = last
        if asked not in (None, viewer.position):
            self._behind = viewer.position

    def event(self, position: Position, user: str, serial: int, data: bytes, now: float) -> None:
        viewer = self._viewer
        viewer.note(now, f"event {serial} at {position}")
        if user != viewer.user:
            raise viewer.broken(f"an event of {user}")
        if not viewer.ledger.is_of(user, serial, data):
            raise viewer.broken(f"event {serial} is not as it was published", serial)
        if self._promised is not None or self._position is None:
            raise viewer.broken("an event where a gap or `connected` was to come", serial)
        if position != self._position.next:
            raise viewer.broken(f"position {position} came after {self._position}", serial)
        first = viewer.ledger.placed(user, position, serial)
        if first != serial:
            raise viewer.broken(f"position {position} is event {serial} here, and was {first} elsewhere", serial)
        self._position, self._serial = position, serial
        if self._behind is not None and self._behind.holds(position):
            viewer.tally["twice in a change-over"] += 1
        else:
            self._behind = None
            viewer.handle(position, serial, now)

    def gap(self, after: Position | None, last: Position, reason: str, now: float) -> None:
        viewer = self._viewer
        viewer.note(now, f"gap from {after} to {last}: {reason}")
        if self._position is None or after != self._position:
            raise viewer.broken(f"a gap after {after} where {self._position} was the last position")
        if self._promised not in (None, last):
            raise viewer.broken(f"a gap to {last} where {self._promised} was promised")
        if self._position.holds(last) and reason != "reset":
            raise viewer.broken(f"a gap that goes back, from {self._position} to {last}")
        self._position, self._promised = last, None
        ahead = self._behind if self._behind is not None and self._behind.holds(last) else last
        viewer.skip(ahead, reason, self._serial, self._started, now)
        self._serial = viewer.serial


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
