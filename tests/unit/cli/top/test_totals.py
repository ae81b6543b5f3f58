"""The lines of the console's stream as numbers to show."""

import math
from typing import Any

import pytest

from wsbridge.cli.top.totals import Replica, Totals, quantile


def numbers(at: float, *, replica: str = "r1", uptime: float | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "numbers", "replica": replica, "at": at, "uptime": at if uptime is None else uptime, **fields}


def replicas(*answered: str, silent: tuple[str, ...] = (), missing: int = 0) -> dict[str, Any]:
    return {"type": "replicas", "answered": list(answered), "silent": list(silent), "missing": missing}


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([2, 0, 0], 0.5, 0.5),
        ([0, 4, 0], 0.5, 1.5),
        ([1, 0, 1], 0.99, math.inf),
        ([0, 0, 3], 0.5, math.inf),
        ([99, 1, 0], 0.99, 1.0),
    ],
)
def test_quantile_is_interpolated_within_its_bucket(counts: list[int], share: float, expected: float | None) -> None:
    assert quantile((1.0, 2.0), counts, share) == expected


def test_growth_counts_only_what_a_replica_adds_to_its_own_first_look() -> None:
    totals = Totals()
    for line in (
        numbers(1.0, drops={"no_user": 5}),
        replicas("r1", missing=1),
        numbers(2.0, drops={"no_user": 7, "expired": 1}),
        numbers(2.0, replica="r2", drops={"no_user": 50}),
        replicas("r1", "r2"),
    ):
        totals.take(line)
    assert totals.growth("drops") == {"no_user": 2, "expired": 1}
    assert totals.counts("drops") == {"no_user": 57, "expired": 1}


def test_rate_is_the_growth_between_two_looks_by_their_times() -> None:
    replica = Replica()
    replica.take(numbers(10.0, deliveries=100))
    assert replica.rate(lambda line: line["deliveries"]) == 0
    replica.take(numbers(12.0, deliveries=400))
    assert replica.rate(lambda line: line["deliveries"]) == 150


def test_rate_after_a_restart_of_the_replica_is_zero() -> None:
    replica = Replica()
    replica.take(numbers(10.0, deliveries=100))
    replica.take(numbers(11.0, uptime=0.5, deliveries=1))
    assert replica.rate(lambda line: line["deliveries"]) == 0


def test_latency_counts_what_came_since_the_oldest_look_only() -> None:
    replica = Replica()
    for at, counts in ((1.0, [50, 0, 0]), (2.0, [50, 2, 0])):
        replica.take(numbers(at, latency={"socket": {"bounds": [1.0, 2.0], "counts": counts}}))
    assert replica.latency("socket", 0.5) == 1.5


@pytest.mark.parametrize(
    ("draining", "checks", "silent", "expected"),
    [
        (False, {"queue": "ok"}, False, "healthy"),
        (False, {"sidecar": "ok, but no sidecar seen yet (started 3 s ago)"}, False, "healthy"),
        (False, {"redis": "timeout"}, False, "degraded"),
        (True, {"lifecycle": "draining"}, False, "draining"),
        (False, {"queue": "ok"}, True, "no answer"),
    ],
)
def test_state_is_that_of_the_console(draining: bool, checks: dict[str, str], silent: bool, expected: str) -> None:
    replica = Replica()
    replica.take(numbers(1.0, draining=draining, checks=checks))
    replica.is_silent = silent
    assert replica.state == expected


def test_totals_end_a_look_keep_silent_replicas_and_forget_those_that_left() -> None:
    totals = Totals()
    assert not totals.take({"type": "hello"})
    for name in ("r3", "r2", "r1"):
        assert not totals.take(numbers(1.0, replica=name))
    assert totals.take(replicas("r1", silent=("r2",), missing=2))
    assert [(name, replica.is_silent) for name, replica in totals.replicas.items()] == [("r1", False), ("r2", True)]
    assert totals.missing == 2


def test_counts_are_summed_over_replicas_and_metrics_with_the_largest_first() -> None:
    totals = Totals()
    totals.take(numbers(1.0, replica="r1", drops={"no_user": 1}, retries={"full": 2}))
    totals.take(numbers(1.0, replica="r2", drops={"no_user": 4}, retries={}))
    assert list(totals.counts("drops", "retries").items()) == [("no_user", 5), ("full", 2)]


def test_losses_are_those_of_all_replicas_that_send_them() -> None:
    totals = Totals()
    assert totals.losses() == (0, None)
    totals.take(numbers(100.0, replica="old"))
    totals.take(numbers(100.0, replica="r1", losses=2, lost_at=40.0))
    totals.take(numbers(100.0, replica="r2", losses=1, lost_at=74.0))
    totals.take(numbers(100.0, replica="r3", losses=0, lost_at=0.0))
    assert totals.losses() == (3, 26.0)
