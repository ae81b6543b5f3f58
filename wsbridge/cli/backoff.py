"""How long to wait before the next attempt to connect."""

import random
from collections.abc import Callable, Iterator

LEAST, MOST = 0.5, 20.0  # seconds


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield seconds without end: a random wait whose upper bound doubles from LEAST to MOST.

    The random number is drawn below the bound and not added to it, so that clients differ also at the bound.
    """
    longest = LEAST
    while True:
        yield uniform(LEAST / 2, longest)
        longest = min(MOST, 2 * longest)
