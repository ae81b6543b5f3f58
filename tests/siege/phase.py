"""A period of a siege, and its measurements."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.siege.bridge import PROBE, Bridge


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
