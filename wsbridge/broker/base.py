"""The seam at which an event gets its position and is published, in one step.

Knows nothing of connections: what is published goes to a sink, and who was away asks with `resume`.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.recovery import Resume


class Status(StrEnum):
    """What became of an event, in one word."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    RETRIED = "retried"


class Outcome(NamedTuple):
    """What became of an event. Only RETRIED has a reason, and perhaps a text for people."""

    status: Status
    reason: Retry | None = None
    detail: str = ""


STORED, DUPLICATE = Outcome(Status.STORED), Outcome(Status.DUPLICATE)


def retried(reason: Retry, detail: str = "") -> Outcome:
    return Outcome(Status.RETRIED, reason, detail)


class BrokerUnavailable(Exception):  # noqa: N818 - it passes
    """The histories cannot be asked now; the text says why."""


class Sink(Protocol):
    """Where published entries go: a bounded bus, and behind it those who are connected here."""

    def room(self) -> int:
        """How many more entries fit."""
        ...

    def room_bytes(self) -> int:
        """How many more bytes of data fit; data that several entries share count once."""
        ...

    def is_empty(self) -> bool: ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Never waits and never refuses: who puts has asked for room before."""
        ...

    def is_connected(self, user: str) -> bool:
        """Whether anybody here is connected as that user."""
        ...

    def disconnect(self, user: str) -> None:
        """An operator ends all of the user's sessions."""
        ...


class Reservation:
    """Reserves room in the queue for the events of one delivery, before anything is appended.

    An event that does not fit is not taken at all, and neither are later ones of the same users. `waiting` and
    `waiting_bytes` are what other deliveries have reserved and not put yet.
    """

    def __init__(self, sink: Sink, waiting: int = 0, waiting_bytes: int = 0) -> None:
        self._room = sink.room() - waiting
        self._room_bytes = sink.room_bytes() - waiting_bytes
        self._empty = sink.is_empty() and not waiting
        self._blocked: set[str] = set()
        self.taken = 0  # entries
        self.taken_bytes = 0

    def reserve(self, event: Event, users: Sequence[str] | None = None) -> Outcome | None:
        """Reserve room for the event; the outcome if there is none.

        `users` are those of its users who do not have the event yet: the others need no room.
        """
        users = event.users if users is None else users
        reason = self._reason(len(users), len(event.data), users)
        if reason is not None:
            self._blocked.update(users)
            return retried(reason)
        self.take(len(users), len(event.data))
        return None

    def fits(self, event: Event) -> bool:
        """Whether `reserve` would reserve room."""
        return self._reason(len(event.users), len(event.data), event.users) is None

    def take(self, entries: int, size: int) -> None:
        """Reserve room without a check. Callers must have checked `fits` first."""
        self.taken += entries
        self.taken_bytes += size

    def release(self, entries: int, size: int) -> None:
        """Release reserved room, because duplicates need none."""
        self.taken -= entries
        self.taken_bytes -= size

    def block(self, users: Iterable[str]) -> None:
        """Refuse later events of these users: an earlier one comes again."""
        self._blocked.update(users)

    def _reason(self, entries: int, size: int, users: Sequence[str]) -> Retry | None:
        if not self._blocked.isdisjoint(users):
            return Retry.FOLLOWS_RETRY
        # An event that is larger than the whole queue may enter an empty one. Otherwise it never could.
        if self._empty and not self.taken:
            return None
        if self.taken + entries > self._room:
            return Retry.QUEUE_FULL
        return Retry.QUEUE_BYTES if self.taken_bytes + size > self._room_bytes else None


def always() -> bool:
    return True


class Broker(Protocol):
    """Append and publish are one step: they must be ordered together."""

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool] = always) -> list[Outcome]:
        """Store each event in each of its users' histories; one outcome an event, in order.

        Behind a RETRIED event every later one of the same users is RETRIED too, unless they have it already. A broker
        that stores in several steps asks `is_wanted` after each that stored something, and stops with RETRIED if not.
        """
        ...

    async def follow(self, user: str) -> None:
        """Return once everything that is appended for the user from now on reaches the sink."""
        ...

    async def position(self, user: str) -> Position | None:
        """The position of the user's history, or None if there is none. Creates and renews no history.

        Raises `BrokerUnavailable` if the histories cannot be read now.
        """
        ...

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        """What to send to a client that has handled everything up to `after`; None or "" if it wants no replay.

        A long history is read in portions: `rest` says that there is more. Without `wait` the first portion may be
        empty, if large data has to be fetched first. Raises `BrokerUnavailable` if the histories cannot be asked now.
        """
        ...

    async def disconnect(self, user: str) -> None:
        """End all of the user's sessions, wherever they are.

        Raises `BrokerUnavailable` if other replicas cannot be reached now.
        """
        ...
