"""Receipts that are not published yet: the interface of their stores, and one in the process."""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

from wsbridge.broker.duplicates import RecentKeys
from wsbridge.core.receipts import Awaited, Reached

MOST = 100_000  # receipts that may wait; further ones are refused, so that they never delay an event
LEASE = 15.0  # seconds until a receipt that was taken and not published is due again, on any replica
AT_ONCE = 64  # receipts that one call takes, about


class ReceiptStore(Protocol):
    """Every method may raise `BrokerUnavailable`."""

    @property
    def pending(self) -> int:
        """Receipts that wait, as of the last call of `due`."""

    async def expect(self, receipts: Sequence[Awaited]) -> int:
        """Store receipts, each once: further calls with an `id` do nothing. Returns how many did not fit."""

    async def note(self, reached: Mapping[str, Reached]) -> None:
        """Store how far connections have got, by user. Does nothing for users without a receipt that waits."""

    async def due(self) -> Sequence[Awaited]:
        """Take receipts that are due. Each is due again after `LEASE`, unless it is `done` by then."""

    async def reached(self, users: Collection[str]) -> Mapping[str, Reached]:
        """What `note` has stored for these users."""

    async def done(self, receipts: Sequence[Awaited]) -> None:
        """Forget receipts that are published."""


@dataclass(eq=False)
class MemoryReceipts:
    """A restart loses them. `clock` is in seconds since 1970, as `due` of a receipt."""

    dedupe_ttl: float
    _: KW_ONLY
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._known = RecentKeys(self.dedupe_ttl, MOST)
        self._waiting: dict[str, Awaited] = {}  # by id
        self._times: list[tuple[float, str]] = []  # a heap: when each is due next, and its id
        self._users: Counter[str] = Counter()  # receipts that wait for each user
        self._reached: dict[str, Reached] = {}  # of users with a receipt that waits

    @property
    def pending(self) -> int:
        return len(self._waiting)

    async def expect(self, receipts: Sequence[Awaited]) -> int:
        self._known.age(self.clock())
        refused = 0
        for one in receipts:
            if self._known.has((one.user, one.id)):
                continue
            if self.pending >= MOST:
                refused += 1
                continue
            self._known.add((one.user, one.id))
            self._waiting[one.id] = one
            self._users[one.user] += 1
            heapq.heappush(self._times, (one.due, one.id))
        return refused

    async def note(self, reached: Mapping[str, Reached]) -> None:
        for user, one in reached.items():
            if user in self._users:
                self._reached[user] = one.joined(self._reached.get(user))

    async def due(self) -> Sequence[Awaited]:
        now, found = self.clock(), list[Awaited]()
        while self._times and self._times[0][0] <= now and len(found) < AT_ONCE:
            _, name = heapq.heappop(self._times)
            if name in self._waiting:
                heapq.heappush(self._times, (now + LEASE, name))
                found.append(self._waiting[name])
        return found

    async def reached(self, users: Collection[str]) -> Mapping[str, Reached]:
        return {user: self._reached[user] for user in users if user in self._reached}

    async def done(self, receipts: Sequence[Awaited]) -> None:
        for one in receipts:
            if self._waiting.pop(one.id, None) is not None:
                self._users[one.user] -= 1
                if not self._users[one.user]:
                    del self._users[one.user]
                    self._reached.pop(one.user, None)
