"""Attributes of any type as text."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsbridge.dapr.attributes import LONGEST_ID, as_text, short_id


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        ("", ""),
        (7, "7"),
        (-1, "-1"),
        (True, ""),
        (1.5, ""),
        (None, ""),
        ([], ""),
        (10**300, ""),
        (10**256, ""),
        (10**256 - 1, "9" * 256),
    ],
)
def test_as_text_of_a_value_is_a_string_or_nothing(value: Any, expected: str) -> None:
    assert as_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("e-1", "e-1"),
        (7, "7"),
        (None, ""),
        ("", ""),
        ([7], ""),
        ("x" * LONGEST_ID, "x" * LONGEST_ID),
        ("ü", "ü"),
        ("ü" * LONGEST_ID, "ü" * LONGEST_ID),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_short_id_of_a_short_value_is_its_text(value: Any, expected: str) -> None:
    assert short_id(value) == expected


@given(st.text(st.characters()) | st.text(st.characters(), min_size=LONGEST_ID + 1) | st.integers())
@example("\udcff")
def test_short_id_of_any_value_is_short_and_can_be_encoded(value: Any) -> None:
    assert len(short_id(value)) <= LONGEST_ID
    short_id(value).encode()


def test_short_id_of_long_texts_differs_if_they_do() -> None:
    assert len({short_id("x" * 1_000 + end) for end in "abc"}) == 3
