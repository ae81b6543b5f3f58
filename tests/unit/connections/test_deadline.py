"""A deadline is over once, at its time, and may be moved."""

import math

import pytest

from tests.support.running import until
from wsbridge.connections.deadline import Deadline

LATER = 1_000.0  # seconds; never reached here


async def test_deadline_moved_forward_is_over_at_the_new_time() -> None:
    deadline, calls = Deadline(), list[str]()
    deadline.set(LATER, lambda: calls.append("over"))
    deadline.set(0.01, lambda: calls.append("over"))
    await until(lambda: calls)
    assert calls == ["over"]
    assert deadline._timer is None


async def test_deadline_moved_back_is_not_over_when_its_timer_runs_out() -> None:
    deadline, calls = Deadline(), list[str]()
    deadline.set(0.01, lambda: calls.append("over"))
    first = deadline._timer
    deadline.set(LATER, lambda: calls.append("over"))
    assert deadline._timer is first  # moving costs no timer
    await until(lambda: deadline._timer is not first)
    assert deadline._timer is not None
    assert deadline._timer.when() == pytest.approx(deadline._at)  # uvloop adds two numbers, whose sum is rounded
    assert not calls
    deadline.cancel()
    assert deadline._timer is None


async def test_deadline_cleared_has_no_timer_after_the_last_one() -> None:
    deadline, calls = Deadline(), list[str]()
    deadline.set(0.01, lambda: calls.append("over"))
    deadline.clear()
    await until(lambda: deadline._timer is None)
    assert deadline._at == math.inf
    assert not calls
