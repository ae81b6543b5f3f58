"""One run: replicas, Redis, a publisher, clients and faults, until every promise is checked or one is broken."""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from tests.chaos.alerts import Alerts
from tests.chaos.faults import Faults
from tests.chaos.plan import Plan
from tests.chaos.replica import Replica
from tests.chaos.scene import Redis, Say, Scene
from tests.support.sidecars import Partition, Sidecars
from tests.support.tabs import Tab
from tests.support.transports import Socket, Stream
from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.viewer import Broken, Viewer, unsettled

PATIENCE = 40.0  # seconds after the last fault until all events must have arrived
PARTITIONS = 6
SSE = 0.25  # of the clients use SSE
DUPLICATES = 1.0  # seconds after the last event in which a duplicate would arrive
_PAUSE = 0.1  # seconds between two looks


async def chaos(plan: Plan, say: Say) -> Counter[str]:
    """Run the plan; return the counters. Raises `Broken` at the first broken promise."""
    tally: Counter[str] = Counter()
    ledger = Ledger(ttl=plan.history_ttl, size=plan.history_size)
    settling = asyncio.Event()
    users = [f"user-{number}" for number in range(plan.users)]
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        redis = await stack.enter_async_context(Redis.start(directory)) if plan.redis else None
        settings = plan.settings() | ({"REDIS_URL": redis.url} if redis else {})
        replicas = [Replica(http, name, settings) for name in (("a", "b") if plan.redis else ("a",))]
        for replica in replicas:
            await stack.enter_async_context(replica)
        urls = [replica.url for replica in replicas]
        alerts = await stack.enter_async_context(Alerts.watching(directory, [replica.port for replica in replicas]))
        sidecars = Sidecars(urls, ledger, tally, http)
        faults = Faults(Scene(plan, replicas, redis, sidecars, http, say), alerts)
        viewers = [Viewer(ledger, users[number % plan.users], f"client {number}") for number in range(plan.clients)]
        try:
            async with asyncio.TaskGroup() as tasks:
                living = []
                for number, viewer in enumerate(viewers):
                    dice = Random(f"{plan.seed} client {number}")
                    transport = Stream if dice.random() < SSE else Socket
                    tab = Tab(viewer, transport, urls, tally, http, dice, settling)
                    living.append(tasks.create_task(tab.live()))
                publishing = [
                    tasks.create_task(
                        Partition(sidecars, users[number::PARTITIONS], f"{plan.seed} {number}").publish(plan.batches)
                    )
                    for number in range(PARTITIONS)
                ]
                await alerts.check_before()
                await faults.run()
                say("        the faults are over")
                sidecars.stopped = True
                settling.set()
                await settle(publishing, viewers)
                for task in living:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise next(leaves(group)) from None
        for replica in replicas:
            replica.check()
        await alerts.count(tally)
    for viewer in viewers:
        tally.update(viewer.tally)
    tally["events"] = sum(ledger.count(user) for user in users)
    return tally


async def settle(publishing: list[asyncio.Task[None]], viewers: list[Viewer]) -> None:
    """Wait until every event has got SUCCESS and has arrived."""
    _, stuck = await asyncio.wait(publishing, timeout=PATIENCE)
    if stuck:
        raise Broken(f"{len(stuck)} partitions still wait for SUCCESS, {PATIENCE:g} s after the last fault")
    deadline = time.monotonic() + PATIENCE
    while unsettled(viewers) and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no single event to wait for
        await asyncio.sleep(_PAUSE)
    await asyncio.sleep(DUPLICATES)
    if found := unsettled(viewers):
        viewer, lacking = found
        viewer.broken(lacking)


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """The exceptions inside a group. The first one caused the others."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
