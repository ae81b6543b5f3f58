"""Timestamps of messages: their format, and parsing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.core.timestamps import seconds_of, timestamp


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_770_465_600, "2026-02-07T12:00:00.000Z"),
        (1_770_465_600.0419, "2026-02-07T12:00:00.041Z"),
        (1_770_465_600.9999, "2026-02-07T12:00:00.999Z"),
    ],
)
def test_timestamp_of_a_time_is_utc_with_milliseconds(at: float, text: str) -> None:
    assert timestamp(at) == text


def test_timestamp_without_a_time_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_770_465_600.25)
    assert timestamp() == "2026-02-07T12:00:00.250Z"


@given(st.integers(0, 4_000_000_000_000))
def test_seconds_of_a_timestamp_is_the_time_that_it_was_made_of(milliseconds: int) -> None:
    # Half a millisecond is added, because a float just below a whole millisecond would be truncated.
    assert seconds_of(timestamp((milliseconds + 0.5) / 1000)) == milliseconds / 1000
