"""The second oracle: if the middle of an input is repeated, work must grow in proportion."""

import time

from tests.fuzz.targets import Target
from tests.support.growth import LINEAR, TIMES, growth

SIZE = 4_000  # bytes of the smaller one of two inputs; the larger one has eight times as many
HOPELESS = 1.0  # seconds of CPU for the larger input; proportional work never takes as long
SUSPICIOUS = 0.05  # seconds of CPU for the larger input; below this it is not measured again


class OutOfProportion(AssertionError):  # noqa: N818 - named after the broken promise
    """Work grows faster than the input."""


def check(target: Target, data: bytes, start: int, end: int) -> None:
    """Check the promise for `data` with its bytes from `start` to `end` repeated."""
    head, middle, tail = data[:start], data[start:end] or b"a", data[end:]

    def work(size: int) -> None:
        target.run(head + middle * (size // len(middle)) + tail)

    began = time.thread_time()
    work(SIZE * TIMES)
    spent = time.thread_time() - began
    if spent < SUSPICIOUS:
        return
    found = growth(work, SIZE) if spent < HOPELESS else float("inf")
    if found > LINEAR:
        shape = f"{head[:50]!r} + n * {middle[:50]!r} + {tail[:50]!r}"
        raise OutOfProportion(f"{found:.0f} times the work for 8 times the input, {spent:.2f} s: {shape}")
