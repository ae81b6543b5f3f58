"""A broker with everything that its tests need, in the process or on a real server, and the events that they use."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.support.fake_time import Clock
from tests.support.running import until
from wsbridge.broker.base import Broker, Status
from wsbridge.broker.memory import MemoryBroker
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.recovery import Resume
from wsbridge.sessions.bus import data_bytes

SIZE, TTL, DEDUPE_TTL, ROOM, ROOM_BYTES = 5, 300.0, 3_600.0, 20, 1_000_000
USER_BYTES = 2_000_000  # of a history
STORED, DUPLICATE, RETRIED = Status.STORED, Status.DUPLICATE, Status.RETRIED


@dataclass
class Sink:
    """A queue of entries that holds `size` and `max_bytes`, for a replica with one session of each of `users`."""

    size: int = ROOM
    max_bytes: int = ROOM_BYTES
    queue: list[Entry] = field(default_factory=list)
    seen: list[Entry] = field(default_factory=list)
    puts: int = 0
    users: set[str] = field(default_factory=set)
    disconnected: list[str] = field(default_factory=list)

    def room(self) -> int:
        return self.size - len(self.queue)

    def room_bytes(self) -> int:
        return self.max_bytes - data_bytes(self.queue)

    def is_empty(self) -> bool:
        return not self.queue

    def put(self, entries: Sequence[Entry]) -> None:
        self.puts += 1
        self.queue += entries
        self.seen += timeless(entries)

    def is_connected(self, user: str) -> bool:
        return user in self.users

    def disconnect(self, user: str) -> None:
        self.disconnected.append(user)

    def of(self, user: str) -> list[Entry]:
        return [entry for entry in self.seen if entry.user == user]


@dataclass
@dataclass
class Bench:
    """A broker with all that it needs."""

    broker: Broker
    sink: Sink
    clock: Clock
    before: Callable[[], None] = lambda: None  # causes a fault before the next append

    async def append(self, events: Sequence[Event]) -> list[Status]:
        """Append entries; return the outcome of each in one word."""
        return [outcome.status for outcome in await self.broker.append(events)]

    async def take(self, *events: Event) -> list[Status]:
        """Append, wait until the subscription has received all of it, and let the bus drain."""
        self.before()
        users = {user for event in events for user in event.users}
        for user in sorted(users):
            await self.follow(user)
        outcomes = await self.append(events)
        for user in sorted(users):
            await self.received(user)
        self.sink.queue.clear()
        return outcomes

    async def follow(self, user: str) -> None:
        self.sink.users.add(user)
        await self.broker.follow(user)

    async def received(self, user: str) -> None:
        """Wait until the sink has all events that the user got while somebody was subscribed."""
        top = await self.top(user)
        if top.offset:
            await until(lambda: self.sink.of(user) and _position(self.sink.of(user)[-1]) == top)

    async def top(self, user: str) -> Position:
        return (await self.broker.resume(user, None)).position

    async def resume(self, user: str, after: str | None) -> Resume:
        """The broker's answer to a resume, to be compared with the entries of the sink."""
        found = await self.broker.resume(user, after)
        return found._replace(entries=timeless(found.entries))

    async def resume_all(self, user: str, after: str) -> Resume:
        """All portions of the answer joined."""
        found = await self.resume(user, after)
        while found.rest:
            last = found.entries[-1]
            more = await self.resume(user, f"{last.epoch}:{last.offset}")
            assert more.recovered
            assert len(more.entries) + more.rest == found.rest
            found = found._replace(entries=found.entries + more.entries, rest=more.rest)
        return found

    def fill(self, entries: int) -> None:
        """Put this many entries of another user into the queue."""
        self.sink.queue += [Entry("x", "e", 1, "task_update", b"{}", "", 0.0, "")] * entries


def timeless(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries without the times at which this replica received them, which may differ."""
    return tuple(msgspec.structs.replace(entry, received_at=0.0) for entry in entries)


def _position(entry: Entry) -> Position:
    return Position(entry.epoch, entry.offset)


def in_memory(
    *,
    size: int = SIZE,
    ttl: float = TTL,
    max_bytes: int = 10**9,
    max_bytes_per_user: int = USER_BYTES,
    room: int = ROOM,
) -> Bench:
    sink, clock = Sink(room), Clock(1_000_000.0)
    broker = MemoryBroker(
        sink,
        size=size,
        ttl=ttl,
        max_bytes=max_bytes,
        max_bytes_per_user=max_bytes_per_user,
        dedupe_ttl=DEDUPE_TTL,
        clock=clock,
    )
    return Bench(broker, sink, clock)


@contextlib.asynccontextmanager
async def on_redis(
    url: str,
    *,
    prefix: str = "",
    size: int = SIZE,
    ttl: float = TTL,
    max_bytes_per_user: int = USER_BYTES,
    served: bool = False,
) -> AsyncIterator[Bench]:
    """A bench on a real server.

    Each has its own prefix, so tests do not see each other's keys. `served` is on the server's clock.
    """
    sink, clock = Sink(), Clock(1_000_000.0)
    prefix = prefix or f"t{secrets.token_hex(4)}"
    server = create_server(parse(url))
    now = None if served else clock
    broker = RedisBroker(
        server,
        sink,
        prefix=prefix,
        size=size,
        max_bytes_per_user=max_bytes_per_user,
        ttl=ttl,
        dedupe_ttl=DEDUPE_TTL,
        clock=now,
    )
    running = asyncio.create_task(broker.run())
    try:
        await server.refresh()
        await broker.verify([])
        yield Bench(broker, sink, clock)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def event(*users: str, data: str = "{}", key: str = "") -> Event:
    return Event(users or ("u",), data.encode(), "task_update", key.removeprefix("source\n"), key)


def numbered(count: int, user: str = "u") -> list[Event]:
    return [event(user, data=f'{{"n":{n}}}') for n in range(1, count + 1)]
