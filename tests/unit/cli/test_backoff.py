"""Longer each time, with jitter that survives the bound."""

from wsbridge.cli.backoff import LEAST, MOST, Backoff


def bounds_of(backoff: Backoff, count: int) -> list[float]:
    return [backoff.wait() for _ in range(count)]


def test_the_bound_doubles_up_to_the_most() -> None:
    assert bounds_of(Backoff(lambda _, high: high), 8) == [0.5, 1, 2, 4, 8, 16, MOST, MOST]


def test_half_the_least_is_the_shortest_wait_at_any_time() -> None:
    assert bounds_of(Backoff(lambda low, _: low), 8) == [LEAST / 2] * 8


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(lambda _, high: high)
    bounds_of(backoff, 5)
    backoff.reset()
    assert bounds_of(backoff, 2) == [0.5, 1]


def test_it_never_overflows_and_the_waits_differ() -> None:
    waits = bounds_of(Backoff(), 3000)
    assert all(LEAST / 2 <= wait <= MOST for wait in waits)
    assert len(set(waits)) > 2900
