"""Buckets, sums and counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.telemetry.histogram import DURATION, Histogram


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 9))))
def test_histogram_counts_each_observation_in_its_bucket_and_all_above(observed: list[tuple[float, int]]) -> None:
    histogram, singly = Histogram(DURATION), Histogram(DURATION)
    for seconds, times in observed:
        histogram.observe(seconds, times)
        singly.observe_each([seconds] * times)
    counts = dict(histogram.buckets())
    assert counts["+Inf"] == sum(times for _, times in observed)
    for bound in DURATION:
        assert counts[str(bound)] == sum(times for seconds, times in observed if seconds <= bound)
    assert histogram.sum == pytest.approx(sum(seconds * times for seconds, times in observed))
    assert singly.counts == histogram.counts
    assert singly.sum == pytest.approx(histogram.sum)
