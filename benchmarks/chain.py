"""`make benchchain`: measures the latency from the backend's publish call to the socket, and how fast a backlog drains.

Kafka, sidecars, bridge, publisher and clients all run on this machine. Prints the table of docs/performance.md. In it,
µs are the CPU time for each event: of the bridge + of its sidecar. The run fails if an event does not arrive. It checks
no times.
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
from tests.support.deliveries import enveloped
from tests.support.running import until

USERS = 100  # one socket each
PADDING = "x" * 800  # with it an event is about 1 kB in Kafka
SLOW, FAST = 100, 500  # events a second while latency is measured; every setting can sustain them
PATIENCE = 120.0  # seconds until all events must have arrived
_TICKS = os.sysconf("SC_CLK_TCK")


class Setting(NamedTuple):
    """How the bridge subscribes. `messages` is the size of a bulk, or 0 for single deliveries. `wait` is in ms."""

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
    """One bridge with the subscription of the setting, and one socket for each user."""

    def __init__(self, kafka: Kafka, directory: Path, setting: Setting) -> None:
        super().__init__(kafka, directory, LOG_LEVEL="info", QUEUE_SIZE="100000")
        self.users = [f"user-{place}" for place in range(USERS)]
        self.late: list[float] = []  # seconds from the publish call to the socket, for each event that has arrived
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
            while len(self.late) < count:  # noqa: ASYNC110 - an Event would cost the listeners time
                await asyncio.sleep(0.01)
        assert len(self.late) == count

    async def steadily(self, rate: int, seconds: float) -> "Measured":
        """Publish single events through the backend's sidecar at `rate` events a second."""
        count = int(rate * seconds)
        self.late.clear()
        before, start = self._cpu(), time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for place, user in zip(range(count), itertools.cycle(self.users), strict=False):
                await asyncio.sleep(max(0.0, start + place / rate - time.monotonic()))
                calls.create_task(self.publish(user, at=time.monotonic(), padding=PADDING))
        await self.arrived(count)
        return self._measured(before, start)

    async def drained(self, count: int) -> "Measured":
        """Measure the delivery of a backlog: `count` events reach Kafka while the sidecar is frozen."""
        sidecar = self.pods[0].sidecar.process
        sidecar.freeze()
        producer = Producer({"bootstrap.servers": self.kafka.address, "linger.ms": 5})
        for place, user in zip(range(count), itertools.cycle(self.users), strict=False):
            data = json.dumps({"user_id": user, "at": 0, "padding": PADDING}, separators=(",", ":")).encode()
            producer.produce(TOPIC, enveloped(data, id=f"backlog-{place}"), user)
            producer.poll(0)
        producer.flush()
        self.late.clear()
        before, start = self._cpu(), time.monotonic()
        sidecar.thaw()
        await self.arrived(count)
        return self._measured(before, start)

    def _measured(self, before: tuple[float, float], start: float) -> "Measured":
        """The result since `start`, when the CPU times were `before`."""
        count, seconds = len(self.late), time.monotonic() - start
        bridge, sidecar = (1e6 * (now - then) / count for now, then in zip(self._cpu(), before, strict=True))
        return Measured(sorted(self.late), count / seconds, bridge, sidecar)

    def _cpu(self) -> tuple[float, float]:
        """Seconds of CPU time that the bridge and its sidecar have used."""
        pod = self.pods[0]
        return _used(pod.bridge.process.pid), _used(pod.sidecar.process.pid)


class Measured(NamedTuple):
    """`late` has the latencies in seconds, sorted. `bridge` and `sidecar` are µs of CPU time for each event."""

    late: list[float]
    rate: float
    bridge: float
    sidecar: float

    def percentile(self, part: float) -> str:
        return f"{1000 * self.late[int(len(self.late) * part)]:.0f}"

    @property
    def cost(self) -> str:
        return f"{self.bridge:.0f} + {self.sidecar:.0f}"


def _used(pid: int) -> float:
    """Seconds of CPU time."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def measured(setting: Setting, seconds: float, count: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as directory, Kafka(Path(directory)) as kafka:
        async with Bench(kafka, Path(directory), setting) as bench, asyncio.TaskGroup() as group:
            listening = [group.create_task(bench.listen(user)) for user in bench.users]
            await until(lambda: bench.connected == USERS)
            await bench.steadily(SLOW, 2)  # warm-up
            slow = await bench.steadily(SLOW, seconds)
            fast = await bench.steadily(FAST, seconds)
            drained = await bench.drained(count)
            for task in listening:
                task.cancel()
    cells = [str(setting)]
    cells += [f"{rate.percentile(0.5)} | {rate.percentile(0.99)} | {rate.cost}" for rate in (slow, fast)]
    cells += [f"{drained.rate:,.0f} | {drained.cost}"]
    return f"| {' | '.join(cells)} |"


async def main(settings: Sequence[Setting], seconds: float, count: int) -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, CPython {platform.python_version()}")
    steady = " | ".join(f"{rate} a second: p50, ms | p99 | µs" for rate in (SLOW, FAST))
    print(f"| subscription | {steady} | backlog: events a second | µs |")
    print(f"|{'---|' * 9}")
    for setting in settings:
        print(await measured(setting, seconds, count), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="seconds at each of the two rates")
    parser.add_argument("--events", type=int, default=10_000, help="events in the backlog")
    parser.add_argument("--only", type=int, nargs="*", help="settings by their place in the table")
    asked = parser.parse_args()
    chosen = SETTINGS if asked.only is None else [SETTINGS[place] for place in asked.only]
    asyncio.run(main(chosen, asked.seconds, asked.events))
