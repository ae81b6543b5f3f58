"""Checks the messages of one connection, and passes its events and gaps to the check of the client. Does no I/O."""

import msgspec

from wsbridge.cli.verify.ledger import Position
from wsbridge.cli.verify.viewer import Flaw, Viewer
from wsbridge.client import Message

_SHOWN = 300  # bytes of a message that a report shows


class Mark(msgspec.Struct):
    """The field `verify` in the data of an event."""

    run: str
    user: str
    n: int  # its serial number


class Data(msgspec.Struct):
    """The data of an event; it has a mark if this run published it."""

    verify: Mark | None = None


class Visit:
    """One connection of a client: the messages must fit the position that it asked for."""

    def __init__(self, viewer: Viewer, now: float) -> None:
        """The connection begins now; it resumes if the client has a position."""
        self.asked = viewer.position
        self.serial = viewer.serial  # of the last event on this connection, or of the position before it
        self._viewer = viewer
        self._started = now
        self._position: Position | None = None
        self._promised: Position | None = None  # from `connected`, for the gap that must follow
        self._behind: Position | None = None  # an older connection continued up to here: events up to it arrive twice

    def take(self, message: Message, now: float) -> None:
        """Check a message."""
        viewer = self._viewer
        try:
            match message:
                case Message(type="connected", last_event_id=str(last)):
                    if message.user_id != viewer.user:
                        viewer.broken(f"connected as {message.user_id}", flaw=Flaw.WRONG_USER)
                    self.connected(Position.read(last), recovered=message.recovered, now=now)
                case Message(type="gap", last_event_id=str(last), after=str(after)):
                    self.gap(Position.read(after), Position.read(last), message.reason, now)
                case Message(type="goodbye"):
                    viewer.note(now, f"goodbye: {message.code} {message.reason}")
                case Message(id=str(at)) if message.event:
                    self._take_event(Position.read(at), message.event, now)
                case _:
                    viewer.broken(f"unexpected: {bytes(message.text)[:_SHOWN]!r}")
        except ValueError:
            viewer.broken(f"malformed: {bytes(message.text)[:_SHOWN]!r}")

    def connected(self, last: Position, *, recovered: bool | None, now: float) -> None:
        viewer, asked = self._viewer, self.asked
        viewer.note(now, f"connected at {last}, asked for {asked}, recovered: {recovered}")
        if self._position is not None:
            viewer.broken("a second `connected` on one connection")
        if recovered is not (None if asked is None else bool(recovered)):
            viewer.broken(f"asked for {asked}, and `recovered` is {recovered}")
        if recovered and last != asked:
            viewer.broken(f"recovered, and {last} is not what was asked for")
        self._position = asked or last
        if asked is None:
            viewer.attached(last, self._started, now)
            self.serial = viewer.serial
        elif not recovered:
            self._promised = last
        if asked not in (None, viewer.position):
            self._behind = viewer.position

    def event(self, position: Position, user: str, serial: int, data: bytes, now: float) -> None:
        viewer = self._viewer
        viewer.note(now, f"event {serial} at {position}")
        if user != viewer.user:
            viewer.broken(f"an event of {user}", flaw=Flaw.WRONG_USER)
        elif not viewer.ledger.is_of(user, serial, data):
            viewer.broken(f"event {serial} is not as it was published", serial, Flaw.ALTERED)
        self._advance(position)
        if user != viewer.user or not 1 <= serial <= viewer.ledger.count(user):
            return
        first = viewer.ledger.placed(user, position, serial)
        if first != serial:
            viewer.broken(f"position {position} is event {serial} here, and was {first} elsewhere", serial)
        self.serial = serial
        if self._behind is not None and self._behind.holds(position):
            viewer.tally["twice in a change-over"] += 1
        else:
            self._behind = None
            viewer.handle(position, serial, now)

    def gap(self, after: Position | None, last: Position, reason: str, now: float) -> None:
        viewer = self._viewer
        viewer.note(now, f"gap from {after} to {last}: {reason}")
        if self._position is None or after != self._position:
            viewer.broken(f"a gap after {after} where {self._position} was the last position")
        if self._promised not in (None, last):
            viewer.broken(f"a gap to {last} where {self._promised} was promised")
        if self._position and self._position.holds(last) and reason != "reset":
            viewer.broken(f"a gap that goes back, from {self._position} to {last}")
        self._position, self._promised = last, None
        ahead = self._behind if self._behind is not None and self._behind.holds(last) else last
        viewer.skip(ahead, reason, self.serial, self._started, now)
        self.serial = viewer.serial

    def _take_event(self, position: Position, event: msgspec.Raw, now: float) -> None:
        try:
            mark = msgspec.json.decode(event, type=Data).verify
        except msgspec.ValidationError:
            mark = None
        if mark is not None and mark.run == self._viewer.ledger.run:
            self.event(position, mark.user, mark.n, bytes(event), now)
        else:  # another publisher's
            self._advance(position)
            self._viewer.move(position, now)

    def _advance(self, position: Position) -> None:
        """Check that the position follows the last one."""
        viewer = self._viewer
        if self._promised is not None or self._position is None:
            viewer.broken("an event where a gap or `connected` was to come")
        elif position != self._position.next:
            viewer.broken(f"position {position} came after {self._position}", flaw=Flaw.SKIPPED)
        self._position, self._promised = position, None
