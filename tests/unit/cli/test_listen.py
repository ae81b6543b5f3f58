"""Delays between attempts: they double up to a bound, with jitter that survives the bound."""

from itertools import islice

from wsbridge.cli.listen import LEAST_DELAY, MOST_DELAY, delays


def test_delays_upper_bound_doubles_up_to_most() -> None:
    assert list(islice(delays(lambda _, high: high), 8)) == [0.5, 1, 2, 4, 8, 16, MOST_DELAY, MOST_DELAY]


def test_delays_lower_bound_is_always_half_of_least() -> None:
    assert list(islice(delays(lambda low, _: low), 8)) == [LEAST_DELAY / 2] * 8


def test_delays_of_many_attempts_stay_in_bounds_and_differ() -> None:
    waits = list(islice(delays(), 3000))
    assert all(LEAST_DELAY / 2 <= wait <= MOST_DELAY for wait in waits)
    assert len(set(waits)) > 2900
