"""The seam at which an event gets its position and is published, in one step; and the broker in this process.

Knows nothing of connections: what it published goes to a sink, and who was away asks with `resume`.
"""

import secrets
import string
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from wsbridge.event import Entry, Event, Position
from wsbridge.protocol import timestamp

EPOCH_LENGTH = 8
ENTRY_BYTES = 400  # what an entry costs beside its data: measured on CPython 3.11, objects and places in containers
HISTORY_BYTES = 1_000  # what a user's history costs when it is empty
REMEMBERED_BYTES = 512  # of HISTORY_MAX_BYTES, for each event id that may be remembered
_ALPHABET = string.ascii_lowercase + string.digits


class Outcome(StrEnum):
    """What became of an event."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    RETRIED = "retried"


class Gap(NamedTuple):
    """Events are gone for good: expired, trimmed, or the history is another one (reset)."""

    after: Position | None
    reason: str


class Resume(NamedTuple):
    """The answer to a position. `entries` are all that came after it, or there is a `gap`; never both.

    `position` is the one before the first of the entries; `recovered` is None where nobody asked.
    """

    position: Position
    entries: tuple[Entry, ...] = ()
    recovered: bool | None = None
    gap: Gap | None = None


class Sink(Protocol):
    """Where published entries go: a bounded bus."""

    def room(self) -> int:
        """How many more entries fit."""
        ...

    def is_empty(self) -> bool: ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Never waits and never refuses: who puts has asked for room before."""
        ...


class Broker(Protocol):
    """Append and publish are one step: they must be ordered together."""

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Store each event in each of its users' histories; one outcome an event, in order.

        Behind a RETRIED event every later one of the same users is RETRIED too.
        """
        ...

    async def resume(self, user: str, after: str | None) -> Resume:
        """What a client that has handled everything up to `after` has to be sent; None or "" if it asks for nothing."""
        ...


class History:
    """One user's last entries and its position, which outlives them."""

    __slots__ = ("entries", "epoch", "offset", "trimmed")

    def __init__(self) -> None:
        self.epoch = "".join(secrets.choice(_ALPHABET) for _ in range(EPOCH_LENGTH))
        self.offset = 0
        self.trimmed = 0  # the highest offset that was lost for want of room, not of time
        self.entries: deque[Entry] = deque()

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset)

    def append(self, user: str, event: Event, timestamp: str, received: float) -> Entry:
        """Give the event its position."""
        self.offset += 1
        entry = Entry(user, self.epoch, self.offset, event.type, event.data, timestamp, received, event.id)
        self.entries.append(entry)
        return entry

    def since(self, asked: str) -> Resume:
        """PROTOCOL.md section 4: everything after the position, or a gap; never a part."""
        after = Position.parse(asked)
        if after is None or after.epoch != self.epoch or after.offset > self.offset:
            return Resume(self.top, (), False, Gap(after, "reset"))  # noqa: FBT003 - the field has a name above
        if after.offset + len(self.entries) < self.offset:
            reason = "trimmed" if after.offset < self.trimmed else "expired"
            return Resume(self.top, (), False, Gap(after, reason))  # noqa: FBT003
        missed = self.offset - after.offset
        entries = tuple(self.entries)[-missed:] if missed else ()
        return Resume(after, entries, True)  # noqa: FBT003


class Recent:
    """Keys seen during the last `ttl` seconds, or up to twice that; the oldest half goes early beyond `most` keys.

    Two generations of sets instead of a time for each key: half the memory, and nothing to walk.
    """

    def __init__(self, ttl: float, most: int) -> None:
        self._ttl = ttl
        self._most = most
        self._young: set[tuple[str, str]] = set()
        self._old: set[tuple[str, str]] = set()
        self._turn = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_new(self, key: tuple[str, str]) -> bool:
        """Whether it was not seen yet; from now on it was."""
        if key in self._young or key in self._old:
            return False
        self._young.add(key)
        return True

    def age(self, now: float) -> None:
        """To be called now and then, with the time in seconds."""
        if now >= self._turn or len(self._young) > self._most // 2:
            self._old = self._young if now < self._turn + self._ttl else set()
            self._young = set()
            self._turn = now + self._ttl


class MemoryBroker:
    """Histories in this process: bounded by size, time and memory, gone with a restart.

    `clock` is in seconds and monotonic. What is over `max_bytes` goes least recently used users first.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        size: int,
        ttl: float,
        max_bytes: int,
        dedupe_ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._size = size
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._seen = Recent(dedupe_ttl, max_bytes // REMEMBERED_BYTES)
        self._clock = clock
        self._filled: OrderedDict[str, History] = OrderedDict()  # with entries, by last append, oldest first
        self._empty: OrderedDict[str, History] = OrderedDict()  # with a position only, by last use, oldest first
        self.bytes = 0

    @property
    def users(self) -> int:
        """Users that have a history, events in it or not."""
        return len(self._filled) + len(self._empty)

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        now, stamp = self._clock(), timestamp()
        self.expire(now)
        room, empty = self._sink.room(), self._sink.is_empty()
        outcomes: list[Outcome] = []
        published: list[Entry] = []
        blocked: set[str] = set()
        try:
            for event in events:
                # An event for more users than the whole queue holds may enter an empty one: else it never could.
                full = len(event.users) > room - len(published) and (published or not empty)
                if full or not blocked.isdisjoint(event.users):
                    blocked.update(event.users)
                    outcomes.append(Outcome.RETRIED)
                else:
                    outcomes.append(self._store(event, now, stamp, published))
        finally:  # whatever went wrong with one: what is in a history is published
            if published:
                self._sink.put(published)
                self._shrink()
        return outcomes

    async def resume(self, user: str, after: str | None) -> Resume:
        now = self._clock()
        self.expire(now)
        history = self._filled.get(user)
        if history is None:
            history = self._empty[user] = self._without_entries(user)
        self._drop_expired(history, now)
        answer = history.since(after) if after else Resume(history.top)
        self._shrink()
        return answer

    def expire(self, now: float) -> None:
        """Forget what is too old; costs nothing for what is not."""
        self._seen.age(now)
        while self._filled:
            user, history = next(iter(self._filled.items()))
            if history.entries and history.entries[-1].received > now - self._ttl:
                return
            self._drop_expired(history, now)
            del self._filled[user]
            self._empty[user] = history

    def _store(self, event: Event, now: float, stamp: str, published: list[Entry]) -> Outcome:
        before = len(published)
        for user in event.users:
            if event.key and not self._seen.is_new((user, event.key)):
                continue
            history = self._filled.get(user)
            if history is None:
                history = self._filled[user] = self._without_entries(user)
            else:
                self._filled.move_to_end(user)
            entry = history.append(user, event, stamp, now)
            published.append(entry)
            self.bytes += ENTRY_BYTES + len(event.data)
            if len(history.entries) > self._size:
                history.trimmed = self._drop_oldest(history)
            if history.entries and history.entries[0].received <= now - self._ttl:
                self._drop_expired(history, now)
        return Outcome.STORED if len(published) > before else Outcome.DUPLICATE

    def _without_entries(self, user: str) -> History:
        """The history of a user who has no events, which is taken out, or a new one."""
        history = self._empty.pop(user, None)
        if history is None:
            history = History()
            self.bytes += HISTORY_BYTES + len(user)
        return history

    def _drop_expired(self, history: History, now: float) -> None:
        while history.entries and history.entries[0].received <= now - self._ttl:
            self._drop_oldest(history)

    def _drop_oldest(self, history: History) -> int:
        entry = history.entries.popleft()
        self.bytes -= ENTRY_BYTES + len(entry.data)
        return entry.offset

    def _shrink(self) -> None:
        """Back under the bound: first the events of users who got none for long, then positions not used for long."""
        while self.bytes > self._max_bytes and self._filled:
            user, history = self._filled.popitem(last=False)
            self._empty[user] = history
            while history.entries:
                history.trimmed = self._drop_oldest(history)
        while self.bytes > self._max_bytes and self._empty:
            user, _ = self._empty.popitem(last=False)
            self.bytes -= HISTORY_BYTES + len(user)
