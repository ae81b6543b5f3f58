"""`python -m tests.siege`: a calm phase, the siege, and a look at what is left ten seconds later.

Exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.command import LONGEST_LINE
from tests.support.running import ADMIN_TOKEN, APP_TOKEN, ROOT, SECRET, bulk_bytes, enveloped, variables

MOST_P99 = 0.1  # seconds
LONGEST_PAUSE = 0.25  # seconds
LAST_EVENTS = 1.0  # seconds after the last event for its bytes to reach the clients' process
AFTERWARDS = 10.0  # seconds after which nothing of the bad peers may be left
PROBE = 0.02  # seconds between two looks at /healthz
BULK, BULKS = 50, 10.0  # events in a delivery, deliveries a second
LARGE, LARGES = 50_000, 2.0  # bytes of an event for the peers that never read, and such events a second
MORE_MEMORY = 64  # MiB that may stay in use
LEAST_FLOOD = 0.9  # of the planned rate: the flood shares the machine with the bridge
PATIENCE = 180.0  # seconds, for each step of the setup


@dataclass(frozen=True)
class Plan:
    """The scale; `bad` is kind → number of peers, `handshakes` are bad ones a second."""

    good: int
    seconds: float
    calm: float
    bad: dict[str, int]
    handshakes: int
    judges_time: bool


EACH = ("dripping", "pinging", "fragmenting", "talking", "garbage", "garbled", "half_closed", "resetting")
FULL = Plan(
    5_000, 40.0, 10.0, {"silent": 500, "unread": 200, "bombing": 4, **dict.fromkeys(EACH, 50)},
    handshakes=2_000, judges_time=True,
)  # fmt: skip
SHORT = Plan(
    300, 6.0, 2.0, {"silent": 50, "unread": 20, "bombing": 1, **dict.fromkeys(EACH, 4)},
    handshakes=300, judges_time=False,  # other tests run beside it
)  # fmt: skip


@dataclass
class State:
    """What the bridge holds in memory."""

    connections: int
    descriptors: int
    tasks: int
    mebibytes: int


@dataclass
class Phase:
    """A period, on the monotonic clock that all processes share."""

    name: str
    began: float = 0.0
    ended: float = 0.0
    probes: list[float] = field(default_factory=list)  # seconds that each GET of /healthz took
    cpu: dict[str, float] = field(default_factory=dict)  # process → its share of a core

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def __contains__(self, at: float) -> bool:
        return self.began <= at < self.ended


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bridge:
    """One real bridge, whose log is not read."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.port = port
        self._http = http
        self.url = f"http://127.0.0.1:{port}"

    async def state(self) -> State:
        async with self._http.get(f"{self.url}/stats", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as answer:
            stats = await answer.json()
        async with self._http.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as answer:
            text = await answer.text()
        tasks = next(line.split()[1] for line in text.splitlines() if line.startswith("wsbridge_tasks "))
        proc = Path(f"/proc/{self.process.pid}")
        resident = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return State(
            connections=stats["total_connections"],
            descriptors=len(list((proc / "fd").iterdir())),
            tasks=int(float(tasks)),
            mebibytes=int(resident.split()[1]) // 1024,
        )

    async def post(self, *events: bytes) -> None:
        """Deliver a bulk as a sidecar does: again until all of it is SUCCESS."""
        headers = {"content-type": "application/json", "dapr-api-token": APP_TOKEN}
        while True:
            async with self._http.post(
                f"{self.url}/events/task-updates", data=bulk_bytes(*events), headers=headers
            ) as answer:
                statuses = [each["status"] for each in (await answer.json())["statuses"]]
            if "DROP" in statuses:
                raise RuntimeError("the bridge drops an event of the siege; no delivery will ever be taken")
            if set(statuses) == {"SUCCESS"}:
                return
            await asyncio.sleep(PROBE)


class Publisher:
    """Publishes events for good clients, each user's in order, and large ones for the peers that never read."""

    def __init__(self, bridge: Bridge, plan: Plan) -> None:
        self.published: Counter[str] = Counter()
        self._bridge = bridge
        self._plan = plan
        self._next = 0
        self.stopped = False

    async def small(self) -> None:
        started, bulks = time.monotonic(), 0
        while not self.stopped:
            await self._bridge.post(*(self._event() for _ in range(BULK)))
            bulks += 1
            await asyncio.sleep(max(0.0, started + bulks / BULKS - time.monotonic()))

    async def large(self) -> None:
        users = [f"unread-{number}" for number in range(self._plan.bad.get("unread", 0))]
        serial = 0
        while users and not self.stopped:
            serial += 1
            data = json.dumps({"user_id": users, "text": "x" * LARGE}).encode()
            await self._bridge.post(enveloped(data, id=f"large-{serial}", source="siege"))
            await asyncio.sleep(1 / LARGES)  # the load is a rate: so many large events a second

    def _event(self) -> bytes:
        user = f"good-{self._next % self._plan.good}"
        self._next += 1
        self.published[user] += 1
        number = self.published[user]
        data = json.dumps({"user_id": user, "n": number, "sent": time.monotonic(), "text": "x" * 300}).encode()
        return enveloped(data, id=f"{user}-{number}", source="siege")


async def probing(bridge: Bridge, probes: list[float]) -> None:
    """Measure how long the bridge's loop is busy: /healthz needs no token and almost no work."""
    async with aiohttp.ClientSession() as http:
        while True:
            started = time.monotonic()
            async with http.get(f"{bridge.url}/healthz") as answer:
                await answer.read()
            probes.append(time.monotonic() - started)
            await asyncio.sleep(PROBE)


@contextlib.asynccontextmanager
async def running(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the siege; killed at the end if it still runs."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, env=environ, limit=64 * LONGEST_LINE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> bytes:
    """End a process; return its output."""
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate(b"")
    return out


@contextlib.asynccontextmanager
async def bridged() -> AsyncIterator[Bridge]:
    """A bridge in production mode; its log is not read after the first line."""
    reading, writing = os.pipe()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    settings = variables(
        {
            "PORT": "0",
            "JWT_SECRET": SECRET,
            "METRICS_TOKEN": ADMIN_TOKEN,
            "MAX_CONNECTIONS": "10000",
            "HISTORY_SIZE": "1",  # growing histories would hide the memory that bad peers leave in use
            "TRUSTED_PROXIES": "10.0.0.0/8",  # not loopback, so that each bad peer has its own budget
        }
    )
    with os.fdopen(reading, "rb", buffering=0) as log_of_it, os.fdopen(writing, "wb") as its_stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wsbridge", "serve", env=environ | settings, stdout=its_stdout.fileno()
        )
        its_stdout.close()
        try:
            line = b"{}"
            while "ports" not in (found := json.loads(line)):
                line = await asyncio.to_thread(log_of_it.readline)
            async with aiohttp.ClientSession() as http:
                yield Bridge(process, found["ports"][0], http)
        finally:
            process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def phase(name: str, bridge: Bridge, others: dict[str, int]) -> AsyncIterator[Phase]:
    """Probe for the whole phase; `others` are the processes that load the machine beside the bridge."""
    pids = {"bridge": bridge.process.pid, **others, "this": os.getpid()}
    found = Phase(name, began=time.monotonic())
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    prober = asyncio.create_task(probing(bridge, found.probes))
    yield found
    prober.cancel()
    await asyncio.gather(prober, return_exceptions=True)
    found.ended = time.monotonic()
    found.cpu = {name: (cpu_seconds(pid) - before[name]) / found.seconds for name, pid in pids.items()}


async def besieged(plan: Plan) -> list[str]:
    """Run the plan and print the measurements; return the broken promises."""
    async with contextlib.AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(bridged())
        good = await stack.enter_async_context(running("tests.siege.good", str(bridge.port), str(plan.good)))
        publisher = Publisher(bridge, plan)
        publishing = [asyncio.create_task(work()) for work in (publisher.small, publisher.large)]
        async with phase("calm", bridge, {"good": good.pid}) as calm:
            await asyncio.sleep(plan.calm)
        before = await bridge.state()
        async with contextlib.AsyncExitStack() as bad_ones:
            bad = await bad_ones.enter_async_context(running("tests.siege.bad", str(bridge.port), json.dumps(plan.bad)))
            flood = await bad_ones.enter_async_context(
                running("tests.siege.flood", str(bridge.port), str(plan.handshakes))
            )
            async with phase("siege", bridge, {"good": good.pid, "bad": bad.pid, "flood": flood.pid}) as siege:
                await asyncio.sleep(plan.seconds)
            refused = float(await ended(flood))
            during = await bridge.state()
            await ended(bad)
        await asyncio.sleep(AFTERWARDS)
        after = await bridge.state()
        publisher.stopped = True
        await asyncio.gather(*publishing)
        await asyncio.sleep(LAST_EVENTS)
        seen = json.loads(await ended(good))
    for moment, state in (("before", before), ("during", during), ("after", after)):
        print(f"{moment:8}{state}")
    print(f"flood   {refused:.0f} bad handshakes a second of {plan.handshakes} planned")
    broken = judged(plan, publisher.published, seen, [calm, siege], before, after)
    if plan.judges_time and refused < LEAST_FLOOD * plan.handshakes:
        broken.append(f"the flood reached {refused:.0f} handshakes a second: the figures are those of a smaller one")
    return broken


def judged(
    plan: Plan, published: Counter[str], seen: dict[str, Any], phases: list[Phase], before: State, after: State
) -> list[str]:
    """The promises that were broken."""
    broken = list(seen["broken"])
    missing = {user: count for user, count in published.items() if seen["received"].get(user, 0) != count}
    if missing:
        broken.append(f"{len(missing)} users lost events, such as {dict(list(missing.items())[:3])}")
    print(f"events  {published.total()} published, {sum(seen['received'].values())} received; "
          f"{seen['refused']} good handshakes had to be repeated")  # fmt: skip
    for each in phases:
        latencies = sorted(seconds for sent, seconds in seen["latencies"] if sent in each)
        p50, p99, worst = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99, 0.9999))
        pause = max(each.probes)
        print(f"{each.name:8}latency p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, worst {worst * 1e3:.0f} ms; "
              f"/healthz at most {pause * 1e3:.0f} ms in {len(each.probes)} probes; "
              f"of a core: {', '.join(f'{name} {part:.0%}' for name, part in each.cpu.items())}")  # fmt: skip
        if plan.judges_time and p99 > MOST_P99:
            broken.append(f"{each.name}: p99 is {p99 * 1e3:.0f} ms, at most {MOST_P99 * 1e3:.0f} are promised")
        if plan.judges_time and pause > LONGEST_PAUSE:
            broken.append(
                f"{each.name}: a pause of {pause * 1e3:.0f} ms, {LONGEST_PAUSE * 1e3:.0f} at most are promised"
            )
    if after.connections != before.connections:
        broken.append(f"{after.connections} sessions are left, there were {before.connections}")
    if after.descriptors > before.descriptors + 2:
        broken.append(f"{after.descriptors} descriptors are left, there were {before.descriptors}")
    if after.tasks > before.tasks + 2:
        broken.append(f"{after.tasks} tasks are left, there were {before.tasks}")
    if after.mebibytes > before.mebibytes + MORE_MEMORY:
        broken.append(f"{after.mebibytes} MiB are left, there were {before.mebibytes}")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a twentieth of it, and times are not judged")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}")
    broken = asyncio.run(besieged(SHORT if args.short else FULL))
    for line in broken:
        print(f"BROKEN  {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
