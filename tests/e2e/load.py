"""A backend publishes for many users while faults are injected; the oracle checks what their tabs get."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from random import Random

import aiohttp
import msgspec

from tests.e2e.chain import Chain
from tests.e2e.process import PATIENCE, PAUSE
from tests.support.tabs import Tab
from tests.support.transports import Socket
from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.viewer import Viewer, unsettled

USERS = [f"user-{number}" for number in range(20)]
TABS = 2  # of each user
SETTINGS = {"HISTORY_SIZE": "1000", "HISTORY_TTL": "600", "MAX_CONNECTIONS_PER_USER": "0"}  # large enough to avoid gaps
AWAY = 3.0  # seconds, at most, that a tab stays disconnected
BEAT = 0.3  # seconds between two events of a user
ANSWER = 10.0  # seconds that the backend waits for its sidecar


class Load:
    """The load; use `loaded`."""

    def __init__(self, chain: Chain) -> None:
        self.tally = Counter[str]()
        self.ledger = Ledger(ttl=AWAY, size=1_000)
        self.viewers = [Viewer(self.ledger, user, f"tab {place}") for user in USERS for place in range(TABS)]
        self.stopped = False
        self.settling = asyncio.Event()
        self._chain = chain

    def tab(self, viewer: Viewer) -> Tab:
        dice = Random(f"{viewer.user} {viewer.name}")
        return Tab(viewer, Socket, [self._chain.proxy.url], self.tally, self._chain.http, dice, self.settling)

    async def publish(self, user: str) -> None:
        """Publish one event after the other. Repeat each until it is known to be in Kafka."""
        serial = 0
        while not self.stopped:
            serial += 1
            mark = {"n": serial, "run": "", "user": user}  # fields are sorted, as the sidecar writes them
            data = msgspec.json.encode({"user_id": user, "verify": mark})
            event = b'{"specversion":"1.0","id":"%d","source":"%b","type":"t","data":%b}' % (
                serial,
                user.encode(),
                data,
            )
            self.ledger.sending(user, serial, data, time.monotonic())
            while not await self._is_published(event, user):
                self.tally["published again"] += 1
            self.ledger.answered(user, serial, time.monotonic(), success=True)
            await asyncio.sleep(BEAT)

    async def flow(self, count: int = 10) -> None:
        """Wait until every tab has got that many more events."""
        aims = [(viewer, viewer.serial + count) for viewer in self.viewers]
        await self.until(lambda: next((viewer for viewer, aim in aims if viewer.serial < aim), None))

    async def until(self, lacking: Callable[[], Viewer | None]) -> None:
        """Wait until no tab lacks an event; otherwise fail with a report of one that does."""
        try:
            async with asyncio.timeout(PATIENCE):
                while lacking():  # noqa: ASYNC110 - the condition is any function, so no event can be set
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            if viewer := lacking():
                viewer.broken("it waits forever")

    async def _is_published(self, event: bytes, user: str) -> bool:
        try:
            async with asyncio.timeout(ANSWER):
                await self._chain.publisher.publish(event, user, "application/cloudevents+json")
        except (aiohttp.ClientError, TimeoutError, AssertionError):
            await asyncio.sleep(PAUSE)
            return False
        return True


@contextlib.asynccontextmanager
async def loaded(chain: Chain) -> AsyncIterator[Load]:
    """Publish events and let tabs connect and disconnect inside the context; at its end, wait until all has arrived."""
    load = Load(chain)
    async with asyncio.TaskGroup() as tasks:
        tabs = [tasks.create_task(load.tab(viewer).live()) for viewer in load.viewers]
        await load.until(lambda: next((viewer for viewer in load.viewers if viewer.position is None), None))
        publishers = [tasks.create_task(load.publish(user)) for user in USERS]
        await load.flow()
        yield load
        await load.flow()
        load.stopped = True
        await asyncio.wait(publishers)
        load.settling.set()
        await load.until(lambda: (unsettled(load.viewers) or (None,))[0])
        for task in tabs:
            task.cancel()
    assert not any(viewer.tally.keys() - {"delivered", "twice in a change-over"} for viewer in load.viewers)
