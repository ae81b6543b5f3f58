"""A random walk: publish, redeliver, connect, drop, resume from any position, restart, lose data; every promise holds.

The promises are checked against the publisher's own log. The same walk runs on histories in the process, which a
restart loses, and on two replicas with a real server, which keeps them.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.bench import DUPLICATE, STORED, event
from tests.support.clocks import WallClock
from tests.support.examples import tries
from tests.support.replica import LIMITS, Client, Replica, replica_at, replica_of_its_own
from tests.support.running import DEADLINE, until
from tests.support.valkey import DURABLE, Valkey
from wsbridge.core.events import Event, Position

T = TypeVar("T")
HOUR = 3_600.0
CLOCKS = st.sampled_from([-2 * HOUR, -600.0, -60.0, -15.0, 0.0, 15.0, HOUR])  # seconds ahead
SIZE = int(LIMITS["size"])
USERS = st.sampled_from(["ann", "bob"])
PLACES = st.integers(0, 1)


@dataclass
class Seat:
    """A connected client; it must get the events after the first `had` events of its user."""

    client: Client
    replica: Replica
    had: int


class Walk(RuleBasedStateMachine):
    """The common part of both walks. After each step, all events are delivered and every client has all of them."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner(debug=False)
        self.stack = AsyncExitStack()
        self.log: dict[str, list[int]] = {"ann": [], "bob": []}  # events that got SUCCESS, in order
        self.known: list[int] = []  # events whose redelivery must be recognised
        self.counts: dict[tuple[str, Position], int] = {}  # number of events of a user up to a position
        self.epochs: dict[str, str] = {}
        self.seats: list[Seat] = []
        self.serial = itertools.count(1)
        self.run(self.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(3 * DEADLINE):
                return await work

        return self.runner.run(limited())

    async def open(self) -> None:
        raise NotImplementedError

    def replica(self, place: int) -> Replica:
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.stack.aclose())
            self.runner.close()

    @rule(user=USERS, place=PLACES, count=st.sampled_from([1, 1, 2, 3, SIZE + 2]))
    def publish(self, user: str, place: int, count: int) -> None:
        numbers = [next(self.serial) for _ in range(count)]
        outcomes = self.run(self.replica(place).broker.append([_event(user, n) for n in numbers]))
        assert [outcome.status for outcome in outcomes] == [STORED] * count
        self.log[user] += numbers
        self.known += numbers

    @precondition(lambda self: self.known)
    @rule(data=st.data(), place=PLACES)
    def redeliver(self, data: st.DataObject, place: int) -> None:
        number = data.draw(st.sampled_from(self.known))
        user = next(user for user, log in self.log.items() if number in log)
        (outcome,) = self.run(self.replica(place).broker.append([_event(user, number)]))
        assert outcome.status is DUPLICATE

    @rule(user=USERS, place=PLACES)
    def connect(self, user: str, place: int) -> None:
        self.run(self._connect(user, place, None))

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), place=PLACES)
    def resume(self, data: st.DataObject, place: int) -> None:
        """Resume after any position that any client of the user ever had."""
        self.run(self._connect(*data.draw(st.sampled_from([(user, place, after) for user, after in self.counts]))))

    async def _connect(self, user: str, place: int, after: Position | None) -> None:
        replica = self.replica(place)
        seat = Seat(await replica.connect(user, after), replica, len(self.log[user]))
        await replica.settle(seat.client)
        epoch = seat.client.positions[-1].epoch
        assert self.epochs.setdefault(user, epoch) == epoch
        if after:
            had = self.counts[user, after]
            kept = after.epoch == epoch and len(self.log[user]) - had <= SIZE
            assert len(seat.client.gaps) == (0 if kept else 1)
            seat.had = had if kept else len(self.log[user])
        self.seats.append(seat)

    @precondition(lambda self: self.seats)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        seat = data.draw(st.sampled_from(self.seats))
        seat.replica.drop(seat.client)
        self.seats.remove(seat)

    @invariant()
    def everybody_has_everything_once_and_in_order(self) -> None:
        if hasattr(self, "runner"):
            self.run(self._check())

    async def _check(self) -> None:
        for seat in self.seats:
            client = seat.client
            await seat.replica.settle(client)
            assert client.seen == self.log[client.user][seat.had :]
            for behind, position in enumerate(reversed(client.positions[-1 - len(client.seen) :])):
                count = len(self.log[client.user]) - behind  # every client gets the same event at a position
                assert self.counts.setdefault((client.user, position), count) == count

    def start_anew(self, seat: Seat) -> None:
        """Start after a gap: earlier events are lost."""
        seat.had, seat.client.seen = len(self.log[seat.client.user]), []


class InProcess(Walk):
    """One replica whose histories are lost at a restart."""

    async def open(self) -> None:
        self.own = await self.stack.enter_async_context(replica_of_its_own())

    def replica(self, place: int) -> Replica:
        return self.own

    @rule()
    def restart(self) -> None:
        for seat in self.seats:
            seat.replica.drop(seat.client)
        self.seats, self.known, self.epochs = [], [], {}
        self.run(self.open())


class OnServer(Walk):
    """Two replicas on a server that keeps all data over a restart, and whose clock may be wrong."""

    async def open(self) -> None:
        self.stack.enter_context(mock.patch("wsbridge.sessions.reconciler.INTERVAL", 0.1))
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.clock = WallClock(Path(directory))
        self.server = await self.stack.enter_async_context(Valkey(Path(directory), self.clock, **DURABLE))
        self.replicas = [
            await self.stack.enter_async_context(replica_at(self.server.url, ttl=6 * HOUR)) for _ in range(2)
        ]
        self.snapshot: tuple[bytes, list[int], dict[str, str], int] | None = None

    def replica(self, place: int) -> Replica:
        return self.replicas[place]

    @rule(ahead=CLOCKS)
    def set_clock(self, ahead: float) -> None:
        """Set the server's clock; nothing may change."""
        self.clock.set(ahead)

    @rule(ahead=CLOCKS)
    def restart(self, ahead: float) -> None:
        """Restart the server without a loss: no gap, no other epoch."""
        self.clock.set(ahead)
        self.run(self._settled(self.server.restart()))

    @rule()
    def kill_subscribers(self) -> None:
        self.run(self._settled(self.server.kill_subscribers()))

    @rule(user=USERS, place=PLACES, count=st.sampled_from([1, SIZE]))
    def publish_unheard(self, user: str, place: int, count: int) -> None:
        """Publish while a subscription is broken, so that a replica misses the message."""
        self.run(self.server.kill_subscribers())
        self.publish(user, place, count)

    @rule()
    def wipe(self) -> None:
        self.run(self._lose(self.server.wipe()))
        self.known, self.snapshot = [], None

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def save(self) -> None:
        self.snapshot = (self.run(self.server.snapshot()), list(self.known), dict(self.epochs), self._published())

    @precondition(lambda self: self.snapshot is not None and self._published() > self.snapshot[3])
    @rule(ahead=CLOCKS)
    def restore(self, ahead: float) -> None:
        """Restore a snapshot: later events are lost, so every history starts from scratch."""
        assert self.snapshot is not None
        self.clock.set(ahead)
        snapshot, self.known, _, _ = self.snapshot
        self.run(self._lose(self.server.restore(snapshot)))
        self.snapshot = None

    def _published(self) -> int:
        return sum(map(len, self.log.values()))

    async def _settled(self, fault: Coroutine[Any, Any, object]) -> None:
        """Wait until each replica has looked twice; the first look may have begun before."""
        await fault
        looks = [replica.reconciler.looks for replica in self.replicas]
        await until(
            lambda: all(r.reconciler.looks > before + 1 for r, before in zip(self.replicas, looks, strict=True))
        )

    async def _lose(self, fault: Coroutine[Any, Any, object]) -> None:
        """Lose data: every connected client gets one gap, and every history has another epoch."""
        told = [len(seat.client.gaps) for seat in self.seats]
        await self._settled(fault)
        for user, epoch in self.epochs.items():
            assert (await self.replicas[0].position(user)).epoch != epoch
        self.epochs = {}
        for seat in self.seats:
            await seat.replica.settle(seat.client)
            self.start_anew(seat)
        assert [len(seat.client.gaps) for seat in self.seats] == [before + 1 for before in told]


def _event(user: str, number: int) -> Event:
    return event(user, data=f'{{"user_id":"{user}","n":{number}}}', key=f"source\n{number}")


InProcess.TestCase.settings = settings(tries(40), stateful_step_count=25)
TestInProcess = InProcess.TestCase
OnServer.TestCase.settings = settings(tries(8), stateful_step_count=25)
TestOnServer = OnServer.TestCase
