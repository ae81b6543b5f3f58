"""The shipped alerts, evaluated by a real Prometheus that scrapes the replicas of a run."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.support.prometheus import BUSY, Prometheus
from wsbridge.cli.verify.viewer import Broken

JOB = "websocket-service"
FASTER = 1_000  # the durations in the rules are divided by this: a fault lasts seconds and not minutes
QUIET = 4.0  # seconds before the first fault in which no alert may fire; longer than the longest of their windows
PATIENCE = 60.0  # seconds that a fault lasts at most
UNWATCHED = 3.0  # seconds that it lasts without a Prometheus
OF_FAULT = {  # the alerts that must fire while the fault lasts; other faults may be too short for theirs
    "replica down": {"WsbridgeDown"},
    "replica short of CPU time": {"WsbridgeEventLoopSlow"},
    "replica nearly full": {"WsbridgeNearLimit"},
    "append of a replica fails": {"WsbridgeInternalErrors"},
    "log of a replica not read": {"WsbridgeLogLinesDropped"},
    "clients that stop reading": {"WsbridgeSlowReaders"},
    "clients that missed more than the history": {"WsbridgeGaps"},
    "event without a user": {"WsbridgeEventsDropped"},
    "nothing published": {"WsbridgeNoEvents"},
    "events that waited in Kafka": {"WsbridgeEventsSlowFastBurn", "WsbridgeEventsSlowSlowBurn"},
    "Redis frozen for longer than the history lasts": {"WsbridgeCheckFailing", "WsbridgeEventsRetried"},
    "Redis out of memory": {"WsbridgeEventsRetried"},
    "Redis far away": {"WsbridgeRedisSlow"},
}
FIRING = 'ALERTS{alertstate="firing"}'
_PAUSE = 0.1  # seconds between two looks


class Source(Protocol):
    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that the expression has now."""
        ...


class Alerts:
    """Without a Prometheus nothing is checked."""

    def __init__(self, prometheus: Source | None) -> None:
        self._prometheus = prometheus
        self._since = time.monotonic()

    @classmethod
    @contextlib.asynccontextmanager
    async def watching(cls, directory: Path, ports: Sequence[int]) -> AsyncIterator["Alerts"]:
        if shutil.which("prometheus") is None:
            yield cls(None)
            return
        async with Prometheus(directory, {JOB: list(ports)}, faster_by=FASTER) as prometheus:
            yield cls(prometheus)

    async def check_before(self) -> None:
        """Wait for the quiet time. Raises `Broken` if an alert has fired that a busy machine cannot cause."""
        if self._prometheus is None:
            return
        self._since = time.monotonic()
        await asyncio.sleep(QUIET)
        if early := await self._fired() - BUSY:
            raise Broken(f"fired before the first fault: {', '.join(sorted(early))}")
        self._since = time.monotonic()

    async def quiet(self, fault: str) -> None:
        """Wait until no earlier fault causes an alert of this one, pending ones among them, or for the quiet time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                while OF_FAULT[fault] & await self._named("ALERTS"):  # noqa: ASYNC110 - Prometheus has no events
                    await asyncio.sleep(_PAUSE)

    async def fire(self, fault: str, step: Callable[[], Awaitable[object]]) -> set[str]:
        """Repeat the step until all alerts of the fault have fired, and return them; none without a Prometheus.

        Raises `Broken` if that takes too long.
        """
        until = time.monotonic() + (UNWATCHED if self._prometheus is None else PATIENCE)
        missing = OF_FAULT[fault]
        while missing := missing - await self._named(FIRING):
            if time.monotonic() < until:
                await step()
            elif self._prometheus is None:
                return set()
            else:
                raise Broken(f"{', '.join(sorted(missing))} did not fire within {PATIENCE:g} s of the fault: {fault}")
        return OF_FAULT[fault]

    async def count(self, tally: Counter[str]) -> None:
        """Count the alerts that have fired since the first fault."""
        if self._prometheus is None:
            tally["alerts were not checked: prometheus is not installed"] += 1
            return
        tally.update(f"alert fired: {alert}" for alert in await self._fired())

    async def _fired(self) -> set[str]:
        """The alerts that have fired since the last check."""
        window = max(1, round(time.monotonic() - self._since))
        return await self._named(f"max_over_time({FIRING}[{window}s])")

    async def _named(self, expression: str) -> set[str]:
        """The alerts that the expression selects; none without a Prometheus."""
        found = await self._prometheus.query(expression) if self._prometheus else []
        return {series["metric"]["alertname"] for series in found}
