"""From the backend's publish call to the socket: how late an event is, and how fast a backlog drains.

Real Kafka, sidecars and bridge on this machine, which also runs the publisher and the clients: `make bench`.
Prints the tables of docs/performance.md. Asserts that everything arrives, and nothing about time.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from tests.e2e.chain import Chain
from tests.e2e.kafka import TOPIC, Kafka
from tests.support import enveloped, until

USERS = 100  # one socket each
PADDING = "x" * 800  # with it an event is about 1 kB in Kafka
RATE = 100  # events a second while latency is measured: a tenth of what the slowest setting can do
PATIENCE = 120.0  # seconds that anything may take
_TICKS = os.sysconf("SC_CLK_TCK")


class Setting(NamedTuple):
    """How the bridge subscribes; no `messages` is single deliveries, no `wait` is milliseconds that Dapr chooses."""

    messages: int = 0
    wait: int = 0
    raw: bool = True

    def __str__(self) -> str:
        how = f"bulk, {self.messages} or {self.wait:,} ms" if self.messages else "single"
        return how if self.raw else f"{how}, decoded by the sidecar"

    @property
    def subscription(self) -> dict[str, Any]:
        bulk = {"enabled": True, "maxMessagesCount": self.messages, "maxAwaitDurationMs": self.wait}
        return (
            {"pubsubname": "pubsub-kafka", "topic": TOPIC, "route": f"/events/{TOPIC}"}
            | ({"metadata": {"rawPayload": "true"}} if self.raw else {})
            | ({"bulkSubscribe": bulk} if self.messages else {})
        )


SETTINGS = [
    Setting(),
    *(Setting(100, wait) for wait in (1, 5, 10, 20, 50, 200)),
    *(Setting(messages, 20) for messages in (10, 1_000)),
    *(Setting(messages, 20 if messages else 0, raw=False) for messages in (0, 100)),
]


class Bench(Chain):
    """One bridge that subscribes like that, and a socket of each user."""

    def __init__(self, kafka: Kafka, directory: Path, setting: Setting) -> None:
        super().__init__(kafka, directory, LOG_LEVEL="info", QUEUE_SIZE="100000")
        self.users = [f"user-{place}" for place in range(USERS)]
        self.late: list[float] = []  # seconds from the call to the socket, of each event that has arrived
        self.connected = 0
        self._setting = setting

    def _add_pod(self, name: str) -> None:
        super()._add_pod(name)
        self.pods[-1].bridge._command = ["-m", "benchmarks.subscribed", json.dumps(self._setting.subscription)]

    async def listen(self, user: str) -> None:
        tab, _ = await self.bridges[0].opened(user)
        self.connected += 1
        async for message in tab:
            sent = message.data.partition('"at":')[2].partition(",")[0]
            self.late.append(time.monotonic() - float(sent))

    async def arrived(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.late) < count:  # noqa: ASYNC110 - listeners have enough to do
                await asyncio.sleep(0.01)
        assert len(self.late) == count

    async def steadily(self, seconds: float) -> list[float]:
        """Events one by one through the backend's sidecar, at `RATE`; how late each was, in order of that."""
        start, count = time.monotonic(), int(RATE * seconds)
        self.late.clear()
        async with asyncio.TaskGroup() as calls:
            for place, user in zip(range(count), itertools.cycle(self.users), strict=False):
                await asyncio.sleep(max(0.0, start + place / RATE - time.monotonic()))
                calls.create_task(self.publish(user, at=time.monotonic(), padding=PADDING))
        await self.arrived(count)
        return sorted(self.late)

    async def drained(self, count: int) -> "Drained":
        """All at once into Kafka, as a sidecar puts them there."""
        producer = Producer({"bootstrap.servers": self.kafka.address, "linger.ms": 5})
        self.late.clear()
        before, start = self._cpu(), time.monotonic()
        for place, user in zip(range(count), itertools.cycle(self.users), strict=False):
            data = json.dumps({"user_id": user, "at": start, "padding": PADDING}, separators=(",", ":")).encode()
            producer.produce(TOPIC, enveloped(data, id=f"{start}-{place}"), user)
            producer.poll(0)
            if place % 1_000 == 0:
                await asyncio.sleep(0)
        await asyncio.to_thread(producer.flush)
        await self.arrived(count)
        seconds = time.monotonic() - start
        bridge, sidecar = (1e6 * (now - then) / count for now, then in zip(self._cpu(), before, strict=True))
        return Drained(count / seconds, bridge, sidecar)

    def _cpu(self) -> list[float]:
        """Seconds that the bridge and its sidecar have used."""
        found = []
        for process in (self.pods[0].bridge.process, self.pods[0].sidecar.process):
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12])) / _TICKS)
        return found


class Drained(NamedTuple):
    """Events a second, and microseconds of a core for each."""

    rate: float
    bridge: float
    sidecar: float


async def measured(setting: Setting, seconds: float, count: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as directory, Kafka(Path(directory)) as kafka:
        async with Bench(kafka, Path(directory), setting) as bench, asyncio.TaskGroup() as group:
            listening = [group.create_task(bench.listen(user)) for user in bench.users]
            await until(lambda: bench.connected == USERS)
            await bench.steadily(2)  # whatever is slow the first time
            late = await bench.steadily(seconds)
            drained = await bench.drained(count)
            for task in listening:
                task.cancel()
    percentiles = " | ".join(f"{1000 * late[int(len(late) * part)]:.0f}" for part in (0.5, 0.95, 0.99))
    return (
        f"| {setting} | {percentiles} | {drained.rate:,.0f} | {drained.bridge:.0f} | {drained.sidecar:.0f} |"
        f" {os.getloadavg()[0]:.1f} |"
    )


async def main(settings: Sequence[Setting], seconds: float, count: int) -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, CPython {platform.python_version()}")
    print("| subscription | p50, ms | p95 | p99 | drained, events/s | bridge, µs of a core an event | sidecar | load |")
    print("|---|---|---|---|---|---|---|---|")
    for setting in settings:
        print(await measured(setting, seconds, count), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of the steady rate, for each setting")
    parser.add_argument("--events", type=int, default=20_000, help="of the backlog")
    parser.add_argument("--only", type=int, nargs="*", help="settings by their place in the table")
    asked = parser.parse_args()
    chosen = SETTINGS if asked.only is None else [SETTINGS[place] for place in asked.only]
    asyncio.run(main(chosen, asked.seconds, asked.events))
