"""The seam at which an event gets its position and is published, in one step.

Knows nothing of connections: what is published goes to a sink, and who was away asks with `resume`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from wsbridge.event import Entry, Event
from wsbridge.history import Resume


class Outcome(StrEnum):
    """What became of an event."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    RETRIED = "retried"


class Away(Exception):  # noqa: N818 - it passes
    """The histories cannot be asked now; the text says why."""


class Sink(Protocol):
    """Where published entries go: a bounded bus, and behind it those who are connected here."""

    def room(self) -> int:
        """How many more entries fit."""
        ...

    def is_empty(self) -> bool: ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Never waits and never refuses: who puts has asked for room before."""
        ...

    def wants(self, user: str) -> bool:
        """Whether anybody here is connected as that user."""
        ...

    def disconnect(self, user: str) -> None:
        """An operator ends all of the user's sessions."""
        ...


class Gate:
    """Room is taken before anything is appended: what does not fit is not taken at all, and order is kept."""

    def __init__(self, sink: Sink, waiting: int = 0) -> None:
        self._room = sink.room() - waiting
        self._empty = sink.is_empty() and not waiting
        self._blocked: set[str] = set()
        self.taken = 0  # entries

    def refuses(self, event: Event) -> bool:
        """Whether the event is to be RETRIED: for want of room, or behind another one of the same users that was."""
        size = len(event.users)
        # An event for more users than the whole queue holds may enter an empty one: else it never could.
        full = self.taken + size > self._room and (self.taken or not self._empty)
        if full or not self._blocked.isdisjoint(event.users):
            self._blocked.update(event.users)
            return True
        self.taken += size
        return False


class Broker(Protocol):
    """Append and publish are one step: they must be ordered together."""

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Store each event in each of its users' histories; one outcome an event, in order.

        Behind a RETRIED event every later one of the same users is RETRIED too.
        """
        ...

    async def follow(self, user: str) -> None:
        """From its return on, all that is appended for the user reaches the sink; waits for as long as that takes."""
        ...

    async def resume(self, user: str, after: str | None) -> Resume:
        """What a client that has handled everything up to `after` has to be sent; None or "" if it asks for nothing.

        Raises:
            Away: the histories cannot be asked now.

        """
        ...

    async def disconnect(self, user: str) -> None:
        """End all of the user's sessions, wherever they are.

        Raises:
            Away: those of other replicas cannot be told now.

        """
        ...
