"""Two replicas, a slow link to Redis and the largest allowed data: what must hold at any scale."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.deliveries import bulk_of, cloud_event
from tests.support.running import ROOT, receive, until_told
from tests.support.slow_link import LinkProcess
from tests.support.spawned import Spawned

LATE = 2.0  # seconds that an event of another user may take at most
MEMORY = 1 << 30  # bytes of memory of a replica: the limit in k8s/websocket-service.yaml
PACE = 0.2  # seconds between a bystander's events


@dataclass(frozen=True)
class Scale:
    rate: float  # bytes a second, in each direction
    users: int  # of one event
    event: int  # bytes
    bulk: int  # events of that size in one delivery
    tabs: int  # that resume
    history: int  # events that each of them missed
    missed: int  # bytes of each


SMALL = Scale(rate=1e6, users=200, event=200_000, bulk=15, tabs=5, history=20, missed=100_000)
FULL = Scale(rate=5e6, users=1_000, event=1_048_576, bulk=100, tabs=20, history=100, missed=500_000)


class Replicas:
    """Two replicas: one gets the deliveries, the other has the clients."""

    def __init__(self, scale: Scale, link: LinkProcess, taking: Spawned, serving: Spawned) -> None:
        self.scale = scale
        self.link = link
        self.taking = taking
        self.serving = serving

    async def everybody_gets_the_largest_event(self) -> None:
        users = [f"u{n}" for n in range(self.scale.users)]
        crowd = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.slow_crowd", self.serving.url, f"{len(users)}", f"{self.scale.event}",
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert crowd.stdout is not None
        try:
            assert await crowd.stdout.readline() == b"open\n"
            up, down = await self.link.bytes()
            await self._deliver([event(users, 1, self.scale.event)])
            assert await crowd.stdout.readline() == b"%d\n" % len(users)
        finally:
            with contextlib.suppress(ProcessLookupError):
                crowd.kill()
            await crowd.wait()
        overhead = 2_000 * len(users) + 100_000
        up_after, down_after = await self.link.bytes()
        assert up_after - up < self.scale.event + overhead
        assert down_after - down < self.scale.event + overhead

    async def the_largest_bulk_arrives(self) -> None:
        ws, _ = await self.serving.opened("bulk")
        events = [event(["bulk"], n, self.scale.event) for n in range(1, self.scale.bulk + 1)]
        _, found = await asyncio.gather(self._deliver(events), numbers(ws, self.scale.bulk))
        assert found == list(range(1, self.scale.bulk + 1))
        await ws.close()

    async def the_largest_bulk_arrives_once_if_its_sidecar_gives_up_sooner(self, patience: float) -> None:
        """`patience` is the sidecar's time-out in seconds, shorter than the append: docs/dapr.md."""
        ws, _ = await self.serving.opened("bulk")
        events = [event(["bulk"], n, self.scale.event) for n in range(1, self.scale.bulk + 1)]
        given_up, found = await asyncio.gather(self._deliver(events, patience), numbers(ws, self.scale.bulk))
        assert given_up
        assert found == list(range(1, self.scale.bulk + 1))
        assert await self.taking.publish({"user_id": "bulk", "n": 0}) == "SUCCESS"
        assert await numbers(ws, 1) == [0]  # and no duplicate before it
        await ws.close()

    async def tabs_resume_a_long_history(self) -> None:
        ws, hello = await self.serving.opened("tabs")
        await ws.close()
        await self._deliver([event(["tabs"], n, self.scale.missed) for n in range(1, self.scale.history + 1)])
        _, down = await self.link.bytes()
        tabs = [self._resumed("tabs", hello["last_event_id"]) for _ in range(self.scale.tabs)]
        assert await asyncio.gather(*tabs) == [list(range(1, self.scale.history + 1))] * self.scale.tabs
        _, down_after = await self.link.bytes()
        assert down_after - down < 2 * self.scale.history * self.scale.missed

    @contextlib.asynccontextmanager
    async def nobody_else_waits(self) -> AsyncIterator[None]:
        """Publish events of another user meanwhile, one after the other."""
        ws, _ = await self.serving.opened("bystander")
        latencies: list[float] = []

        async def watch() -> None:
            while True:
                started = time.monotonic()
                assert await self.taking.publish({"user_id": "bystander", "n": len(latencies)}) == "SUCCESS"
                assert (await receive(ws))["event"]["n"] == len(latencies)
                latencies.append(time.monotonic() - started)
                await asyncio.sleep(PACE)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            results = await asyncio.gather(watching, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError], results
        assert max(latencies) < LATE, max(latencies)
        for replica in (self.taking, self.serving):
            assert [line for line in replica.lines if line["event"] in ("redis.unavailable", "internal.error")] == []
            assert peak_memory(replica) < MEMORY, peak_memory(replica)

    async def _resumed(self, user: str, after: str) -> list[int]:
        ws, hello = await self.serving.opened(user, last_event_id=after)
        assert hello["recovered"] is True
        return await numbers(ws, self.scale.history)

    async def _deliver(self, events: Sequence[Any], patience: float | None = None) -> int:
        """Deliver again as a sidecar does, until all is accepted. Return how often it gave up before."""
        single = len(events) == 1
        body = json.dumps(events[0] if single else bulk_of(*events)).encode()
        kind = "application/cloudevents+json" if single else "application/json"
        given_up = 0
        for _ in range(20):
            try:
                async with asyncio.timeout(patience):
                    answer = await self.taking.post(body, kind)
            except TimeoutError:
                given_up += 1
                continue
            if all(each["status"] == "SUCCESS" for each in answer.get("statuses", [answer])):
                return given_up
        raise AssertionError("it is retried for ever")


def event(users: Sequence[str], n: int, size: int) -> dict[str, Any]:
    """An event with exactly this many bytes of data."""
    data = {"user_id": list(users), "n": n, "x": ""}
    data["x"] = "x" * (size - len(json.dumps(data)))
    return cloud_event(data)


async def numbers(ws: aiohttp.ClientWebSocketResponse, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        message = await receive(ws)
        assert message["type"] == "task_update", message["type"]
        found.append(message["event"]["n"])
    return found


def peak_memory(replica: Spawned) -> int:
    """The highest memory use of the process so far, in bytes."""
    status = Path(f"/proc/{replica.process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@contextlib.asynccontextmanager
async def replicas(scale: Scale, port: int, spawn: Callable[..., Awaitable[Spawned]]) -> AsyncIterator[Replicas]:
    many = aiohttp.TCPConnector(limit=0)  # any number of sockets at once
    async with LinkProcess(port, scale.rate) as link, aiohttp.ClientSession(connector=many) as http:
        taking, serving = await spawn(REDIS_URL=link.url), await spawn(REDIS_URL=link.url)
        serving.http = http
        for replica in (taking, serving):
            await until_told(partial(_is_ready, replica))
        yield Replicas(scale, link, taking, serving)


async def _is_ready(replica: Spawned) -> bool:
    return bool((await replica.get("/health"))[1]["checks"]["redis"] == "ok")
