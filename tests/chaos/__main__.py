"""Everything that can go wrong, while events flow: `python -m tests.chaos --seed 1 --seconds 120`, or `make chaos`.

Two replicas, a real Redis or Valkey, a publisher like Dapr, clients that come and go, and faults one after the other.
What is published and which faults come is repeatable by the seed; how they meet in time is not.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

import aiohttp

from tests.support.clocks import WallClock
from tests.support.oracle import Broken, Ledger, Loss, Viewer, unsettled
from tests.support.proxy import FaultyProxy
from tests.support.running import Spawned
from tests.support.sidecars import Partition, Sidecars
from tests.support.tabs import Socket, Stream, Tab
from tests.support.valkey import DURABLE, Valkey, free_port

PATIENCE = 40.0  # seconds after the last fault until everything has arrived
PARTITIONS = 6
SSE = 0.25  # of the clients
RIGHTS = ("fcall", "get", "pexpire", "rpush", "set", "spublish", "ssubscribe", "zadd")  # that Redis takes away
_PAUSE = 0.1  # seconds between two looks

# Nothing outside of a replica can end one of its background jobs. So each is started with a broadcaster that dies at
# a signal: at its next event, as it would from a fault of its own.
MORTAL = """
import signal
from wsbridge.sessions.bus import Bus

deliver_all, doomed = Bus._deliver_all, []

def mortal(bus, batch):
    if doomed:
        raise RuntimeError("the broadcaster dies")
    return deliver_all(bus, batch)

Bus._deliver_all = mortal
signal.signal(signal.SIGUSR1, lambda *_: doomed.append(True))
"""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does; durations in seconds."""

    seed: int
    seconds: float  # of faults
    users: int = 60
    clients: int = 200
    batches: float = 12.0  # a second, of each partition
    history_ttl: float = 8.0
    history_size: int = 60
    rest: float = 2.5  # between two faults, at most
    redis: bool = True  # else one replica alone: what it held is lost when it goes
    only: str = ""  # faults with this in their names

    def settings(self) -> dict[str, str]:
        return {
            "HISTORY_TTL": str(self.history_ttl),
            "HISTORY_SIZE": str(self.history_size),
            "DEDUPE_TTL": "120",  # longer than anything comes again
            "DRAIN_TIMEOUT": "3",
            "MAX_CONNECTIONS_PER_USER": "0",
        }


class Replica:
    """A bridge on one port, in one process after the other."""

    def __init__(self, http: aiohttp.ClientSession, name: str, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.lines: list[dict[str, Any]] = []  # of all its logs
        self._http = http
        self._name = name
        self._settings = settings | {"PORT": str(self.port)}
        self._process: Spawned | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self._process.end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await Spawned.start(self._http, broken=MORTAL, **self._settings)
        self._process.lines, lines = self.lines, self._process.lines
        self.lines += lines
        if not self._process.port:
            raise Broken(f"{self._name} did not start: {self._process.errors.decode()}")

    async def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self.check()
        await self._process.end()

    async def drain(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self._process is not None
        self.check()
        self._process.terminate()
        code = await self._process.code()
        if code:
            raise Broken(f"{self._name} was drained and exited with {code}: {self._process.errors.decode()}")

    async def lose_broadcaster(self) -> None:
        """A background job ends, and with it the process, which says why."""
        assert self._process is not None
        self.check()
        before = len(self._process.of("job.failed"))
        self._process.process.send_signal(signal.SIGUSR1)
        code = await self._process.code()
        failed = [line["job"] for line in self._process.of("job.failed")[before:]]
        if code != 1 or failed != ["broadcast"]:
            raise Broken(f"{self._name} lost its broadcaster, exited with {code} and logged job.failed of {failed}")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It keeps its connections, and does nothing."""
        assert self._process is not None
        process = self._process.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Whoever collects its log reads nothing: the pipe is full after a while."""
        assert self._process is not None
        process = self._process
        process.listening.clear()
        try:
            yield
        finally:
            process.listening.set()

    def check(self) -> None:
        """It lives, and found no fault in itself."""
        assert self._process is not None
        if self._process.process.returncode is not None:
            raise Broken(f"{self._name} ended by itself: {self._process.errors.decode()}")
        wrong = [line for line in self.lines if line["event"] == "internal.error"]
        if wrong:
            raise Broken(f"{self._name} logged:\n{json.dumps(wrong[0], indent=1)}".replace("\\n", "\n"))


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
    """What goes wrong, one after the other: all kinds in some order, then all in another one."""

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
        }
        alone = ("replica killed", "replica drained", "broadcaster of a replica dead", "log of a replica not read")
        possible = kinds if redis else {name: kinds[name] for name in alone}
        self._kinds = {name: kind for name, kind in possible.items() if plan.only in name}

    @property
    def valkey(self) -> Valkey:
        return self.redis.valkey

    @property
    def redis(self) -> "Redis":
        assert self._redis is not None
        return self._redis

    async def run(self) -> None:
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
        """`kill -9`, and a new one on the same port."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.kill()
            await asyncio.sleep(self._dice.uniform(0, 1.5))
            await replica.start()

    async def drain(self) -> None:
        """SIGTERM, and a new one when it has gone."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.drain()
            await replica.start()

    async def end_broadcaster(self) -> None:
        """A job of it ends, so it ends, and whoever watches over it starts it again."""
        replica = self._dice.choice(self._replicas)
        async with self.losing(not self._redis):
            await replica.lose_broadcaster()
            await replica.start()

    async def pause(self) -> None:
        """As when its machine stands still: what it was sent meanwhile, and was given up, it does later."""
        with self._dice.choice(self._replicas).paused():
            await asyncio.sleep(self._dice.uniform(1, 4))

    async def freeze(self) -> None:
        async with self._frozen(self._dice.uniform(2, 4)):
            pass

    async def outlast(self) -> None:
        async with self._frozen(self._plan.history_ttl + self._dice.uniform(0.5, 1.5)):
            pass

    async def freeze_and_kill(self) -> None:
        """The new one comes before Redis does."""
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
        """Some commands were carried out whose answer nobody got."""
        for _ in range(self._dice.randrange(1, 4)):
            await self.valkey.kill_subscribers()
            await self.valkey.ask("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(self._dice.uniform(0, 1))

    async def restart(self) -> None:
        """With all that it had acknowledged."""
        await self.valkey.kill()
        await asyncio.sleep(self._dice.choice([0, 0.5, 4]))
        await self.valkey.restart()

    async def restore(self) -> None:
        """The state of some seconds ago, or an older one: from before another loss, or from the start."""
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
        """It refuses to write, and answers everything else."""
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
        """And never ahead: keys of Redis would expire, which is a gap that the oracle does not expect."""
        clock = self.redis.clock
        clock.set(clock.ahead - self._dice.choice([15, 60, 600, 10_800]))

    async def leave_unread(self) -> None:
        with self._dice.choice(self._replicas).unread():
            await asyncio.sleep(self._dice.uniform(2, 4))

    @contextlib.asynccontextmanager
    async def losing(self, really: bool = True) -> AsyncIterator[None]:
        """What happens in it loses what was acknowledged."""
        if not really:
            yield
            return
        await self._sidecars.calm_down()
        loss = Loss("", time.monotonic())
        self._sidecars.ledger.losses.append(loss)
        self.note("  … now")
        yield
        loss.end = time.monotonic()
        await asyncio.sleep(1)
        self._sidecars.calm = False

    @contextlib.asynccontextmanager
    async def _frozen(self, seconds: float) -> AsyncIterator[None]:
        """For at least that long."""
        self.valkey.freeze()
        until = time.monotonic() + seconds
        try:
            yield
            await asyncio.sleep(until - time.monotonic())
        finally:
            self.valkey.thaw()


async def chaos(plan: Plan, say: Say) -> Counter[str]:
    """One run; what it counted. Raises `Broken` at the first broken promise."""
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
        sidecars = Sidecars(urls, ledger, tally, http)
        faults = Faults(plan, replicas, redis, sidecars, say)
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
    for viewer in viewers:
        tally.update(viewer.tally)
    tally["events"] = sum(ledger.count(user) for user in users)
    return tally


async def settle(publishing: list[asyncio.Task[None]], viewers: list[Viewer]) -> None:
    """Everything had its SUCCESS, and arrived."""
    _, stuck = await asyncio.wait(publishing, timeout=PATIENCE)
    if stuck:
        raise Broken(f"{len(stuck)} partitions still wait for SUCCESS, {PATIENCE:g} s after the last fault")
    deadline = time.monotonic() + PATIENCE
    while unsettled(viewers) and time.monotonic() < deadline:  # noqa: ASYNC110 - no one event says so
        await asyncio.sleep(_PAUSE)
    await asyncio.sleep(1)  # time for an event that is delivered twice to show up
    if found := unsettled(viewers):
        viewer, lacking = found
        raise viewer.broken(lacking)


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """The first is what the others followed."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def report(plan: Plan, tally: Counter[str]) -> str:
    """What it counted, one line each."""
    return "\n".join(f"{count:9,}  {name}" for name, count in sorted(tally.items()))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="another one each time if absent"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="how long faults come, 120 if absent")
    parser.add_argument("--no-redis", action="store_true", help="one replica alone, which is killed and drained")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this in their names, such as frozen")
    options = parser.parse_args(arguments)
    plan = Plan(seed=options.seed, seconds=options.seconds, redis=not options.no_redis, only=options.only)
    say(f"seed {plan.seed}: {plan.clients} clients of {plan.users} users, faults for {plan.seconds:g} s")
    try:
        tally = asyncio.run(interruptible(chaos(plan, say)))
    except Broken as broken:
        say(f"\nBROKEN, seed {plan.seed}\n{broken}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted")
        return 130
    say(report(plan, tally))
    say("every event that got SUCCESS reached every client of its user once and in order, or it was told of a gap")
    return 0


async def interruptible(run: Coroutine[Any, Any, Counter[str]]) -> Counter[str]:
    """A SIGTERM ends it as Ctrl-C does: with all processes that it started."""
    task = asyncio.ensure_future(run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
