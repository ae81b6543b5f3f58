"""Times and sizes as `wsbridge top` shows them."""

import pytest

from wsbridge.cli.top.screen import MEANINGS, duration, size
from wsbridge.core.close_codes import CLOSE_LABELS
from wsbridge.telemetry.metrics import ERRORS


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 µs"),
        (0.00025, "250 µs"),
        (0.0042, "4.2 ms"),
        (0.42, "420 ms"),
        (59.0, "59 s"),
        (90.0, "2 min"),
        (7200.0, "2 h"),
        (200_000.0, "2 d"),
    ],
)
def test_duration_is_in_the_largest_unit_of_which_there_is_one(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e12, "3000.0 GB")]
)
def test_size_has_a_decimal_prefix(count: float, expected: str) -> None:
    assert size(count) == expected


def test_meanings_are_of_closes_and_errors_that_there_are() -> None:
    assert MEANINGS.keys() <= {*(" ".join(labels) for labels in CLOSE_LABELS), *ERRORS}
