"""A simulation of a million users in one process: real sessions, registry, histories and bus, but no sockets.

`python -m benchmarks.million` shows whether the bridge's own data structures grow in proportion: CPU time of an event,
of an idle connection, memory of a user, and the longest pause of the loop. It shows nothing about sockets, the kernel,
HTTP, handshakes or Redis. It fails if a user does not get exactly the events of this user, in order.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

import uvloop

from benchmarks.pinned import memory_kilobytes
from benchmarks.results import machine
from wsbridge.app import Bridge
from wsbridge.broker.base import STORED
from wsbridge.config.env import load
from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.frames import text_frame
from wsbridge.core.messages import connected, update
from wsbridge.sessions.session import Session
from wsbridge.telemetry.log import configure

STEPS = (1_000, 10_000, 100_000, 1_000_000)
GROUP = 100  # users, and then events, that are handled before other tasks run
EVENTS = 200_000  # at each step
IDLE = 10.0  # seconds
LOOK = 0.005  # seconds between two looks at the loop
SETTINGS = {"WSBRIDGE_HISTORY_MAX_BYTES": "8000000000", "WSBRIDGE_STATIONS_MAX_BYTES": "0"}
MARK = b'"mark":'
HEADS = [
    "users", "KB a new user", "to connect, µs", "longest pause, ms", "idle, µs a user and second", "longest pause, ms",
    "an event, µs", "longest pause, ms", "garbage collection, ms",
]  # fmt: skip


class Receiver:
    """A connection whose peer takes everything at once, and checks the number of each event."""

    __slots__ = ("got", "session")

    transport_name = "none"
    ping_interval = None
    answers = False  # these peers answer no pings
    is_paused = False

    def __init__(self) -> None:
        self.got = 0  # events
        self.session: Session | None = None  # keeps it alive, as a connection does

    def update(self, entry: Entry) -> bytes:
        return text_frame(update(entry))

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        return text_frame(payload)

    def write(self, data: bytes | memoryview) -> None:
        for text in bytes(data).split(MARK)[1:]:
            self.got += 1
            mark = b"%d:%d" % (id(self), self.got)
            if not text.startswith(b'"%b"' % mark):
                raise SystemExit(f"expected {mark!r}, got {text[:40]!r}")

    def unsent(self) -> int:
        return 0

    def ping(self) -> None: ...

    def wake(self) -> None: ...

    def abort_later(self, *, soon: bool = False) -> None: ...

    def send_close(self, close: Close) -> None:
        raise SystemExit(f"a session was closed: {close}")

    def abort(self) -> None: ...


class Spent(NamedTuple):
    """µs of CPU time, and the longest pause of the loop in ms."""

    cpu: float
    pause: float


class Simulation:
    """All users of one bridge."""

    def __init__(self) -> None:
        self.bridge = Bridge(load(SETTINGS)[0])
        del self.bridge._jobs["garbage"]  # it looks once a minute; `collect` does so at its own time
        self.receivers: list[Receiver] = []
        self._published: list[int] = []  # events of each user
        self._dice = Random(1)
        self._worst = 0.0  # seconds
        self._count = 0

    async def watch(self) -> None:
        """Note the longest pause of the loop."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(LOOK)
            self._worst = max(self._worst, time.perf_counter() - before - LOOK)

    async def grow(self, users: int) -> Spent:
        """Let users connect until there are this many."""
        start = len(self.receivers)
        with self._spent(users - start) as spent:
            for number in range(start, users):
                await self._connect(f"user-{number}")
                if number % GROUP == 0:
                    await asyncio.sleep(0)
        return spent[0]

    async def publish(self, events: int) -> Spent:
        """Publish in bulks, each for random users."""
        with self._spent(events) as spent:
            for _ in range(events // GROUP):
                bulk = [self._event(self._dice.randrange(len(self.receivers))) for _ in range(GROUP)]
                outcomes = await self.bridge.broker.append(bulk)
                if any(outcome is not STORED for outcome in outcomes):
                    raise SystemExit(f"refused: {outcomes}")
                while not self.bridge.bus.is_empty():  # noqa: ASYNC110 - the bus has no event for it
                    await asyncio.sleep(0)
        wrong = sum(one.got != count for one, count in zip(self.receivers, self._published, strict=True))
        if wrong:
            raise SystemExit(f"{wrong} users did not get all of their events")
        return spent[0]

    async def rest(self, seconds: float) -> Spent:
        """Only heartbeats. The CPU time is that of a user and a second."""
        with self._spent(len(self.receivers) * seconds) as spent:
            await asyncio.sleep(seconds)
        return spent[0]

    def collect(self) -> float:
        """Let the bridge collect garbage, as once a minute. Returns the pause in ms."""
        start = time.perf_counter()
        self.bridge.garbage.look()
        return 1e3 * (time.perf_counter() - start)

    async def _connect(self, user: str) -> None:
        """As `SessionOpener.open` does, without a request."""
        bridge, receiver = self.bridge, Receiver()
        session = Session(user, receiver, bridge._opener._shared, now=time.monotonic(), peer="127.0.0.1", agent="")
        receiver.session = session
        bridge.registry.add(session)
        await bridge.broker.follow(user)
        resume = await bridge.broker.resume(user, None, wait=False)
        session.attach(resume, connected(user, session.id, resume.position, 25.0, resume.recovered, None))
        self.receivers.append(receiver)
        self._published.append(0)

    def _event(self, place: int) -> Event:
        self._count += 1
        self._published[place] += 1
        mark = b'{"mark":"%d:%d"%b}' % (id(self.receivers[place]), self._published[place], b',"p":"%b"' % (b"x" * 200))
        return Event((f"user-{place}",), mark, "task_update", str(self._count), f"k{self._count}")

    @contextmanager
    def _spent(self, units: float) -> Iterator[list[Spent]]:
        found: list[Spent] = []
        self._worst, cpu = 0.0, time.process_time()
        yield found
        found.append(Spent(1e6 * (time.process_time() - cpu) / units, 1e3 * self._worst))


async def simulate(users: list[int], events: int, seconds: float) -> None:
    simulation = Simulation()
    simulation.bridge.garbage.freeze()
    async with simulation.bridge.running():
        watching = asyncio.create_task(simulation.watch())
        for count in users:
            before, start = memory_kilobytes([os.getpid()]), len(simulation.receivers)
            grown = await simulation.grow(count)
            memory = (memory_kilobytes([os.getpid()]) - before) / (count - start)
            idle = await simulation.rest(seconds)
            busy = await simulation.publish(events)
            cells = [f"{count:,}", f"{memory:.2f}", f"{grown.cpu:.1f}", f"{grown.pause:.0f}", f"{idle.cpu:.2f}"]
            cells += [f"{idle.pause:.0f}", f"{busy.cpu:.1f}", f"{busy.pause:.0f}", f"{simulation.collect():.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
        watching.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--users", type=int, nargs="*", default=list(STEPS))
    parser.add_argument("--events", type=int, default=EVENTS, help="at each step")
    parser.add_argument("--seconds", type=float, default=IDLE, help="idle, at each step")
    asked = parser.parse_args()
    configure("warning", "json", sys.stderr.buffer)
    print(", ".join(f"{name} {text}" for name, text in machine().items()), "\n")
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    uvloop.run(simulate(asked.users, asked.events, asked.seconds))


if __name__ == "__main__":
    main()
