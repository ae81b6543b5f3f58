"""Histories in this process: bounded by size, time and memory, gone with a restart."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from wsbridge.broker import DUPLICATE, STORED, Gate, Outcome, Sink
from wsbridge.event import Entry, Event
from wsbridge.history import History, Recent, Resume
from wsbridge.protocol import timestamp

# Measured with tracemalloc on CPython 3.11, UUIDs as ids, and rounded up for longer ones.
ENTRY_BYTES = 400  # what an entry costs beside its data: 304 to 327
HISTORY_BYTES = 400  # what a user's history costs when it is empty: 305
REMEMBERED_BYTES = 160  # what an event's id costs while it is remembered: 141, in a set that has just grown


class MemoryBroker:
    """`clock` is in seconds and monotonic. What is over `max_bytes` goes least recently used users first."""

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
        gate = Gate(self._sink)
        outcomes: list[Outcome] = []
        published: list[Entry] = []
        try:
            for event in events:
                outcomes.append(self._take(event, gate, now, stamp, published))  # noqa: PERF401 - it may raise
        finally:  # whatever went wrong with one: what is in a history is published
            if published:
                self._sink.put(published)
                self._shrink()
        return outcomes

    async def follow(self, user: str) -> None:
        """What is appended goes to the sink anyway."""

    async def disconnect(self, user: str) -> None:
        self._sink.disconnect(user)

    async def resume(self, user: str, after: str | None) -> Resume:
        now = self._clock()
        self.expire(now)
        history = self._filled.get(user)
        if history is None:
            history = self._empty[user] = self._without_entries(user)
        self._drop_expired(history, now)
        answer = history.since(after)
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

    def _take(self, event: Event, gate: Gate, now: float, stamp: str, published: list[Entry]) -> Outcome:
        users: Sequence[str] = event.users
        if event.key:
            users = [user for user in users if not self._seen.has((user, event.key))]
            if not users:
                return DUPLICATE
        refusal = gate.refusal(event, users)
        if refusal is None:
            self._store(event, users, now, stamp, published)
        return refusal or STORED

    def _store(self, event: Event, users: Sequence[str], now: float, stamp: str, published: list[Entry]) -> None:
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
            self.bytes += ENTRY_BYTES + len(event.data)
            if len(history.entries) > self._size:
                history.trimmed = self._drop_oldest(history)
            if history.entries and history.entries[0].received <= now - self._ttl:
                self._drop_expired(history, now)

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
        entry = history.entries.pop(0)
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
