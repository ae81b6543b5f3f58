"""The shipped alerts, evaluated by a real Prometheus that scrapes the replicas of a run."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.support.prometheus import BUSY, Prometheus
from wsbridge.cli.verify.viewer import Broken

JOB = "websocket-service"
FASTER = 1_000  # the durations in the rules are divided by this: a fault lasts seconds and not minutes
QUIET = 4.0  # seconds before the first fault in which no alert may fire; longer than the longest of their windows
OUTAGE = "replica down for two seconds"  # a shorter one may fall between two scrapes, or end before the alert
DOWN, CHECK, RETRIED = "WsbridgeDown", "WsbridgeCheckFailing", "WsbridgeEventsRetried"
OF_FAULT = {  # the alerts that must fire. Other faults may be too short for theirs
    OUTAGE: {DOWN},
    "Redis frozen for longer than the history lasts": {CHECK, RETRIED},
    "Redis out of memory": {RETRIED},
    "event without a user": {"WsbridgeEventsDropped"},
    "nothing published": {"WsbridgeNoEvents"},
    "events that waited in Kafka": {"WsbridgeEventsSlowFastBurn", "WsbridgeEventsSlowSlowBurn"},
}


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

    async def check_after(self, tally: Counter[str]) -> None:
        """Count the alerts that have fired. Raises `Broken` if one is missing for an injected fault."""
        if self._prometheus is None:
            tally["alerts were not checked: prometheus is not installed"] += 1
            return
        fired = await self._fired()
        tally.update(f"alert fired: {alert}" for alert in fired)
        for fault, alerts in OF_FAULT.items():
            if tally[f"fault: {fault}"] and (missing := alerts - fired):
                raise Broken(f"{', '.join(sorted(missing))} did not fire, although there was the fault: {fault}")

    async def _fired(self) -> set[str]:
        """The alerts that have fired since the last check."""
        assert self._prometheus is not None
        window = max(1, round(time.monotonic() - self._since))
        found = await self._prometheus.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{window}s])')
        return {series["metric"]["alertname"] for series in found}
