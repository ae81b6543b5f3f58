"""One replica without HTTP and transports: a broker, sessions, and clients on fake connections."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_connection import FakeConnection
from tests.support.running import DEADLINE, until
from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.broker.memory import MemoryBroker
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.close_codes import SHUTDOWN
from wsbridge.core.events import Position
from wsbridge.core.recovery import Resume
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.catch_up import CatchUp
from wsbridge.sessions.reconciler import Reconciler
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session, Shared
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.sessions.state import State
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations

LIMITS: dict[str, Any] = {"size": 10, "max_bytes_per_user": 10**6, "ttl": 600.0, "dedupe_ttl": 3_600.0}


@dataclass
class Client:
    """One connection. `seen` are the numbers of its events."""

    user: str
    session: Session
    connection: FakeConnection
    seen: list[int] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)  # each position that it could resume after, in order
    gaps: list[str] = field(default_factory=list)
    _read: int = 0

    def read(self) -> None:
        """Take the new messages, and check that their positions are contiguous."""
        messages = self.connection.messages
        for message in messages[self._read :]:
            match message["type"]:
                case "connected":
                    self.positions.append(_position(message["last_event_id"]))
                case "gap":
                    self.gaps.append(message["reason"])
                    self.positions.append(_position(message["last_event_id"]))
                case "task_update":
                    position, last = _position(message["id"]), self.positions[-1]
                    assert position == Position(last.epoch, last.offset + 1), (last, position)
                    assert message["event"]["user_id"] == self.user
                    self.positions.append(position)
                    self.seen.append(message["event"]["n"])
        self._read = len(messages)


def _position(text: str) -> Position:
    position = Position.parse(text)
    assert position is not None
    return position


class Watching(Reconciler):
    """Counts how often it has found every session up to date, or has brought it up to date."""

    looks = 0

    async def look(self, missed: frozenset[str]) -> None:
        await super().look(missed)
        self.looks += 1


class Replica:
    """Use `replica_of_its_own` or `replica_at`."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.registry = Registry()
        self.slow_consumers = SlowConsumers(self.metrics, max_session=10**6, max_total=10**9)
        self.bus = Bus(self.registry, self.metrics, size=10_000, max_bytes=2**27)
        self.broker: Broker
        self.catch_up: CatchUp
        self.reconciler: Watching

    async def connect(self, user: str, after: Position | None = None) -> Client:
        """Connect a client as admission does: count, subscribe, read, attach."""
        connection = FakeConnection()
        shared = Shared(
            metrics=self.metrics,
            slow_consumers=self.slow_consumers,
            on_missed=self.catch_up.request,
            on_leave=self.registry.remove,
        )
        session = connection.session = Session(user, connection, shared, now=0.0, peer="", agent="")
        self.registry.add(session)
        await self.broker.follow(user)
        resume = await self._resume(user, str(after) if after else None)
        hello = json.dumps({"type": "connected", "last_event_id": str(resume.position), "recovered": resume.recovered})
        session.attach(resume, hello.encode())
        return Client(user, session, connection)

    async def position(self, user: str) -> Position:
        return (await self._resume(user, None)).position

    async def _resume(self, user: str, after: str | None) -> Resume:
        """Resume as admission does: as soon as the history can be read."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    return await self.broker.resume(user, after)
                except BrokerUnavailable:
                    await asyncio.sleep(0)

    def drop(self, client: Client) -> None:
        client.session.end(SHUTDOWN)
        self.registry.remove(client.session)

    async def settle(self, client: Client) -> None:
        """Wait until every session is level with the history."""
        top = await self.position(client.user)
        await until(lambda: client.session.state is State.LIVE and client.session.position == top)
        client.read()


@contextlib.asynccontextmanager
async def replica_of_its_own(**limits: Any) -> AsyncIterator[Replica]:
    """A replica with its histories in the process."""
    replica = Replica()
    replica.broker = MemoryBroker(replica.bus, max_bytes=10**9, **(LIMITS | limits))
    jobs = Starter()
    replica.catch_up = CatchUp(replica.broker, jobs, replica.metrics, Stations(0))
    async with _running(replica.bus.broadcast(), jobs.run()):
        yield replica


@contextlib.asynccontextmanager
async def replica_at(url: str, *, prefix: str = "walk", **limits: Any) -> AsyncIterator[Replica]:
    """A replica with its histories on a server."""
    replica = Replica()
    replica.broker = broker = RedisBroker(create_server(parse(url)), replica.bus, prefix=prefix, **(LIMITS | limits))
    starter = Starter()
    replica.catch_up = CatchUp(broker, starter, replica.metrics, Stations(0))
    replica.reconciler = Watching(broker, replica.registry, replica.metrics)
    jobs = replica.bus.broadcast(), broker.run(), replica.reconciler.run(), starter.run()
    async with _running(*jobs):
        await until(lambda: not broker.trouble)
        yield replica


@contextlib.asynccontextmanager
async def _running(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
