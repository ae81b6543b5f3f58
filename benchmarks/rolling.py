"""The whole chain with as many events a second as clients, and a rolling restart of both bridges in its middle.

The shape of published benchmarks: each client has its own user and gets one message of 512 bytes a second. Backend,
sidecars, Kafka, Redis, two bridges and all clients run on this machine. Latency begins when the event is due at the
backend, and ends when the client has checked it. The run fails if a client misses an event, gets one twice or gets a
gap: the clients are those of the chaos tests, with their oracle.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import uvloop

from benchmarks.pinned import cpu_seconds
from tests.e2e.chain import WITH_REDIS, Chain
from tests.e2e.kafka import Kafka
from tests.e2e.process import settled
from tests.support.tabs import Tab
from tests.support.transports import LOST, Ended, Line, Socket
from tests.support.valkey import Valkey
from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.viewer import Viewer, unsettled
from wsbridge.client import read

BYTES = 512  # of an event's data
LANES = 8  # concurrent calls of the backend
GROUP = 10  # events in a call of the backend
SAMPLE = 0.2  # seconds between two looks at the CPU times: a process that ends takes its own with it
AFTER = 5.0  # seconds that belong to the restart after its end
PAUSE = 0.5  # seconds, at most, before a client reconnects


class Client(Tab):
    """Stays connected. After a goodbye it opens its next connection first, at the time that the goodbye names."""

    def __init__(self, load: "Rolling", viewer: Viewer) -> None:
        dice = Random(viewer.user)
        super().__init__(viewer, Socket, load.urls, load.tally, load.chain.http, dice, asyncio.Event())
        self._load = load
        self._leave_after = 0.0

    async def live(self) -> None:
        """Connect, follow and reconnect, forever."""
        while True:
            try:
                self._place = self._dice.randrange(len(self._urls))
                line: Line | None = await self._open()
                while line is not None:
                    line = await self._follow(line)
            except (*LOST, Ended) as error:
                self._tally[f"connections ended: {error or type(error).__name__}"] += 1
            await asyncio.sleep(self._dice.uniform(0, PAUSE))

    async def _follow(self, line: Line) -> Line | None:
        try:
            await self._read(line)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._leave_after):
                    await self._read(line)
            return await self._change_over(line)
        finally:
            await line.leave(cleanly=True)

    def _take(self, line: Line, payload: bytes, named: str | None) -> str:
        before = self.viewer.serial
        kind = super()._take(line, payload, named)
        if kind == "goodbye":
            self._leave_after = read(payload).reconnect_after_ms / 1000
        elif kind == "task_update" and self.viewer.serial > before:
            sent = self.viewer.ledger.sent_at(self.viewer.user, self.viewer.serial)
            self._load.late.append(time.monotonic() - sent)
        return kind


class Phase(NamedTuple):
    """Latencies in seconds and CPU times by part in µs for each event."""

    name: str
    seconds: float
    late: list[float]
    costs: Mapping[str, float]
    reconnects: int

    def __str__(self) -> str:
        ordered = sorted(self.late)
        times = [statistics.mean(ordered), *(ordered[int(len(ordered) * part)] for part in (0.5, 0.99)), ordered[-1]]
        cells = [self.name, f"{len(ordered) / self.seconds:,.0f}", *(f"{1000 * late:.1f}" for late in times)]
        cells += [" + ".join(f"{cost:.0f}" for cost in self.costs.values())]
        return f"| {' | '.join([*cells, f'{self.reconnects:,}'])} |"


class Rolling:
    """Clients and a backend for a running chain. `redis` is the id of its process."""

    def __init__(self, chain: Chain, redis: int, clients: int) -> None:
        self.chain = chain
        self.urls = [bridge.url for bridge in chain.bridges]  # of the bridges in the Service
        self.tally = Counter[str]()
        self.late: list[float] = []
        self.ledger = Ledger(ttl=300, size=100)
        self.viewers = [Viewer(self.ledger, f"user-{place}", "client") for place in range(clients)]
        self.stopped = False
        self._redis = redis
        self._used: dict[tuple[str, int], float] = {}  # part and process → seconds of CPU time

    async def publish(self, lane: int) -> None:
        """Publish an event a second for each user of a lane, in groups that are due at different times."""
        users = [viewer.user for viewer in self.viewers[lane::LANES]]
        groups = [users[start : start + GROUP] for start in range(0, len(users), GROUP)]
        due, serial = time.monotonic() + lane / LANES / len(groups), 0
        while not self.stopped:
            serial += 1
            for group in groups:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                events = [(user, _data(user, serial)) for user in group]
                for user, data in events:
                    self.ledger.sending(user, serial, data, due)
                await self.chain.publisher.publish_bulk([(user, msgspec.json.decode(data)) for user, data in events])
                for user in group:
                    self.ledger.answered(user, serial, time.monotonic(), success=True)
                due += 1 / len(groups)

    async def roll(self) -> None:
        """Restart the bridges with their sidecars, one after the other, as in a deploy."""
        for pod in self.chain.pods:
            self.urls.remove(pod.bridge.url)
            async with self.chain.rolled_over(pod):
                pass
            self.urls.append(pod.bridge.url)
        await asyncio.sleep(AFTER)

    async def are_connected(self) -> bool:
        return all(viewer.position for viewer in self.viewers)

    async def have_all(self) -> bool:
        """Whether every client has every event."""
        return unsettled(self.viewers) is None

    async def measured(self, name: str, during: asyncio.Task[None]) -> Phase:
        """Measure until the task has ended."""
        self._sample()
        before, start, opened = self._costs(), time.monotonic(), self.tally["connections"]
        self.late.clear()
        while not during.done():
            await asyncio.wait([during], timeout=SAMPLE)
            self._sample()
        during.result()
        late, seconds = self.late.copy(), time.monotonic() - start
        costs = {part: 1e6 * (used - before[part]) / len(late) for part, used in self._costs().items()}
        return Phase(name, seconds, late, costs, self.tally["connections"] - opened)

    def _sample(self) -> None:
        pids = [("bridges", pod.bridge.process.pid) for pod in self.chain.pods]
        pids += [("sidecars", pod.sidecar.process.pid) for pod in self.chain.pods]
        for part, pid in [*pids, ("Redis", self._redis)]:
            with contextlib.suppress(OSError):  # it has ended
                self._used[part, pid] = cpu_seconds([pid])

    def _costs(self) -> Counter[str]:
        total = Counter[str]()
        for (part, _), used in self._used.items():
            total[part] += used  # type: ignore[assignment]  # seconds
        return total


def _data(user: str, serial: int) -> bytes:
    """With sorted fields, as the sidecar writes it."""
    data = {"padding": "", "user_id": user, "verify": {"n": serial, "run": "", "user": user}}
    missing = BYTES - len(msgspec.json.encode(data))
    return msgspec.json.encode(data | {"padding": "x" * missing})


async def measure(kafka: Kafka, folder: Path, clients: int, seconds: float, drain_timeout: float = 20) -> str:
    """Print a row without and a row with a restart. Return what the oracle and the clients have counted."""
    settings = {"LOG_LEVEL": "info", "DRAIN_TIMEOUT": f"{drain_timeout:g}"}
    async with (
        Valkey(folder, appendonly="yes") as redis,
        Chain(kafka, folder, manifest=WITH_REDIS, replicas=2, REDIS_URL=redis.url, **settings) as chain,
        asyncio.TaskGroup() as tasks,
    ):
        rolling = Rolling(chain, int((await redis.info())["process_id"]), clients)
        living = [tasks.create_task(Client(rolling, viewer).live()) for viewer in rolling.viewers]
        await settled(rolling.are_connected)
        publishing = [tasks.create_task(rolling.publish(lane)) for lane in range(LANES)]
        await asyncio.sleep(AFTER)  # warm-up
        phases = {"": asyncio.sleep(seconds), ", rolling restart": rolling.roll()}
        for name, phase in phases.items():
            print(await rolling.measured(f"{clients:,}{name}", tasks.create_task(phase)), flush=True)
        rolling.stopped = True
        await asyncio.wait(publishing)
        await settled(rolling.have_all)
        for task in living:
            task.cancel()
    found = Counter[str]()
    for viewer in rolling.viewers:
        found.update(viewer.tally)
    assert not found.keys() - {"delivered", "twice in a change-over"}, found
    return f"{clients:,} clients: {dict(found)}, {dict(rolling.tally)}"


async def measure_all(sizes: list[int], seconds: float) -> None:
    remarks = []
    with tempfile.TemporaryDirectory() as name, Kafka(Path(name)) as kafka:
        for clients in sizes:
            folder = Path(name) / f"{clients}"
            folder.mkdir()
            remarks.append(await measure(kafka, folder, clients, seconds))
    print("", *remarks, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="*", default=[100, 500, 1_000])
    parser.add_argument("--seconds", type=float, default=30, help="seconds without a restart")
    asked = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, CPython {platform.python_version()}")
    print("| clients | events/s | mean, ms | p50 | p99 | max | µs: bridges + sidecars + Redis | reconnects |")
    print(f"|{'---|' * 8}")
    uvloop.run(measure_all(asked.clients, asked.seconds))


if __name__ == "__main__":
    main()
