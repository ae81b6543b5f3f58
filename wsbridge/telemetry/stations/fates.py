"""Decides whether a connection got an event, by comparing positions: deliveries to connections are not recorded."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from wsbridge.core.events import Position
from wsbridge.telemetry.stations.account import Connection, Read

UNSURE = {  # closes after which the client may lack the last entries of its session
    "1006": "was lost",
    "4408": "was closed as a slow consumer",
}
GRACE = 60.0  # seconds by which a client may reconnect before the bridge notices the end of its old connection
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0  # seconds


class Kind(Enum):
    GOT = auto()
    LATE = auto()  # it got the event by a replay, or its client resumed on another connection
    PAST = auto()  # it began at or after the event
    NOT = auto()


class Fate(NamedTuple):
    """`text` has the connection as its subject, or is "". `at` is when the connection got the event."""

    kind: Kind
    text: str = ""
    at: float | None = None


def at_the_time(
    connections: Sequence[Connection], position: Position | None, at: float | None, now: float
) -> tuple[list[Connection], list[Connection]]:
    """The connections that were open when the event arrived, and those that began after it."""
    then, later = [], []
    for connection in connections:
        if at is None or connection.opened_at > at or (position and _begins_after(connection, position)):
            later.append(connection)
        elif (connection.closed_at or now) >= at:
            then.append(connection)
    return then, later


def _begins_after(connection: Connection, event: Position) -> bool:
    """Whether it was opened without a position, and the history that it read first had the event already."""
    first = connection.reads[0] if connection.reads else None
    return first is not None and first.is_start and not first.asked and _reaches(first.position, event)


def fate_of(connection: Connection, event: Position, later: list[Connection], at: float | None) -> Fate:
    """Decide for one connection. The event arrived at the time `at`; `later` are the connections opened after that.

    Removes the connection on which the client resumed from `later`.
    """
    replay: Fate | None = None
    for read in connection.reads:
        found = _fate_of_read(read, event, at)
        if found is not None and found.kind is not Kind.LATE:
            return found
        replay = replay or found
    has = _reaches(connection.position, event)
    code = (connection.close or "").partition(" ")[0]
    if connection.closed_at is None:
        if has:
            unsent = f"has {connection.unsent} bytes unsent" if connection.unsent else ""
            return replay or Fate(Kind.GOT, unsent)
        if not connection.is_live:
            return Fate(Kind.NOT, "is still replaying and does not have it yet")
        return Fate(Kind.NOT, "has missed it and catches up within seconds")
    if has_handled(connection, event) or (has and code not in UNSURE):
        return replay or Fate(Kind.GOT)
    return _fate_of_closed(connection, event, later, at, UNSURE.get(code, f"was closed ({connection.close})"))


def _fate_of_read(read: Read, event: Position, at: float | None) -> Fate | None:
    """The fate that follows from a read of the history, or None. A replay may have ended before it was written."""
    asked = Position.parse(read.asked) if read.asked else None
    if asked is not None and _reaches(asked, event):
        return Fate(Kind.PAST, "resumed past it") if read.is_start else Fate(Kind.GOT)
    if read.gap is not None:
        ends_before = read.position.epoch == event.epoch and read.position.offset < event.offset
        text = f"got a gap ({read.gap}) instead, and its client must refetch"
        return None if ends_before else Fate(Kind.NOT, text, read.at)
    if read.position.epoch != event.epoch:
        return None
    if read.position.offset >= event.offset:
        return Fate(Kind.PAST, "sent no position, so it gets later events only") if read.is_start else None
    if read.position.offset + read.replayed >= event.offset:
        return Fate(Kind.LATE, f"got it by a replay{_after(read.at, at)}", read.at)
    return None


def _fate_of_closed(
    connection: Connection, event: Position, later: list[Connection], at: float | None, how: str
) -> Fate:
    """The fate of a connection that was closed, perhaps before its client had the event."""
    for place, other in enumerate(later):
        asked = Position.parse(other.reads[0].asked or "") if other.reads and other.reads[0].is_start else None
        if asked is None or asked.epoch != connection.position.epoch or asked.offset > connection.position.offset:
            continue
        if other.opened_at < (connection.closed_at or 0.0) - GRACE:
            continue
        del later[place]
        found = fate_of(other, event, later, at)
        if found.kind is Kind.PAST:
            return Fate(Kind.GOT)
        if found.kind is Kind.LATE:
            return Fate(Kind.LATE, f"{how} and its client resumed{_after(other.reads[0].at, at)}", found.at)
        return Fate(found.kind, f"{how}; its client's next connection {found.text or 'got it'}", found.at)
    return Fate(Kind.NOT, f"{how} and its client has not resumed")


def has_handled(connection: Connection, event: Position) -> bool:
    """Whether the client has reported that event or a later one, or resumed after it."""
    return connection.handled is not None and _reaches(connection.handled, event)


def _reaches(position: Position, event: Position) -> bool:
    return position.epoch == event.epoch and position.offset >= event.offset


def _after(moment: float, at: float | None) -> str:
    return "" if at is None else f" {span(moment - at)} later"


def span(seconds: float) -> str:
    """A duration for people."""
    if seconds < 1.0:
        return f"{max(0.0, seconds) * 1_000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
