"""Receipts: what became of an event that asks for one, and how far the connections of its user have got."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from wsbridge.core.events import Position

LONGEST = 86_400.0  # seconds until a receipt is due, at most


class Fate(StrEnum):
    """What a receipt says."""

    HANDLED = "handled"  # a client has reported it, or a later event
    DELIVERED = "delivered"  # it was written to a connection, and no client has reported it
    UNSEEN = "unseen"  # neither


class Awaited(msgspec.Struct, frozen=True, array_like=True):
    """A receipt of one event for one of its users, due at the time `due` in seconds since 1970.

    `id` is the same whenever the sidecar delivers the event. `position` is the event's, or a later one of the user.
    """

    id: str
    user: str
    position: Position
    event_id: str
    source: str
    topic: str
    after: float
    due: float


class Reached(NamedTuple):
    """How far the connections of a user have got in one epoch. `handled` is 0 if no client has reported anything."""

    epoch: str
    written: int
    handled: int = 0

    def joined(self, other: "Reached | None") -> "Reached":
        """Both together; this one if they are of different epochs."""
        if other is None or other.epoch != self.epoch:
            return self
        return Reached(self.epoch, max(self.written, other.written), max(self.handled, other.handled))


def fate_of(position: Position, reached: Iterable[Reached]) -> Fate:
    """Decide by positions: a connection at or after the position of an event has got it.

    An event whose offset is 0 belongs to a history that is gone: no connection is known to have got it.
    """
    if not position.offset:
        return Fate.UNSEEN
    own = [one for one in reached if one.epoch == position.epoch]
    if any(one.handled >= position.offset for one in own):
        return Fate.HANDLED
    return Fate.DELIVERED if any(one.written >= position.offset for one in own) else Fate.UNSEEN
