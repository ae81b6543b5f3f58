"""Timestamps as they are in messages: RFC 3339, UTC, milliseconds."""

import functools
import time
from datetime import UTC, datetime


def timestamp(at: float | None = None) -> str:
    """RFC 3339, UTC, milliseconds, `Z`; `at` is in seconds since 1970."""
    seconds, milliseconds = divmod(int((time.time() if at is None else at) * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03}Z"


@functools.lru_cache(64)
def seconds_of(stamp: str) -> float:
    """The time of a `timestamp`, in seconds since 1970."""
    return datetime.fromisoformat(stamp).timestamp()


@functools.lru_cache(4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
