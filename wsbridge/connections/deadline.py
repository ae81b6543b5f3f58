"""A time-out that is cheap to move."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls a function once the deadline has passed. A timer that runs out earlier is started again."""

    __slots__ = ("_at", "_timer")

    def __init__(self) -> None:
        self._at = math.inf  # by the clock of the loop
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, over: Callable[[], object]) -> None:
        """Move the deadline to `seconds` from now. `over` must be the same function in each call."""
        self._at = asyncio.get_running_loop().time() + seconds
        if self._timer is not None and self._timer.when() > self._at:
            self.cancel()
        if self._timer is None:
            self._start(over)

    def clear(self) -> None:
        """Have no deadline for now."""
        self._at = math.inf

    def cancel(self) -> None:
        """End the timer, which refers to the function."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, over: Callable[[], object]) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._at, self._look, over)

    def _look(self, over: Callable[[], object]) -> None:
        self._timer = None
        if self._at <= asyncio.get_running_loop().time():
            over()
        elif self._at < math.inf:
            self._start(over)
