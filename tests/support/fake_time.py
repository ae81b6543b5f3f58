"""A clock that only the tests advance."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

REAL_SLEEP = asyncio.sleep


class Clock:
    """Seconds that only the test advances."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Time(SimpleNamespace):
    """Replaces the modules `time` and `asyncio`: a sleep advances the clock and returns at once."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        super().__init__(now=1_000.0, slept=list[float](), monotonic=lambda: self.now, sleep=self._sleep)
        self._then = then

    async def _sleep(self, seconds: float) -> None:
        await REAL_SLEEP(0)
        if seconds:
            self.now += seconds
            self.slept.append(seconds)
            self._then()


async def run_until(time: Time, end: float, job: Awaitable[None]) -> None:
    """Run an endless job until the clock shows `end`."""
    task = asyncio.ensure_future(job)
    while time.now < end and not task.done():
        await REAL_SLEEP(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
