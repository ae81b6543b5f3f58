"""Dapr's bulk delivery: a JSON document with up to 100 messages. A malformed entry does not affect the others."""

from typing import Any

import msgspec

from wsbridge.core.events import Rejected
from wsbridge.dapr import json_pieces
from wsbridge.dapr.attributes import id_in
from wsbridge.dapr.payload import REFUSED, rejection, without_bom

BULK_TYPE = "com.dapr.event.sent.bulk"
_MARK = BULK_TYPE.encode()


class BulkEntry(msgspec.Struct, gc=False, rename="camel"):
    """One message of a bulk. `event` is a JSON string if the sidecar passes messages on verbatim (`rawPayload`)."""

    entry_id: str
    event: msgspec.Raw = msgspec.Raw()
    content_type: str = ""
    metadata: dict[str, Any] | None = None


class _Bulk(msgspec.Struct, gc=False):
    entries: list[BulkEntry]
    type: str = ""


_bulk = msgspec.json.Decoder(_Bulk)
_entry = msgspec.json.Decoder(BulkEntry)
_string = msgspec.json.Decoder(str)


def read_entries(body: bytes) -> list[tuple[str, BulkEntry | Rejected]] | None:
    """Each entry with its id, in order; None if the body is not a bulk.

    An entry without a readable id is left out. It cannot be answered, so the sidecar delivers it again.
    """
    body = without_bom(body)
    try:
        bulk = _bulk.decode(body)
    except REFUSED:
        return _read_each(body) if _MARK in body else None
    return [(entry.entry_id, entry) for entry in bulk.entries] if bulk.type == BULK_TYPE else None


def _read_each(body: bytes) -> list[tuple[str, BulkEntry | Rejected]] | None:
    """Decode the entries one by one, because the decoder has refused the whole document."""
    members = json_pieces.members(body)
    entries = json_pieces.elements(members.get("entries", b""))
    if members.get("type") != b'"%b"' % _MARK or entries is None:
        return None
    return [found for piece in entries if (found := _read_entry(piece)) is not None]


def _read_entry(piece: bytes) -> tuple[str, BulkEntry | Rejected] | None:
    try:
        entry = _entry.decode(piece)
    except REFUSED as error:
        rejected = rejection(piece, error)
    else:
        return entry.entry_id, entry
    members = json_pieces.members(piece)
    try:
        return _string.decode(members.get("entryId", b"")), rejected._replace(event_id=id_in(members.get("event", b"")))
    except REFUSED:
        return None
