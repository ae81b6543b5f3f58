"""Injects the faults, one after the other, in an order that the seed decides."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

from tests.chaos.alerts import OUTAGE
from tests.chaos.plan import Plan
from tests.chaos.replica import Replica
from tests.support.clocks import WallClock
from tests.support.proxy import FaultyProxy
from tests.support.sidecars import Sidecars
from tests.support.valkey import DURABLE, Valkey
from wsbridge.cli.verify.ledger import Loss

SILENCE = (4.5, 6.0)  # seconds without an event, or with events that waited
WAITED = 10.0  # seconds
ANSWERED = 1.0  # seconds within which an answer in flight arrives
ALONE = (  # faults without a Redis
    "replica killed",
    "replica drained",
    "broadcaster of a replica dead",
    "log of a replica not read",
    "event without a user",
    "nothing published",
    "events that waited in Kafka",
)
RIGHTS = ("fcall", "get", "pexpire", "rpush", "set", "spublish", "ssubscribe", "zadd")  # commands that Redis may forbid

Say = Callable[[str], None]


@dataclass(frozen=True)
class Redis:
    """A server, its clock, and the link by which the bridges reach it."""

    valkey: Valkey
    clock: WallClock
    link: FaultyProxy

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.link.port}/0"

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, directory: Path) -> AsyncIterator[Self]:
        clock = WallClock(directory)
        async with Valkey(directory, clock, **DURABLE) as valkey, FaultyProxy(valkey.port) as link:
            yield cls(valkey, clock, link)


class Faults:
    """Injects one fault after the other: all kinds in a random order, then all in another order."""

    def __init__(
        self, plan: Plan, replicas: list[Replica], redis: "Redis | None", sidecars: Sidecars, say: Say
    ) -> None:
        self._plan = plan
        self._replicas = replicas
        self._redis = redis
        self._sidecars = sidecars
        self._say = say
        self._started = time.monotonic()
        self._dice = Random(f"{plan.seed} faults")
        self._backups: list[bytes] = []
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "replica killed": self.kill,
            "replica drained": self.drain,
            "broadcaster of a replica dead": self.end_broadcaster,
            "replica frozen": self.pause,
            "Redis frozen": self.freeze,
            "Redis frozen for longer than the history lasts": self.outlast,
            "replica killed while Redis is frozen": self.freeze_and_kill,
            "replica drained while Redis is frozen": self.freeze_and_drain,
            "pub/sub connections killed": self.cut_off,
            "all connections to Redis killed": self.cut_off_all,
            "Redis killed and restarted": self.restart,
            "Redis restored from an older snapshot": self.restore,
            "Redis wiped": self.wipe,
            "Redis out of memory": self.fill,
            "Redis without a right": self.forbid,
            "Redis behind a slow link": self.throttle,
            "Redis' clock set back": self.set_back,
            "log of a replica not read": self.leave_unread,
            "event without a user": self.send_to_nobody,
            "nothing published": self.pause_publishing,
            "events that waited in Kafka": self.wait_in_kafka,
        }
        possible = {name: kind for name, kind in kinds.items() if redis or name in ALONE}
        self._kinds = {name: kind for name, kind in possible.items() if plan.only in name}

    @property
    def valkey(self) -> Valkey:
        return self.redis.valkey

    @property
    def redis(self) -> "Redis":
        assert self._redis is not None
        return self._redis

    async def run(self) -> None:
        self._started = time.monotonic()
        if self._redis:
            self._backups.append(await self.valkey.snapshot())
        while True:
            kinds = list(self._kinds)
            self._dice.shuffle(kinds)
            for kind in kinds:
                if time.monotonic() > self._started + self._plan.seconds:
                    return
                await asyncio.sleep(self._dice.uniform(0.2, 1) * self._plan.rest)
                self._sidecars.tally[f"fault: {kind}"] += 1
                self.note(kind)
                await self._kinds[kind]()
                for replica in self._replicas:
                    replica.check()

    def note(self, what: str) -> None:
        now = time.monotonic()
        self._sidecars.ledger.faults.append((now, what))
        self._say(f"{now - self._started:6.1f} s  {what}")

    async def kill(self) -> None:
        """`kill -9`, then a new process on the same port."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.kill()
            await self._start(replica, after=self._dice.uniform(0, 1.5))

    async def drain(self) -> None:
        """SIGTERM; once it has ended, a new process."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.drain()
            await self._start(replica)

    async def end_broadcaster(self) -> None:
        """End a background job; the process exits, and is started again."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.lose_broadcaster()
            await self._start(replica)

    async def _start(self, replica: Replica, *, after: float = 0) -> None:
        """Start a process that has just ended again, after so many seconds."""
        ended = time.monotonic()
        await asyncio.sleep(after)
        await replica.start()
        if time.monotonic() - ended >= 2:
            self._sidecars.tally[f"fault: {OUTAGE}"] += 1

    async def pause(self) -> None:
        """Freeze the process, as when its machine stands still.

        Afterwards it handles requests that were abandoned meanwhile.
        """
        with self._dice.choice(self._replicas).paused():
            await asyncio.sleep(self._dice.uniform(1, 4))

    async def freeze(self) -> None:
        async with self._frozen(self._dice.uniform(2, 4)):
            pass

    async def outlast(self) -> None:
        async with self._frozen(self._plan.history_ttl + self._dice.uniform(0.5, 1.5)):
            pass

    async def freeze_and_kill(self) -> None:
        """Kill a replica while Redis is frozen; its successor starts before Redis continues."""
        async with self._frozen(self._dice.uniform(2, 4)):
            await asyncio.sleep(self._dice.uniform(0, 2))
            await self.kill()

    async def freeze_and_drain(self) -> None:
        async with self._frozen(self._dice.uniform(2, 4)):
            await self.drain()

    async def cut_off(self) -> None:
        for _ in range(self._dice.randrange(1, 4)):
            await self.valkey.kill_subscribers()
            await asyncio.sleep(self._dice.uniform(0, 1))

    async def cut_off_all(self) -> None:
        """Cut all connections to Redis: some commands were executed, but nobody got the reply."""
        for _ in range(self._dice.randrange(1, 4)):
            await self.valkey.kill_subscribers()
            await self.valkey.ask("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(self._dice.uniform(0, 1))

    async def restart(self) -> None:
        """Restart Redis with all data that it had acknowledged."""
        await self.valkey.kill()
        await asyncio.sleep(self._dice.choice([0, 0.5, 4]))
        await self.valkey.restart()

    async def restore(self) -> None:
        """Restore a snapshot: of some seconds ago, from before another loss, or from the start."""
        self._backups.append(await self.valkey.snapshot())
        await asyncio.sleep(self._dice.uniform(1, 3))
        async with self.losing():
            await self.valkey.restore(self._dice.choice([self._backups[-1], self._dice.choice(self._backups)]))

    async def wipe(self) -> None:
        self._backups.append(await self.valkey.snapshot())
        async with self.losing():
            await self.valkey.wipe()
            if self._dice.random() < 0.5:
                await self.valkey.ask("FUNCTION", "FLUSH")

    async def fill(self) -> None:
        """Fill Redis: it refuses writes and answers everything else."""
        await self.valkey.ask("CONFIG", "SET", "maxmemory", 1)
        await asyncio.sleep(self._dice.uniform(1, 4))
        await self.valkey.ask("CONFIG", "SET", "maxmemory", 0)

    async def forbid(self) -> None:
        right = self._dice.choice(RIGHTS)
        self.note(f"  … {right}")
        await self.valkey.ask("ACL", "SETUSER", "default", f"-{right}")
        await asyncio.sleep(self._dice.uniform(0.5, 4))
        await self.valkey.ask("ACL", "SETUSER", "default", f"+{right}")

    async def throttle(self) -> None:
        link = self.redis.link
        link.rate, link.delay = self._dice.choice([5e4, 2e5]), self._dice.choice([0, 0.05])
        await asyncio.sleep(self._dice.uniform(2, 4))
        link.rate = link.delay = 0

    async def set_back(self) -> None:
        """Set the clock back. It is never set ahead: keys would expire, and the oracle would not expect that gap."""
        clock = self.redis.clock
        clock.set(clock.ahead - self._dice.choice([15, 60, 600, 10_800]))

    async def leave_unread(self) -> None:
        with self._dice.choice(self._replicas).unread():
            await asyncio.sleep(self._dice.uniform(2, 4))

    async def send_to_nobody(self) -> None:
        await self._sidecars.post_without_user(self._dice.randrange(len(self._replicas)))

    async def pause_publishing(self) -> None:
        """Publish nothing, not even redeliveries, as when all consumers of a topic have lost their partitions."""
        await self._sidecars.calm_down()
        self._sidecars.paused = True
        await asyncio.sleep(self._dice.uniform(*SILENCE))
        self._sidecars.paused = self._sidecars.calm = False

    async def wait_in_kafka(self) -> None:
        """Deliver events with old timestamps, as after an outage of the sidecar."""
        self._sidecars.waited = WAITED
        await asyncio.sleep(self._dice.uniform(*SILENCE))
        self._sidecars.waited = 0.0

    @contextlib.asynccontextmanager
    async def losing(self, really: bool = True) -> AsyncIterator[None]:
        """Record a loss: inside the context, acknowledged events are lost."""
        if not really:
            yield
            return
        await self._sidecars.calm_down()
        loss = Loss("", time.monotonic())
        self._sidecars.ledger.losses.append(loss)
        self.note("  … now")
        yield
        loss.end = time.monotonic()
        # An answer that is in flight during the loss must arrive first. Its events are lost, and a sidecar that
        # redelivers them after SUCCESS would publish them a second time.
        await asyncio.sleep(ANSWERED)
        self._sidecars.calm = False

    @contextlib.asynccontextmanager
    async def _frozen(self, seconds: float) -> AsyncIterator[None]:
        """Freeze Redis for at least this time."""
        self.valkey.freeze()
        until = time.monotonic() + seconds
        try:
            yield
            await asyncio.sleep(until - time.monotonic())
        finally:
            self.valkey.thaw()
