"""One run: clients connect, events are published, a command runs in the middle, and the last events arrive."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsbridge.cli.listen import Token
from wsbridge.cli.verify.follower import Follower
from wsbridge.cli.verify.ledger import Ledger, Loss
from wsbridge.cli.verify.publisher import Post, Publisher
from wsbridge.cli.verify.record import During, Record
from wsbridge.client import MOST_DELAY, Client
from wsbridge.config.value_types import without_secrets

CONNECT = 15.0  # seconds in which all clients should connect
APART = 0.004  # seconds between the first connections of two clients
HOPELESS = 10.0  # seconds without one accepted event after which the run ends
INTERRUPTED_WAIT = 2.0  # seconds for events in flight, after Ctrl-C
# seconds for clients without a connection after the last event: an outage of up to 20 s may refuse a client just before
# it ends, and that client may then wait for 20 s until its next attempt
AWAY_WAIT = 2 * MOST_DELAY
AFTERMATH = 2.0  # seconds for which publishing continues after the command
DUPLICATES = 0.5  # seconds after the last event in which a duplicate would arrive
_LOOK = 0.05  # seconds between two looks


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do; durations in seconds."""

    run: str
    url: str
    users: Sequence[str]
    clients: int
    seconds: float
    rate: float  # events a second
    wait: float  # for the last events
    during: str
    during_limit: float  # for that command
    token: Callable[[str], Token]  # of a user
    post: Post
    user_field: str
    history_ttl: float
    history_size: int


async def verify(plan: Plan, say: Callable[[str], None]) -> Record:
    """Run the plan. It ends by itself; SIGINT and SIGTERM end it earlier, and the record has what was seen."""
    ledger = Ledger(ttl=plan.history_ttl, size=plan.history_size, run=plan.run, verbatim=False)
    record = Record(ledger, plan.users)
    run = _Run(plan, record, say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.interrupt)
    try:
        await run.run()
    finally:
        run.release_signals()
    return record


class _Run:
    def __init__(self, plan: Plan, record: Record, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._record = record
        self._say = say
        self._over = asyncio.Event()  # the time for publishing is over
        self._followers = [self._follower(number) for number in range(plan.clients)]
        self._publisher = Publisher(record, plan.post, rate=plan.rate, user_field=plan.user_field)

    def interrupt(self) -> None:
        """End early. A second signal ends the process at once."""
        self._record.interrupted = True
        self._over.set()
        self.release_signals()

    @staticmethod
    def release_signals() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    async def run(self) -> None:
        plan, record, say = self._plan, self._record, self._say
        async with asyncio.TaskGroup() as tasks:
            tracks = record.tracks
            following = [tasks.create_task(self._follow(place)) for place in range(plan.clients)]
            await self._until(lambda: self._over.is_set() or all(t.connected or t.ended for t in tracks), CONNECT)
            connected = sum(track.connected for track in tracks)
            say(f"{connected} of {plan.clients} clients are connected to {without_secrets(plan.url)}")
            if not connected:
                self._over.set()
            record.started = record.now()
            publishing = [tasks.create_task(self._publisher.publish(user)) for user in plan.users if connected]
            beside = [tasks.create_task(self._give_up())] if connected else []
            if plan.during and connected:
                beside.append(tasks.create_task(self._command()))
            if connected:
                say(f"publishing {plan.rate:g} events a second for {plan.seconds:g} s")
            await self._pause(plan.seconds)
            during = record.during
            if during is not None and during.end is None:
                await self._until(lambda: self._over.is_set() or during.end is not None, plan.during_limit)
                await self._pause(AFTERMATH)
            self._over.set()
            self._publisher.stop()
            say("waiting for the last events")
            wait = INTERRUPTED_WAIT if record.interrupted else plan.wait
            reconnect = INTERRUPTED_WAIT if record.interrupted else AWAY_WAIT
            if publishing:
                await asyncio.wait(publishing, timeout=wait)
                await self._until(lambda: all(t.away is None or t.ended for t in tracks), reconnect)
                await self._until(lambda: not any(track.missing for track in tracks), wait)
                await asyncio.sleep(DUPLICATES)
            record.ended = record.now()
            for follower in self._followers:
                follower.finish(record.ended)
            for task in (*following, *publishing, *beside):
                task.cancel()
            self._publisher.close()

    def _follower(self, number: int) -> Follower:
        plan = self._plan
        user = plan.users[number * len(plan.users) // plan.clients]  # neighbours, for a balancer that takes turns
        return Follower(Client(plan.url, user, plan.token(user)), self._record)

    async def _follow(self, place: int) -> None:
        await asyncio.sleep(place * APART)
        await self._followers[place].follow()

    async def _give_up(self) -> None:
        """End the run if no event is accepted."""
        await asyncio.sleep(HOPELESS)
        if not any(self._record.ledger.required(user) for user in self._plan.users):
            self._over.set()

    async def _command(self) -> None:
        """Run the command after a third of the time. Kill it after its limit, or at the end."""
        plan, record = self._plan, self._record
        await asyncio.sleep(plan.seconds / 3)
        self._say(f"running: {plan.during}")
        during = record.during = During(plan.during, record.now())
        record.ledger.losses.append(Loss("during", during.start))
        process = await asyncio.create_subprocess_shell(
            plan.during, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), start_new_session=True
        )
        try:
            async with asyncio.timeout(plan.during_limit):
                during.code = await process.wait()
        except TimeoutError:
            pass
        finally:
            during.end = record.now()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    @staticmethod
    async def _until(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - several clients change it
            await asyncio.sleep(_LOOK)
