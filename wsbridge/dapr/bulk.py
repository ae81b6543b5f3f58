"""Dapr's bulk delivery: many messages in one JSON document. One that is malformed does not touch the others."""

from typing import Any, NamedTuple

import msgspec

from wsbridge.core.events import Rejected
from wsbridge.dapr import json_pieces
from wsbridge.dapr.payload import REFUSED, from_base64, from_string, rejection, without_bom

BULK_TYPE = "com.dapr.event.sent.bulk"
_MARK = BULK_TYPE.encode()


class BulkEntry(msgspec.Struct, gc=False, rename="camel"):
    entry_id: str
    event: msgspec.Raw = msgspec.Raw()
    content_type: str = ""
    metadata: dict[str, Any] | None = None

    @property
    def is_raw(self) -> bool:
        """Whether the event is the message as it is in the broker, and not what the sidecar made of it."""
        return bytes(self.event).startswith(b'"')

    def payload(self) -> bytes | Rejected:
        if not self.is_raw:
            return bytes(self.event)
        if self.content_type.startswith("application/octet-stream"):
            return from_base64(self.event)
        return from_string(self.event)


class Unreadable(NamedTuple):
    """An entry that is malformed itself."""

    entry_id: str
    rejected: Rejected


class _Bulk(msgspec.Struct, gc=False):
    entries: list[BulkEntry]
    type: str = ""


class _Loose(msgspec.Struct, gc=False):
    """The same, with entries that are JSON and may be anything else than they should."""

    entries: list[msgspec.Raw]
    type: Any = None


class _Named(msgspec.Struct, gc=False, rename="camel"):
    entry_id: str


_bulk = msgspec.json.Decoder(_Bulk)
_loose = msgspec.json.Decoder(_Loose)
_entry = msgspec.json.Decoder(BulkEntry)
_named = msgspec.json.Decoder(_Named)
_string = msgspec.json.Decoder(str)


def read_entries(body: bytes) -> list[BulkEntry | Unreadable] | None:
    """The entries of a bulk, in order; None if the body is not one."""
    body = without_bom(body)
    try:
        bulk = _bulk.decode(body)
    except REFUSED:
        return _read_loosely(body) if _MARK in body else None
    return list(bulk.entries) if bulk.type == BULK_TYPE else None


def _read_loosely(body: bytes) -> list[BulkEntry | Unreadable] | None:
    """Each entry by itself: something is wrong with one of them, or with the body."""
    try:
        bulk = _loose.decode(body)
    except msgspec.ValidationError:
        return None
    except REFUSED:
        found = _cut(body)
    else:
        found = [bytes(entry) for entry in bulk.entries] if bulk.type == BULK_TYPE else None
    if found is None:
        return None
    return [entry for piece in found if (entry := _read_entry(piece)) is not None]


def _cut(body: bytes) -> list[bytes] | None:
    """The entries of a bulk that is not JSON as a whole. No sidecar sends one while it passes messages on raw."""
    members = json_pieces.members(body)
    return json_pieces.elements(members.get("entries", b"")) if members.get("type") == b'"%b"' % _MARK else None


def _read_entry(piece: bytes) -> BulkEntry | Unreadable | None:
    """None if it has no id by which it could be answered."""
    try:
        return _entry.decode(piece)
    except REFUSED as error:
        entry_id = _entry_id(piece)
        return None if entry_id is None else Unreadable(entry_id, rejection(piece, error))


def _entry_id(piece: bytes) -> str | None:
    try:
        return _named.decode(piece).entry_id
    except msgspec.ValidationError:
        return None
    except REFUSED:
        pass
    try:
        return _string.decode(json_pieces.members(piece).get("entryId", b""))
    except REFUSED:
        return None
