"""The parts of a run in which faults are injected: replicas, Redis, sidecars, and the ledger that notes each fault."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

import aiohttp

from tests.chaos.plan import Plan
from tests.chaos.replica import Replica
from tests.support.clocks import WallClock
from tests.support.proxy import FaultyProxy
from tests.support.sidecars import Sidecars
from tests.support.valkey import DURABLE, Valkey
from wsbridge.cli.verify.ledger import Loss

ANSWERED = 1.0  # seconds within which an answer in flight arrives

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


@dataclass(eq=False)
class Scene:
    """`redis_if_any` is the Redis of the run, or None if its one replica has the histories."""

    plan: Plan
    replicas: list[Replica]
    redis_if_any: Redis | None
    sidecars: Sidecars
    http: aiohttp.ClientSession
    say: Say

    def __post_init__(self) -> None:
        self.dice = Random(f"{self.plan.seed} faults")
        self.started = time.monotonic()  # again when the first fault is due

    @property
    def redis(self) -> Redis:
        assert self.redis_if_any is not None
        return self.redis_if_any

    @property
    def valkey(self) -> Valkey:
        return self.redis.valkey

    @property
    def seconds(self) -> float:
        """The time since `started`."""
        return time.monotonic() - self.started

    def any_replica(self) -> Replica:
        return self.dice.choice(self.replicas)

    def any_place(self) -> int:
        """The index of one of the replicas."""
        return self.dice.randrange(len(self.replicas))

    def note(self, what: str) -> None:
        self.sidecars.ledger.faults.append((time.monotonic(), what))
        self.say(f"{self.seconds:6.1f} s  {what}")

    def ending(self) -> AbstractAsyncContextManager[None]:
        """Inside the context a replica ends. Without a Redis its histories are lost."""
        return contextlib.nullcontext() if self.redis_if_any else self.losing()

    @contextlib.asynccontextmanager
    async def losing(self) -> AsyncIterator[None]:
        """Record a loss: inside the context, acknowledged events are lost."""
        await self.sidecars.calm_down()
        loss = Loss("", time.monotonic())
        self.sidecars.ledger.losses.append(loss)
        self.note("  … now")
        yield
        loss.end = time.monotonic()
        # An answer that is in flight during the loss must arrive first. Its events are lost, and a sidecar that
        # redelivers them after SUCCESS would publish them a second time.
        await asyncio.sleep(ANSWERED)
        self.sidecars.calm = False

    @contextlib.asynccontextmanager
    async def frozen(self, seconds: float) -> AsyncIterator[None]:
        """Freeze Redis for at least this time."""
        self.valkey.freeze()
        until = time.monotonic() + seconds
        try:
            yield
            await asyncio.sleep(until - time.monotonic())
        finally:
            self.valkey.thaw()
