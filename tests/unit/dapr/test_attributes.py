"""Attributes of any type as text, and headers of Kafka messages as a sidecar sends them."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsbridge.core.event_ids import LONGEST_ID
from wsbridge.core.receipts import LONGEST
from wsbridge.core.user_ids import is_user
from wsbridge.dapr import attributes
from wsbridge.dapr.attributes import (
    SEARCHED,
    as_text,
    coordinates,
    id_in,
    produced_at,
    receipt_after,
    short_id,
    unescaped,
)
from wsbridge.dapr.json_pieces import members


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
    ("envelope", "expected"),
    [
        (b'{"id":"e1","data":NaN}', "e1"),
        (b'{"data":{"id":"inner","x":NaN},"id":7}', "7"),
        (b'{"id":"e1","data":"\xff"}', "e1"),
        (b'{"id":NaN}', ""),
        (b'{"id":{"a":1}}', ""),
        (b'{"id":"e1"', "e1"),
        (b' {"id":"e1","data":{"text":"it is cut o', "e1"),
        (b'{"data":"' + b"x" * 3_000 + b'","id":"e1","x":NaN}', ""),
        (b"", ""),
        (b"[" * 100_000 + b"]" * 100_000, ""),
        (b'{"id":' + b"[" * 100_000 + b"}", ""),
        (b'{"id":"' + b"x" * 1_000 + b'","x":NaN}', short_id("x" * 1_000)),
    ],
)
def test_id_in_an_envelope_that_is_not_json_is_found_or_empty(envelope: bytes, expected: str) -> None:
    assert id_in(envelope) == expected


@pytest.mark.fault("C2")
def test_id_in_a_large_envelope_searches_only_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def counted(text: bytes) -> dict[str, bytes]:
        searched.append(len(text))
        return members(text)

    monkeypatch.setattr(attributes, "members", counted)
    assert id_in(b'{"id":"e1",' + b'"a":1,' * 1_000_000) == "e1"
    assert searched == [SEARCHED + 1]


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


NO_TIMESTAMPS: list[Any] = ["", "-1", "1.5", "now", "٣", "9" * 16, "9" * 5_000, 7, None, []]


@pytest.mark.parametrize(
    ("at", "produced"),
    [
        ({"__timestamp": "1795948413123"}, 1_795_948_413.123),
        ({"__timestamp": "0"}, 0.0),
        ({"__timestamp": "9" * 15}, 999_999_999_999.999),
        ({}, None),
        *(({"__timestamp": text}, None) for text in NO_TIMESTAMPS),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_produced_at_is_the_kafka_timestamp_in_seconds(at: dict[str, Any], produced: float | None) -> None:
    assert produced_at(at) == produced


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"__partition": "3", "__offset": "41"}, "orders/3/41"),
        ({"__partition": 3, "__offset": 41}, "orders/3/41"),
        ({"__partition": "3"}, ""),
        ({"__offset": "41"}, ""),
        ({}, ""),
    ],
)
def test_coordinates_are_topic_partition_and_offset(metadata: dict[str, Any], text: str) -> None:
    assert coordinates("orders", metadata) == text


def test_coordinates_that_are_long_are_a_digest() -> None:
    assert len(coordinates("orders", {"__partition": "3", "__offset": "9" * 10_000})) == 64


@pytest.mark.parametrize(
    ("text", "plain"), [("a%20b", "a b"), ("a+b", "a b"), ("%C3%BC", "ü"), ("%zz", "%zz"), ("", "")]
)
def test_unescaped_undoes_the_escaping_of_go(text: str, plain: str) -> None:
    assert unescaped(text) == plain


def test_unescaped_text_that_is_not_utf8_is_not_a_user() -> None:
    assert not is_user(unescaped("%ff"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), (False, None), (0, None), ("0", None), ("", None), ("false", None), (True, 0.0), ("true", 0.0),
        (60, 60.0), ("60", 60.0), (10**9, LONGEST), ("9" * 500, LONGEST), (-5, 0.0), ("1.5", 0.0), ("soon", 0.0),
        ([60], 0.0),
    ],
)  # fmt: skip
def test_receipt_after_is_a_number_of_seconds_or_the_default(value: Any, seconds: float | None) -> None:
    assert (None if value is None else receipt_after(value)) == seconds
