"""Comparison of two clocks, from the headers of a response."""

import time
from email.utils import formatdate

import pytest

from wsbridge.cli.doctor.clock import compared, time_of
from wsbridge.cli.doctor.findings import NotChecked, State


def test_time_of_a_cached_response_includes_its_age() -> None:
    at = float(int(time.time()))
    assert time_of({"Date": formatdate(at, usegmt=True), "Age": "7"}) == at + 7


@pytest.mark.parametrize("headers", [{}, {"Date": "now"}, {"Date": formatdate(usegmt=True), "Age": "old"}])
def test_time_of_a_response_without_a_valid_date_is_not_checked(headers: dict[str, str]) -> None:
    with pytest.raises(NotChecked):
        time_of(headers)


@pytest.mark.parametrize(
    ("ahead", "state", "text"),
    [
        (0, State.OK, "agree within 2 s"),
        (7, State.WARNING, "7 s ahead of"),
        (-7, State.WARNING, "7 s behind"),
        (60, State.FAILURE, "60 s ahead of"),
    ],
)
def test_compared_clocks_may_differ_by_the_limit(ahead: float, state: State, text: str) -> None:
    found = compared("its clock", time.time() + ahead, 10.0)
    assert (found.state, text in found.text) == (state, True), found
