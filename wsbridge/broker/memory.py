"""Histories in the process, bounded by number, age and memory. A restart loses them."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

from wsbridge.broker.base import DUPLICATE, STORED, Outcome, Reservation, Sink, always
from wsbridge.broker.duplicates import RecentKeys
from wsbridge.broker.history import History, SharedData
from wsbridge.broker.receipts import MemoryReceipts
from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.recovery import Resume
from wsbridge.core.timestamps import timestamp

# Measured with tracemalloc on CPython 3.11, UUIDs as ids, and rounded up for longer ones.
ENTRY_BYTES = 400  # of an entry without its data and span: 312 to 335
HISTORY_BYTES = 400  # of a user's empty history: 305
REMEMBERED_BYTES = 160  # of a remembered event id: 141, in a set that has just grown
AT_ONCE = 1_000  # expired entries that one call frees; the rest is left to the next calls


@dataclass(eq=False)
class MemoryBroker:
    """`clock` is in seconds and monotonic.

    `max_bytes` bounds histories and remembered ids together, and the ids take half of it at most. Over it, the entries
    of the users that have had no event for longest are dropped first. `max_bytes_per_user` bounds the weight
    (`weight_of`) of each history. Over it, the oldest entries are dropped, but never the newest.
    """

    sink: Sink
    _: KW_ONLY
    size: int
    ttl: float
    max_bytes: int
    max_bytes_per_user: int
    dedupe_ttl: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.receipts = MemoryReceipts(self.dedupe_ttl)
        self._seen = RecentKeys(self.dedupe_ttl, self.max_bytes // 2 // REMEMBERED_BYTES)
        self._data = SharedData()
        self._filled: OrderedDict[str, History] = OrderedDict()  # with entries, least recent append first
        self._empty: OrderedDict[str, History] = OrderedDict()  # with a position only, least recent use first
        self._bytes = 0  # of histories

    @property
    def bytes(self) -> int:
        """Approximate memory for histories and remembered ids."""
        return self._bytes + REMEMBERED_BYTES * len(self._seen)

    @property
    def users(self) -> int:
        return len(self._filled) + len(self._empty)

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool] = always) -> list[Outcome]:
        now, stamp = self.clock(), timestamp()
        self.expire(now)
        reservation = Reservation(self.sink)
        outcomes: list[Outcome] = []
        published: list[Entry] = []
        try:
            for event in events:
                outcomes.append(self._take(event, reservation, now, stamp, published))  # noqa: PERF401 - it may raise
        finally:  # stored events must be published even if a later one raises
            if published:
                self.sink.put(published)
                self._shrink()
        return outcomes

    async def follow(self, user: str) -> None:
        """Nothing to do: every append reaches the sink."""

    async def disconnect(self, user: str) -> None:
        self.sink.disconnect(user)

    async def position(self, user: str) -> Position | None:
        history = self._filled.get(user) or self._empty.get(user)
        return history.top if history else None

    async def find(self, user: str, event_id: str) -> Position | None:
        history = self._filled.get(user)
        return history.find(event_id, self.clock() - self.ttl) if history else None

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        now = self.clock()
        self.expire(now)
        history = self._filled.get(user)
        if history is None:
            history = self._empty[user] = self._without_entries(user)
        answer = history.since(after, now - self.ttl)
        self._shrink()
        return answer

    def expire(self, now: float) -> None:
        """Drop some expired entries and ids. Takes no time if none has expired. Positions stay until room is short."""
        self._seen.age(now)
        for _ in range(AT_ONCE):
            history = next(iter(self._filled.values()), None)
            if history is None or history.newest.received_at > now - self.ttl:
                return
            self._drop_oldest(next(iter(self._filled)), history)

    def _take(self, event: Event, reservation: Reservation, now: float, stamp: str, published: list[Entry]) -> Outcome:
        users: Sequence[str] = event.users
        if event.key:
            users = [user for user in users if not self._seen.has((user, event.key))]
            if not users:
                return DUPLICATE
        refusal = reservation.reserve(event, users)
        if refusal is None:
            self._store(event, users, now, stamp, published)
        return refusal or STORED

    def _store(self, event: Event, users: Sequence[str], now: float, stamp: str, published: list[Entry]) -> None:
        shared = len(users) > 1
        for user in users:
            if event.key:
                self._seen.add((user, event.key))
            history = self._filled.get(user)
            if history is None:
                history = self._filled[user] = self._without_entries(user)
            else:
                self._filled.move_to_end(user)
            entry = history.append(user, event, stamp, now)
            published.append(entry)
            held = self._data.hold(event.data) if shared else len(event.data)
            self._bytes += ENTRY_BYTES + len(event.span) + held
            if (
                history.kept > self.size
                or history.weight > self.max_bytes_per_user
                or history.oldest.received_at <= now - self.ttl
            ):
                self._trim(user, history, now)

    def _without_entries(self, user: str) -> History:
        """Take the history of a user without entries, or create one."""
        history = self._empty.pop(user, None)
        if history is None:
            history = History()
            self._bytes += HISTORY_BYTES + len(user)
        return history

    def _trim(self, user: str, history: History, now: float) -> None:
        """Drop one entry over the bound, and two expired ones for each append, so that their number falls.

        One large entry may push out many small ones, each of which was appended once.
        """
        if history.kept > self.size:
            history.trimmed = self._drop_oldest(user, history)
        while history.weight > self.max_bytes_per_user and history.kept > 1:
            history.trimmed = self._drop_oldest(user, history)
        for _ in range(2):
            if not history.kept or history.oldest.received_at > now - self.ttl:
                break
            self._drop_oldest(user, history)

    def _drop_oldest(self, user: str, history: History) -> int:
        """Drop the oldest entry of a non-empty history. Returns its offset."""
        entry = history.drop_oldest()
        self._bytes -= ENTRY_BYTES + len(entry.span) + self._data.release(entry.data)
        if not history.kept:
            self._empty[user] = self._filled.pop(user)
        return entry.offset

    def _shrink(self) -> None:
        """Shrink to the bound: first drop entries of the least recently active users, then their positions."""
        if self.bytes <= self.max_bytes:
            return
        while self.bytes > self.max_bytes and self._filled:
            user, history = next(iter(self._filled.items()))
            history.trimmed = self._drop_oldest(user, history)
        while self.bytes > self.max_bytes and self._empty:
            user, _ = self._empty.popitem(last=False)
            self._bytes -= HISTORY_BYTES + len(user)
