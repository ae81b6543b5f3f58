"""Keeps the pauses of the garbage collector short.

CPython walks all objects of a generation while nothing else runs: 300 ms for the 300,000 objects of 15,000 connections.
Ended connections are freed by their reference counts, so the collector is needed for a few cycles only, most of which
are young. Therefore objects that survive a collection of the middle generation are not looked at again.
"""

import asyncio
import gc
import time

from wsbridge.telemetry.log import log

# Allocations before a collection of the young generation, and young ones before a middle one, which walks at most
# their product: 15,000 objects. The third number lets the collector never begin a full collection by itself.
THRESHOLDS = (5_000, 3, 1_000_000_000)
LOOK = 60.0  # seconds between two looks at the number of frozen objects: counting a million takes milliseconds
SPARE = 500_000  # objects: about 100 MB


class Garbage:
    """Freezes what survives. Collects everything if the number of frozen objects has doubled, and `SPARE` more."""

    def __init__(self) -> None:
        self._limit = 0

    def freeze(self) -> None:
        """Freeze all objects of the start. Must be called once, before connections are accepted or soon after."""
        self._collect()
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(_freeze_survivors)

    async def watch(self) -> None:
        try:
            while True:
                await asyncio.sleep(LOOK)
                self.look()
        finally:
            if _freeze_survivors in gc.callbacks:
                gc.callbacks.remove(_freeze_survivors)

    def look(self) -> None:
        objects = gc.get_freeze_count()
        if objects <= self._limit:
            return
        began = time.perf_counter()
        gc.unfreeze()
        self._collect()
        log.info("gc.collected", objects=objects, left=gc.get_freeze_count(), seconds=time.perf_counter() - began)

    def _collect(self) -> None:
        gc.collect()
        gc.freeze()
        self._limit = 2 * gc.get_freeze_count() + SPARE


def _freeze_survivors(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"]:
        gc.freeze()
