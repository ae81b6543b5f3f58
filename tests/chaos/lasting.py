"""Faults that last until the alerts that they are for have fired."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from tests.chaos.scene import Scene
from tests.support.frames import StalledReader, WebSocketPeer
from tests.support.transports import LOST, Ended, Socket
from wsbridge.cli.verify.viewer import Broken, Viewer
from wsbridge.cli.verify.visit import Visit
from wsbridge.client import read

Step = Callable[[], Awaitable[object]]
Lasting = Callable[[], AbstractAsyncContextManager[Step]]  # enter it, and call its step until the alerts fire

WAITED = 10.0  # seconds in Kafka
STALLED, FORGETFUL = 20, 30  # clients: their alerts need more than a twentieth of all
LARGE = b"x" * 300_000  # of an event
FULL = 40  # large events: they fill the buffers of the bridge and of both kernels
BROKEN = json.dumps(dict.fromkeys([f"{n} is a field with quite a long name" for n in range(10)])).encode()
BULK = 500  # events: Dapr's largest is 100, but the log is to be full soon
LAG = 0.2  # seconds in each direction between a replica and Redis
STOPPED, RUNNING = 0.5, 0.4  # seconds, by turns, of a replica that gets too little CPU time
SEEN = 1.0  # seconds within which Prometheus has scraped and evaluated


async def wait() -> None:
    await asyncio.sleep(0.1)


class LastingFaults:
    """Each method is a context with a fault; it yields a step that goes on causing it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sidecars = scene.sidecars

    def by_name(self) -> dict[str, Lasting]:
        """The faults by their names in `OF_FAULT`, those that need no Redis first."""
        alone: dict[str, Lasting] = {
            "replica down": self.down,
            "replica short of CPU time": self.starve,
            "append of a replica fails": self.fail,
            "log of a replica not read": self.leave_unread,
            "replica nearly full": self.crowd,
            "clients that stop reading": self.stall,
            "clients that missed more than the history": self.forget,
            "event without a user": self.send_to_nobody,
            "nothing published": self.pause_publishing,
            "events that waited in Kafka": self.wait_in_kafka,
        }
        with_redis: dict[str, Lasting] = {
            "Redis frozen for longer than the history lasts": self.outlast,
            "Redis out of memory": self.fill,
            "Redis far away": self.delay,
        }
        return alone | with_redis if self._scene.redis_if_any else alone

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[Step]:
        replica = self._scene.any_replica()
        async with self._scene.ending():
            await replica.kill()
            yield wait
            await replica.start()

    @contextlib.asynccontextmanager
    async def starve(self) -> AsyncIterator[Step]:
        """Give the process too little CPU time, as a limit or a busy node does."""
        replica = self._scene.any_replica()

        async def stop() -> None:
            with replica.paused():
                await asyncio.sleep(STOPPED)
            await asyncio.sleep(RUNNING)

        yield stop

    @contextlib.asynccontextmanager
    async def fail(self) -> AsyncIterator[Step]:
        """Let appends raise after they have stored the events: these are delivered again, as duplicates."""
        replica = self._scene.any_replica()

        async def fail() -> None:
            replica.fail_append()
            await wait()

        yield fail

    @contextlib.asynccontextmanager
    async def leave_unread(self) -> AsyncIterator[Step]:
        """Leave the log unread while events without a user fill it, each with a line of nearly a kilobyte."""
        place = self._scene.any_place()

        async def post() -> None:
            await self._post_to_nobody(place, BULK)

        with self._scene.replicas[place].unread():
            yield post

    @contextlib.asynccontextmanager
    async def crowd(self) -> AsyncIterator[Step]:
        """Open as many connections as the limit allows. The clients go to the other replica, if there is one."""
        replica = self._scene.any_replica()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(self._scene.plan.max_connections):
                peer = await stack.enter_async_context(WebSocketPeer(replica.port))
                await peer.upgrade("crowd")
            yield wait

    @contextlib.asynccontextmanager
    async def stall(self) -> AsyncIterator[Step]:
        """Publish large events for clients that do not read, so that the replica closes their connections.

        Others come in their place: on a slow machine no scrape may fall in the two seconds for which the alert looks.
        """
        place, posts = self._scene.any_place(), itertools.count()
        async with contextlib.AsyncExitStack() as stack:

            async def post() -> None:
                if next(posts) % FULL == 0:
                    await stack.aclose()
                    for _ in range(STALLED):
                        peer = await stack.enter_async_context(StalledReader(self._scene.replicas[place].port))
                        await peer.upgrade("stalled")
                await self._sidecars.post_aside(place, b'{"user_id":"stalled","text":"%b"}' % LARGE)
                await wait()

            yield post

    @contextlib.asynccontextmanager
    async def forget(self) -> AsyncIterator[Step]:
        """Let clients of the busiest user miss more than its history keeps. The oracle checks their gaps."""
        plan, ledger, user = self._scene.plan, self._sidecars.ledger, "user-0"

        async def forget() -> None:
            viewers = [Viewer(ledger, user, f"forgetful client {number}") for number in range(FORGETFUL)]
            await asyncio.gather(*map(self._visit, viewers))
            last = max(viewer.serial for viewer in viewers)
            with contextlib.suppress(TimeoutError):  # by then the history has expired
                async with asyncio.timeout(plan.history_ttl + SEEN):
                    while ledger.required(user) - last <= plan.history_size:
                        await wait()
            await asyncio.gather(*map(self._visit, viewers))
            await asyncio.sleep(SEEN)

        yield forget

    async def _visit(self, viewer: Viewer) -> None:
        """Connect and leave again: the first time at once, later after reading the gap."""
        visit = Visit(viewer, time.monotonic())
        with contextlib.suppress(*LOST, Ended):
            line = await Socket.open(self._scene.http, self._scene.any_replica().url, visit, viewer.user)
            for _ in range(1 if visit.asked is None else 2):
                visit.take(read((await line.next())[0]), time.monotonic())
            await line.leave(cleanly=True)

    @contextlib.asynccontextmanager
    async def send_to_nobody(self) -> AsyncIterator[Step]:
        place = self._scene.any_place()

        async def post() -> None:
            await self._post_to_nobody(place)
            await wait()

        yield post

    async def _post_to_nobody(self, place: int, count: int = 1) -> None:
        found = await self._sidecars.post_aside(place, BROKEN, count)
        if found != {"DROP"}:
            raise Broken(f"events without a user were answered {found}")

    @contextlib.asynccontextmanager
    async def pause_publishing(self) -> AsyncIterator[Step]:
        """Publish nothing, not even redeliveries, as when all consumers of a topic have lost their partitions."""
        await self._sidecars.calm_down()
        self._sidecars.paused = True
        yield wait
        self._sidecars.paused = self._sidecars.calm = False

    @contextlib.asynccontextmanager
    async def wait_in_kafka(self) -> AsyncIterator[Step]:
        """Deliver events with old timestamps, as after an outage of the sidecar."""
        self._sidecars.waited = WAITED
        yield wait
        self._sidecars.waited = 0.0

    @contextlib.asynccontextmanager
    async def outlast(self) -> AsyncIterator[Step]:
        async with self._scene.frozen(self._scene.plan.history_ttl + self._scene.dice.uniform(0.5, 1.5)):
            yield wait

    @contextlib.asynccontextmanager
    async def fill(self) -> AsyncIterator[Step]:
        """Fill Redis: it refuses writes and answers everything else."""
        await self._scene.valkey.ask("CONFIG", "SET", "maxmemory", 1)
        yield wait
        await self._scene.valkey.ask("CONFIG", "SET", "maxmemory", 0)

    @contextlib.asynccontextmanager
    async def delay(self) -> AsyncIterator[Step]:
        """Delay each command and each reply, as a distant server or a busy network does."""
        self._scene.redis.link.delay = LAG
        yield wait
        self._scene.redis.link.delay = 0
