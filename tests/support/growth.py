"""Measures whether work grows in proportion to its input."""

import time
from collections.abc import Callable

TIMES = 8  # how many times larger the larger input is
LINEAR = 24  # allowed factor: three times eight, for caches and noise; quadratic work takes 64 times as long
LEAST = 0.001  # seconds of CPU below which a measurement is too inexact


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long `work` takes for an input that is eight times as large.

    In CPU time of this thread, the best of several runs, so that other processes do not count. The result is 1 if even
    the larger input takes too little time to be measured.
    """
    large = _best(work, size * TIMES)
    return large / max(_best(work, size), LEAST / TIMES) if large > LEAST else 1.0


def _best(work: Callable[[int], object], size: int) -> float:
    return min(_once(work, size) for _ in range(5))


def _once(work: Callable[[int], object], size: int) -> float:
    started = time.thread_time()
    work(size)
    return time.thread_time() - started
