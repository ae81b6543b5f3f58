"""Dapr's bulk delivery, cut into entries; what becomes of the events in them is test_cloudevents' business."""

import pytest

from tests.support.growth import LINEAR, growth
from wsbridge.core.events import Rejected
from wsbridge.dapr.bulk import BULK_TYPE, BulkEntry, Unreadable, read_entries


def bulk(*entries: bytes, kind: str = BULK_TYPE) -> bytes:
    return b'{"type":"%b","entries":[%b]}' % (kind.encode(), b",".join(entries))


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


def test_read_entries_skips_a_byte_order_mark() -> None:
    entries = read_entries(b"\xef\xbb\xbf" + bulk(b'{"entryId":"0","event":{}}'))
    assert entries is not None
    assert [entry.entry_id for entry in entries] == ["0"]


@pytest.mark.parametrize(
    ("entry", "payload"),
    [
        (b'{"entryId":"0","event":{"a":1}}', b'{"a":1}'),
        (b'{"entryId":"0","event":"YQ==","contentType":"application/octet-stream"}', b"a"),
        (b'{"entryId":"0","event":"{\\"a\\":1}","contentType":"text/plain"}', b'{"a":1}'),
    ],
)
def test_payload_of_an_entry_is_the_message(entry: bytes, payload: bytes) -> None:
    (found,) = read_entries(bulk(entry)) or []
    assert isinstance(found, BulkEntry)
    assert found.payload() == payload


@pytest.mark.parametrize("event", [b'"%%%"', b'"e30"'])
def test_payload_that_is_not_base64_is_rejected(event: bytes) -> None:
    entry = b'{"entryId":"0","event":%b,"contentType":"application/octet-stream"}' % event
    (found,) = read_entries(bulk(entry)) or []
    assert isinstance(found, BulkEntry)
    assert isinstance(found.payload(), Rejected)


@pytest.mark.fault("C2")
def test_one_malformed_entry_costs_its_bulk_no_walk_through_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON with an entry of the wrong kind is cut by the decoder."""
    monkeypatch.setattr("wsbridge.dapr.bulk.pieces", None)
    good = b'{"entryId":"0","event":{}}'
    found = read_entries(bulk(good, b'{"entryId":"1","contentType":7}', good))
    assert found is not None
    assert [type(entry) for entry in found] == [BulkEntry, Unreadable, BulkEntry]


@pytest.mark.fault("C2")
@pytest.mark.parametrize(
    "unit", [rb"\"", b'"', b"[", b'{"a":', rb"\\", b",", b'{"entryId":"0","event":NaN},'], ids=repr
)
@pytest.mark.parametrize(
    "frame", [b'"%b', b'{"entryId":"1","event":"%b}', b'{"entryId":"1","event":{"x":"%b"}}', b"%b"]
)
def test_reading_a_malformed_bulk_takes_time_in_proportion(unit: bytes, frame: bytes) -> None:
    def read(size: int) -> None:
        read_entries(bulk(b'{"entryId":"0","event":{}}', frame % (unit * (size // len(unit)))))

    assert growth(read, 20_000) < LINEAR
