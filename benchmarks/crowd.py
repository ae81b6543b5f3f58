"""`make crowd`: 50,000 connections to several bridges that share one Redis, beside what `sizing` predicts.

Each bridge has a load generator of its own, because one process may not have enough descriptors. A generator
posts its events to the next bridge, so each event goes through Redis to another replica. The run fails if an event is
lost, repeated, reordered or misrouted. The bridges share one core; Redis and the generators share another.
"""

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.dialects import SIDECAR, Dialect
from benchmarks.load import Answer, Load, MiscountError, compiled
from benchmarks.pinned import cpu_seconds, memory_kilobytes
from benchmarks.results import machine
from benchmarks.scenarios import AT_ONCE, BULK, MANY, SETTLE, STORM
from benchmarks.server import Server, raise_descriptor_limit, redis_url, start_redis
from benchmarks.sizing import COSTS, Demand

RESERVE = 1_000  # descriptors of a process that are not connections
MISSED = 5  # events of each user while the clients are disconnected
LANES = 4  # connections on which a generator posts


class Plan(NamedTuple):
    """`seconds` and `rate`, in events a second, are those of each measurement under load."""

    connections: int = 50_000
    bridges: int = 3
    seconds: float = 20.0
    rate: float = 3_000
    ping_seconds: float = 25.0


class Row(NamedTuple):
    """A measurement and the prediction of the formulas. `unit` belongs to both."""

    what: str
    measured: float
    predicted: float
    unit: str

    def __str__(self) -> str:
        ratio = f"{self.measured / self.predicted:.2f}" if self.predicted else "–"
        return f"| {self.what} | {self.measured:,.1f} {self.unit} | {self.predicted:,.1f} {self.unit} | {ratio} |"


class Used(NamedTuple):
    """Seconds of CPU time of all bridges and of Redis."""

    bridges: float
    redis: float


class Crowd:
    """Redis, bridges and load generators: `with Crowd(plan, directory) as crowd`."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.each = plan.connections // plan.bridges  # connections of a generator
        self.servers: list[Server] = []
        self.loads: list[Load] = []
        self._directory = directory
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._redis = start_redis(self._directory)
            self._stack.callback(self._redis.wait)
            self._stack.callback(self._redis.kill)
            contender = next(one for one in CONTENDERS if one.redis)
            for number in range(self.plan.bridges):
                self.servers.append(self._stack.enter_context(self._server(contender, number)))
            program = compiled("load", self._directory)
            for number, server in enumerate(self.servers):
                dialect = _renamed(contender.dialect, f"g{number}")
                options = {"upgrade": dialect.upgrade, "resume": "1", **dialect.options}
                posts = self.servers[(number + 1) % len(self.servers)].port
                load = self._stack.enter_context(Load(program, server.port, options, posts=posts))
                load.set(dialect.settings(is_bulk=True))
                self.loads.append(load)
            self._pool = self._stack.enter_context(ThreadPoolExecutor(len(self.loads)))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, command: str) -> list[Answer]:
        """Send a command to all generators at once, and return their answers."""
        return list(self._pool.map(lambda load: load.tell(command), self.loads))

    def let_resume(self) -> None:
        """From now on, clients reconnect with their positions."""
        for number, load in enumerate(self.loads):
            load.set({"upgrade": _renamed(SIDECAR, f"g{number}").resume})

    def used(self) -> Used:
        return Used(sum(server.cpu for server in self.servers), cpu_seconds([self._redis.pid]))

    def memory(self) -> int:
        """Kilobytes of all bridges."""
        return sum(server.memory for server in self.servers)

    def redis_memory(self) -> int:
        return memory_kilobytes([self._redis.pid])

    def _server(self, contender: Contender, number: int) -> Server:
        folder = self._directory / f"bridge-{number}"
        folder.mkdir()
        shared = contender.environment | {"WSBRIDGE_REDIS_URL": redis_url(self._directory)}
        return Server(dataclasses.replace(contender, environment=shared, redis=False), folder, self.plan.ping_seconds)


def measure(crowd: Crowd) -> Iterator[Row]:
    """Run all stages. Raises MiscountError unless every connection gets exactly its events."""
    plan, total = crowd.plan, crowd.each * crowd.plan.bridges
    idle = Demand(connections=total, events=0, ping_interval=plan.ping_seconds)
    memory, slab, redis = crowd.memory(), _slab(), crowd.redis_memory()
    yield from _handshakes(crowd, f"open {crowd.each} 1 {AT_ONCE}", "a handshake", idle)
    time.sleep(SETTLE)  # until what the handshakes have left is freed
    yield Row("memory of a connection in the process", (crowd.memory() - memory) / total, COSTS.process, "KB")
    yield Row("memory of an end in the kernel", (_slab() - slab) / total / 2, COSTS.kernel, "KB")
    yield Row("memory of an idle user in Redis", 1024 * (crowd.redis_memory() - redis) / total, COSTS.user, "B")

    yield from _shares(crowd, f"idle {plan.ping_seconds}", "idle", idle)
    events = plan.rate * plan.seconds
    busy = dataclasses.replace(idle, events=plan.rate)
    command = f"post {MANY} {plan.seconds} {LANES} {BULK} {plan.rate / BULK / plan.bridges}"
    redis = crowd.redis_memory()
    yield from _shares(crowd, command, f"{plan.rate:,.0f} events a second", busy)
    kept = (crowd.redis_memory() - redis) / events * 1024
    yield Row("memory of an event in Redis", kept, COSTS.kept + len(SIDECAR.single["entry"]), "B")

    crowd.tell("drop")
    crowd.tell(f"post {crowd.each * MISSED // BULK} {MANY} 1 {BULK} 0")
    crowd.let_resume()
    crowd.servers[0].restart()  # killed; only Redis has the histories
    crowd.tell("redial")
    yield from _handshakes(crowd, f"open 0 1 {STORM}", f"a client that resumes with {MISSED} events", idle)


def _handshakes(crowd: Crowd, command: str, what: str, idle: Demand) -> Iterator[Row]:
    """CPU time of a handshake, with the pings and comparisons of the connections already open: half on average."""
    before, start = crowd.used(), time.monotonic()
    crowd.tell(command)
    seconds, used = time.monotonic() - start, crowd.used()
    each = 1e6 / idle.connections
    bridges = COSTS.reconnect + each * idle.idle_cores * seconds / 2
    redis = COSTS.reconnect_redis + each * idle.redis_cores * seconds / 2
    yield Row(f"{what}: bridges", each * (used.bridges - before.bridges), bridges, "µs")
    yield Row(f"{what}: Redis", each * (used.redis - before.redis), redis, "µs")
    yield Row(f"{what}: a second, all bridges on one core", idle.connections / seconds, 1e6 / bridges, "")


def _shares(crowd: Crowd, command: str, what: str, demand: Demand) -> Iterator[Row]:
    """The shares of a core that bridges and Redis use during a command, and latencies."""
    before, start = crowd.used(), time.monotonic()
    answers = crowd.tell(command)
    seconds, used = time.monotonic() - start, crowd.used()
    yield Row(f"{what}: bridges", 100 * (used.bridges - before.bridges) / seconds, 100 * demand.cores, "% of a core")
    yield Row(f"{what}: Redis", 100 * (used.redis - before.redis) / seconds, 100 * demand.redis_cores, "% of a core")
    yield Row(f"{what}: pings a second", sum(one.pings for one in answers) / seconds, demand.pings, "")
    if any(one.deliveries for one in answers):
        yield Row(f"{what}: delivered", sum(one.deliveries for one in answers) / seconds, demand.events, "a second")
        for name in ("p50", "p99", "max"):
            yield Row(f"{what}: latency, {name}", max(getattr(one, name) for one in answers) / 1e3, 0, "ms")


def _renamed(dialect: Dialect, name: str) -> Dialect:
    """The same for users and events that no other generator has."""

    def renamed(text: str) -> str:
        return text.replace("u%u", f"{name}-%u").replace('"%i"', f'"{name}-%i"')

    return dataclasses.replace(
        dialect,
        upgrade=renamed(dialect.upgrade),
        resume=renamed(dialect.resume),
        bulk={option: renamed(text) for option, text in dialect.bulk.items()},
    )


def _slab() -> int:
    """Kilobytes of the kernel's objects, such as sockets."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Slab:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make crowd", description=__doc__)
    for name, default in Plan()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    plan = Plan(**vars(parser.parse_args()))
    if raise_descriptor_limit() < (needed := plan.connections // plan.bridges + RESERVE):
        least = -(-plan.connections // (raise_descriptor_limit() - RESERVE))
        raise SystemExit(f"a process needs {needed:,} file descriptors: raise ulimit -Hn, or use --bridges {least}")
    print(", ".join(f"{name} {text}" for name, text in machine().items()))
    print(", ".join(f"{name} {value:g}" for name, value in plan._asdict().items()), "\n")
    print("| | measured | predicted | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, Crowd(plan, Path(name)) as crowd:
        try:
            for row in measure(crowd):
                print(row, flush=True)
        except MiscountError:
            print(*(server.log(without='"level":"info"') for server in crowd.servers), sep="\n", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
