"""Envelopes and bulks; what becomes of the events in them is test_cloudevents' business."""

import json
from typing import Any

import msgspec
import pytest

from wsbridge.envelope import (
    BULK_TYPE,
    REFUSED,
    TOO_DEEP,
    BulkEntry,
    Envelope,
    Unreadable,
    read_entries,
    read_envelope,
    why_not,
    word,
)
from wsbridge.event import Dropped


def bulk(*entries: bytes, kind: str = BULK_TYPE) -> bytes:
    return b'{"type":"%b","entries":[%b]}' % (kind.encode(), b",".join(entries))


def test_an_envelope_keeps_the_data_as_it_stands() -> None:
    envelope = read_envelope(b'{"specversion":"1.0","id":"a","source":"b","subject":"c","data": {"x": 1e2 } }')
    assert (envelope.specversion, envelope.id, envelope.source, envelope.subject) == ("1.0", "a", "b", "c")
    assert bytes(envelope.data) == b'{"x": 1e2 }'


def test_what_stands_bare_has_no_specversion() -> None:
    assert read_envelope(b'{"user_id":"u"}').specversion == ""


@pytest.mark.parametrize(
    ("attribute", "value", "read"),
    [
        ("specversion", 1.0, "1.0"),
        ("specversion", None, ""),
        ("id", 7, "7"),
        ("id", [7], ""),
        ("source", None, ""),
        pytest.param("source", 10**300, "", id="a huge number"),
        ("traceparent", 7, "7"),
        ("expiration", ["now"], ""),
    ],
)
def test_a_mistyped_attribute_does_not_cost_the_data(attribute: str, value: object, read: object) -> None:
    sound = {"specversion": "1.0", "id": "a", "source": "b"}
    envelope = read_envelope(json.dumps(sound | {attribute: value, "data": {}}).encode())
    assert getattr(envelope, attribute) == read
    assert bytes(envelope.data) == b"{}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "not_json"), (b"null", "not_an_object"), (b"[]", "not_an_object"), (b"{", "not_json")],
)
def test_what_is_no_object_has_no_envelope(body: bytes, reason: str) -> None:
    with pytest.raises(Dropped) as dropped:
        read_envelope(body)
    assert dropped.value.reason == reason


def test_the_entries_of_a_bulk_in_order() -> None:
    entries = read_entries(bulk(b'{"entryId":"0","event":{}}', b'{"entryId":"1","event":"YQ==","contentType":"a/b"}'))
    assert entries is not None
    assert [type(entry) for entry in entries] == [BulkEntry, BulkEntry]
    assert [entry.entry_id for entry in entries] == ["0", "1"]


@pytest.mark.parametrize(
    "bad",
    [b'{"entryId":"1","event":{"x":NaN}}', b'{"entryId":"1","event":"\\ud800"}', b'{"entryId":"1","contentType":7}'],
)
def test_an_unreadable_entry_stands_alone(bad: bytes) -> None:
    entries = read_entries(bulk(b'{"entryId":"0","event":{}}', bad, b'{"entryId":"2","event":{}}'))
    assert entries is not None
    assert [type(entry) for entry in entries] == [BulkEntry, Unreadable, BulkEntry]
    assert [entry.entry_id for entry in entries] == ["0", "1", "2"]


def test_an_entry_that_cannot_even_be_named_is_left_out() -> None:
    assert read_entries(bulk(b'{"entryId":7}', b"NaN")) == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"entries":[]}', bulk(kind="other"), bulk(b"NaN", kind="other")])
def test_what_is_no_bulk(body: bytes) -> None:
    assert read_entries(body) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), ("", ""), (7, "7"), (-1, "-1"), (True, ""), (1.5, ""), (None, ""), ([], ""), (10**300, "")],
)
def test_words(value: Any, expected: str) -> None:
    assert word(value) == expected


def test_why_something_was_refused() -> None:
    assert why_not(b"", RecursionError()) == ("not_json", TOO_DEEP)


@pytest.mark.fault("A1")
@pytest.mark.parametrize("body", [b'"\xff"', b'"a\xc3"', b'{"a":"\xff"}', b"\xff"])
@pytest.mark.parametrize("raised", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""), msgspec.DecodeError("Invalid")])
def test_why_not_of_bad_utf8_with_the_error_of_any_msgspec_is_bad_utf8(body: bytes, raised: Exception) -> None:
    assert why_not(body, raised) == ("bad_utf8", "the data is not UTF-8")
    with pytest.raises(REFUSED) as error:  # by the msgspec that is installed
        msgspec.json.decode(body)
    assert why_not(body, error.value)[0] == "bad_utf8"


def test_an_envelope_is_made_of_defaults_only() -> None:
    assert Envelope().specversion == ""
    assert bytes(Envelope().data) == b""
