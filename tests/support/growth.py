"""Whether work grows with its input or out of proportion to it."""

import time
from collections.abc import Callable

TIMES = 8  # how much larger the larger input is
LINEAR = 24  # times as long at most: twice or thrice eight, for caches and noise; quadratic work takes 64 times
LEAST = 0.001  # seconds of CPU below which a measurement says nothing


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long `work` takes for an input that is eight times as large.

    In CPU time of this thread, the best of several runs, so that other processes do not count. Where even the larger
    input takes no time worth measuring the answer is 1.
    """
    large = _best(work, size * TIMES)
    return large / max(_best(work, size), LEAST / TIMES) if large > LEAST else 1.0


def _best(work: Callable[[int], object], size: int) -> float:
    return min(_once(work, size) for _ in range(5))


def _once(work: Callable[[int], object], size: int) -> float:
    started = time.thread_time()
    work(size)
    return time.thread_time() - started
