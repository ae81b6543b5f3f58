"""A bulk delivery is cut into entries. test_delivery tests the content of the entries."""

import pytest

from tests.support.growth import LINEAR, growth
from wsbridge.core.events import Rejected
from wsbridge.dapr.bulk import BULK_TYPE, BulkEntry, read_entries


def bulk(*entries: bytes, kind: str = BULK_TYPE) -> bytes:
    return b'{"type":"%b","entries":[%b]}' % (kind.encode(), b",".join(entries))


def test_read_entries_gives_each_with_its_id_in_order() -> None:
    entries = read_entries(bulk(b'{"entryId":"0","event":{}}', b'{"entryId":"1","event":"YQ==","contentType":"a/b"}'))
    assert entries is not None
    assert [(entry_id, type(entry)) for entry_id, entry in entries] == [("0", BulkEntry), ("1", BulkEntry)]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"entryId":"1","event":{"x":NaN}}',
        b'{"entryId":"1","event":"\\ud800"}',
        b'{"entryId":"1","contentType":7}',
        b'{"entryId":"1","metadata":[]}',
    ],
)
def test_read_entries_with_a_malformed_entry_rejects_it_alone(bad: bytes) -> None:
    good = [b'{"entryId":"0","event":{"a": 1}}', b'{"entryId":"2","event":"x","metadata":{"__key":"k"}}']
    entries = read_entries(bulk(good[0], bad, good[1]))
    assert entries is not None
    (first, rejected, last) = entries
    assert [first, last] == read_entries(bulk(*good))
    assert rejected[0] == "1"
    assert isinstance(rejected[1], Rejected)
    assert rejected[1].reason == "not_json"


def test_read_entries_with_a_malformed_one_says_where() -> None:
    ((_, rejected),) = read_entries(bulk(b'{"entryId":"1","event":NaN}')) or []
    assert isinstance(rejected, Rejected)
    assert rejected.text == (
        "the data is not JSON; publish a JSON object. JSON is malformed: invalid character (byte 23)"
    )


def test_read_entries_with_a_field_of_another_type_says_which() -> None:
    ((_, rejected),) = read_entries(bulk(b'{"entryId":"1","metadata":7}')) or []
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.text) == (
        "not_json",
        "the entry of the bulk is malformed: Expected `object | null`, got `int` - at `$.metadata`",
    )


@pytest.mark.parametrize("bad", [b'{"entryId":7}', b"NaN", b"7", b"null", b"{}", b'{"entryId":"\\ud800"}'])
def test_read_entries_with_an_unreadable_id_leaves_the_entry_out(bad: bytes) -> None:
    entries = read_entries(bulk(bad, b'{"entryId":"1"}'))
    assert entries is not None
    assert [entry_id for entry_id, _ in entries] == ["1"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"entries":[]}',
        bulk(kind="other"),
        bulk(b"NaN", kind="other"),
        b'{"type":"%b"}' % BULK_TYPE.encode(),
        b'{"type":"%b","entries":7}' % BULK_TYPE.encode(),
        b'{"type":"%b","entries":[' % BULK_TYPE.encode(),
    ],
)
def test_read_entries_of_another_document_is_none(body: bytes) -> None:
    assert read_entries(body) is None


def test_read_entries_with_a_byte_order_mark_skips_it() -> None:
    entries = read_entries(b"\xef\xbb\xbf" + bulk(b'{"entryId":"0","event":{}}'))
    assert entries is not None
    assert [entry_id for entry_id, _ in entries] == ["0"]


@pytest.mark.growth
@pytest.mark.fault("C2")
@pytest.mark.parametrize(
    "unit", [rb"\"", b'"', b"[", b'{"a":', rb"\\", b",", b'{"entryId":"0","event":NaN},'], ids=repr
)
@pytest.mark.parametrize(
    "frame", [b'"%b', b'{"entryId":"1","event":"%b}', b'{"entryId":"1","event":{"x":"%b"}}', b"%b"]
)
def test_read_entries_of_a_malformed_bulk_takes_time_in_proportion(unit: bytes, frame: bytes) -> None:
    def read(size: int) -> None:
        read_entries(bulk(b'{"entryId":"0","event":{}}', frame % (unit * (size // len(unit)))))

    assert growth(read, 20_000) < LINEAR
