"""Health checks over time: ready after one success, degraded later, a line a minute during an outage."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.running import until
from wsbridge.supervision.health_checks import Checks, Pending, passes


class Checked:
    """A check with the result that the test sets."""

    def __init__(self, *, required: bool = False) -> None:
        self.now = 1000.0
        self.wrong: str | None = None
        self.checks = Checks(lambda: self.now)
        self.checks.add("redis", lambda: self.wrong, required=required)

    def after(self, seconds: int, wrong: str | None) -> None:
        """Run the checks once a second for some seconds."""
        self.wrong = wrong
        for _ in range(seconds):
            self.now += 1
            self.checks.run()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


@pytest.mark.fault("E1")
def test_required_check_is_ready_after_its_first_success() -> None:
    it = Checked(required=True)
    it.after(3, "refused")
    assert (it.checks.run(), it.checks.are_ready()) == ({"redis": "refused"}, False)
    it.after(1, None)
    assert (it.checks.run(), it.checks.are_ready()) == ({"redis": "ok"}, True)
    it.after(3, "refused")
    assert (it.checks.run(), it.checks.are_ready()) == ({"redis": "refused"}, True)


def test_other_check_is_ready_from_the_start() -> None:
    it = Checked()
    it.after(3, "nearly full")
    assert it.checks.are_ready()


@pytest.mark.fault("E8")
def test_failing_check_logs_a_line_a_minute_and_its_recovery(lines: list[Any]) -> None:
    it = Checked(required=True)
    it.after(1 + 150, "refused")
    it.after(5, None)
    failing = {"event": "check.failing", "log_level": "warning", "check": "redis", "why": "refused", "ready": False}
    recovered = {"event": "check.recovered", "log_level": "info", "check": "redis", "seconds": 151}
    assert lines == [failing | {"seconds": 60}, failing | {"seconds": 120}, recovered]


@pytest.mark.fault("E8")
def test_check_with_short_failures_logs_nothing(lines: list[Any]) -> None:
    it = Checked()
    for _ in range(5):
        it.after(30, "nearly full")
        it.after(1, None)
    assert lines == []


@pytest.mark.fault("E1")
async def test_watch_sees_a_success_between_two_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.supervision.health_checks.INTERVAL", 0)
    it = Checked(required=True)
    it.wrong = "refused"
    job = asyncio.create_task(it.checks.watch())
    await asyncio.sleep(0)
    assert not it.checks.are_ready()
    it.wrong = None
    await until(it.checks.are_ready)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


def test_check_that_waits_for_something_passes_but_says_so_and_is_not_ready(lines: list[Any]) -> None:
    it = Checked(required=True)
    it.after(120, Pending("no sidecar seen yet"))
    assert dict(it.checks.run()) == {"redis": "ok, but no sidecar seen yet"}
    assert (it.checks.are_ready(), lines) == (False, [])
    it.after(1, None)
    assert it.checks.are_ready()


@pytest.mark.parametrize(
    ("result", "expected"), [("ok", True), ("ok, but late", True), ("okay", False), ("refused, ok", False)]
)
def test_passes_for_results_of_checks_that_do_not_fail(result: str, expected: bool) -> None:
    assert passes(result) is expected
