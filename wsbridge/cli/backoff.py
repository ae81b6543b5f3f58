"""How long to wait before the next try. Knows nothing of what is tried."""

import random
from collections.abc import Callable

LEAST, MOST = 0.5, 20.0  # seconds


class Backoff:
    """Longer each time, and never the same for two clients."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._tries = 0

    def wait(self) -> float:
        """Seconds. The jitter is drawn below the bound, so that it survives it."""
        longest = min(MOST, LEAST * 2.0**self._tries)
        self._tries = min(self._tries + 1, 16)
        return self._uniform(LEAST / 2, longest)

    def reset(self) -> None:
        self._tries = 0
