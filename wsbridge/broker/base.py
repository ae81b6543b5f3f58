"""The interface of brokers: an event gets its position and is published, in one step.

Brokers do not depend on connections: they publish entries to a sink, and clients that were disconnected use `resume`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.recovery import Resume


class Status(StrEnum):
    """The outcome of an event, in one word."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    RETRIED = "retried"


class Outcome(NamedTuple):
    """The outcome of an event. Only RETRIED has a reason, and it may have a text for people."""

    status: Status
    reason: Retry | None = None
    detail: str = ""


STORED, DUPLICATE = Outcome(Status.STORED), Outcome(Status.DUPLICATE)


def retried(reason: Retry, detail: str = "") -> Outcome:
    return Outcome(Status.RETRIED, reason, detail)


class BrokerUnavailable(Exception):  # noqa: N818 - a temporary state
    """The histories cannot be read or written now; the text gives the reason."""


Answerer = Callable[[bytes], Awaitable[bytes]]  # from the question of a replica to the answer of this one


class Poll(NamedTuple):
    """Answers of replicas, and how many were asked. The replica that asks is one of them."""

    answers: Sequence[bytes]
    asked: int


class Sink(Protocol):
    """The destination of published entries: a bounded bus, and behind it the sessions of this replica."""

    def room(self) -> int:
        """How many more entries fit."""

    def room_bytes(self) -> int:
        """How many more bytes of data fit; data that several entries share count once."""

    def is_empty(self) -> bool: ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Never blocks and never fails. Callers must have checked `room` and `room_bytes` first."""

    def is_connected(self, user: str) -> bool:
        """Whether the user has a session on this replica."""

    def disconnect(self, user: str) -> None:
        """End all of the user's sessions, for an operator."""


class Reservation:
    """Reserves room in the queue for the events of one delivery, before anything is appended.

    An event that does not fit is not stored at all, and neither are later events of the same users. `waiting` and
    `waiting_bytes` are reserved by other deliveries and not put yet.
    """

    def __init__(self, sink: Sink, waiting: int = 0, waiting_bytes: int = 0) -> None:
        self._room = sink.room() - waiting
        self._room_bytes = sink.room_bytes() - waiting_bytes
        self._empty = sink.is_empty() and not waiting
        self._blocked: set[str] = set()
        self.taken = 0  # entries
        self.taken_bytes = 0

    def reserve(self, event: Event, users: Sequence[str] | None = None) -> Outcome | None:
        """Reserve room for the event. Returns an outcome if there is none.

        `users` are those of its users who do not have the event yet. The others need no room.
        """
        users = event.users if users is None else users
        entries, size = len(users), len(event.data)
        reason = self._reason(entries, size, users)
        if reason is not None:
            self._blocked.update(users)
            return retried(reason)
        self.taken += entries
        self.taken_bytes += size
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
        """Refuse later events of these users, because an earlier one will be delivered again."""
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
    """Append and publish are one step, so that entries are published in the order of their offsets."""

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool] = always) -> list[Outcome]:
        """Store each event in each of its users' histories. Returns one outcome for each event, in order.

        After a RETRIED event, later ones of the same users are RETRIED too, unless they are duplicates. A broker that
        stores in several steps calls `is_wanted` after each step that stored something, and retries the rest if it is
        false.
        """

    async def follow(self, user: str) -> None:
        """Return once all later appends for the user will reach the sink."""

    async def position(self, user: str) -> Position | None:
        """The position of the user's history, or None if there is none. Creates and renews no history.

        Raises `BrokerUnavailable` if the histories cannot be read now.
        """

    async def find(self, user: str, event_id: str) -> Position | None:
        """The position of the newest event with this id in the user's history, or None. Creates and renews no history.

        Raises `BrokerUnavailable` if the histories cannot be read now.
        """
        ...

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        """The entries for a client that has handled everything up to `after`; None or "" requests no replay.

        A long history is read in portions: `rest` is the number of entries that remain. Without `wait` the first
        portion may be empty, if large data must be fetched first. Raises `BrokerUnavailable` if the histories cannot be
        read now.
        """

    async def disconnect(self, user: str) -> None:
        """End the user's sessions on all replicas. Raises `BrokerUnavailable` if others cannot be reached now."""
