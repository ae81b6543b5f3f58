"""The JSON around an event: CloudEvents 1.0 and Dapr's bulk of them. Looks into no data."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from wsbridge import pieces
from wsbridge.event import MAX_USER_BYTES, Dropped

BULK_TYPE = "com.dapr.event.sent.bulk"
MAX_DEPTH = 500  # of the data; decoders give up somewhere behind it, each version of Python elsewhere
TOO_DEEP = f"the data is nested too deeply: {MAX_DEPTH} levels are taken"
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding a stranger's bytes raises
_LONGEST_INTEGER = 10**MAX_USER_BYTES  # Python refuses to write out those of thousands of digits


class Envelope(msgspec.Struct, gc=False):
    """CloudEvents 1.0 JSON format."""

    specversion: str = ""
    id: str = ""
    source: str = ""
    subject: Any = None  # may hold users, in any of their forms
    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()
    traceparent: str = ""  # the extensions: Distributed Tracing, and Dapr's time to live
    expiration: str = ""

    def has_expired(self) -> bool:
        """Never, where that is no time with its zone: as for a sidecar."""
        if not self.expiration:
            return False
        try:
            end = datetime.fromisoformat(self.expiration)
        except ValueError:
            return False
        return end.tzinfo is not None and end < datetime.now(UTC)


class _Loose(msgspec.Struct, gc=False):
    """The same from a publisher who mistypes attributes: that must not cost the data."""

    specversion: Any = None
    id: Any = None
    source: Any = None
    subject: Any = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()
    traceparent: Any = None
    expiration: Any = None

    def strict(self) -> Envelope:
        specversion = "" if self.specversion is None else "1.0"
        return Envelope(
            specversion,
            word(self.id),
            word(self.source),
            self.subject,
            self.data,
            self.data_base64,
            word(self.traceparent),
            word(self.expiration),
        )


class BulkEntry(msgspec.Struct, gc=False, rename="camel"):
    entry_id: str
    event: msgspec.Raw = msgspec.Raw()
    content_type: str = ""
    metadata: dict[str, Any] | None = None

    def is_raw(self) -> bool:
        return bytes(self.event).startswith(b'"')

    def payload(self) -> bytes:
        """As it is in the broker, if the entry is raw.

        Raises:
            Dropped: it is not what the entry says that it is.

        """
        if not self.is_raw():
            return bytes(self.event)
        if self.content_type.startswith("application/octet-stream"):
            return from_base64(self.event)
        try:
            return json_string.decode(self.event).encode()
        except REFUSED as error:
            raise Dropped(*why_not(bytes(self.event), error)) from None


class _Bulk(msgspec.Struct, gc=False):
    entries: list[BulkEntry]
    type: str = ""


class Unreadable(NamedTuple):
    """An entry of a bulk that can never be understood."""

    entry_id: str
    dropped: Dropped


class _Probe(msgspec.Struct, gc=False):
    type: Any = None


json_string = msgspec.json.Decoder(str)
_base64 = msgspec.json.Decoder(bytes)  # in a third of the time that the standard library takes for such a string
_envelope = msgspec.json.Decoder(Envelope)
_loose = msgspec.json.Decoder(_Loose)
_bulk = msgspec.json.Decoder(_Bulk)
_bulk_entry = msgspec.json.Decoder(BulkEntry)


def read_envelope(body: bytes) -> Envelope:
    """The envelope; what stands bare has one without a `specversion`.

    Raises:
        Dropped: it is no JSON object.

    """
    try:
        return _envelope.decode(body)
    except REFUSED as error:
        refused = error
    if isinstance(refused, msgspec.ValidationError):
        try:
            return _loose.decode(body).strict()
        except REFUSED as error:
            refused = error
    raise Dropped(*why_not(body, refused))


def read_entries(body: bytes) -> list[BulkEntry | Unreadable] | None:
    """The entries of a bulk, in order; None if the body is none."""
    try:
        bulk = _bulk.decode(body)
    except msgspec.ValidationError:
        return _one_by_one(body) if _may_be_bulk(body) else None
    except REFUSED:
        return _one_by_one(body)
    return list(bulk.entries) if bulk.type == BULK_TYPE else None


def _one_by_one(body: bytes) -> list[BulkEntry | Unreadable] | None:
    """The slow way: what one entry did to the document must not touch the others."""
    whole = pieces.members(body)
    if whole.get("type") != b'"' + BULK_TYPE.encode() + b'"':
        return None
    found: list[BulkEntry | Unreadable] = []
    for piece in pieces.elements(whole.get("entries", b"")):
        try:
            found.append(_bulk_entry.decode(piece))
        except REFUSED as error:
            entry_id = _entry_id(piece)
            if entry_id is not None:
                found.append(Unreadable(entry_id, Dropped(*why_not(piece, error))))
    return found


def from_base64(string: msgspec.Raw) -> bytes:
    """What a JSON string holds.

    Raises:
        Dropped: it is not base64.

    """
    try:
        return _base64.decode(string)
    except REFUSED:
        raise Dropped("not_json", "the data is not base64") from None


def word(value: Any) -> str:
    """A string as it is, an integer in decimals, anything else as nothing."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int and abs(value) < _LONGEST_INTEGER else ""


def why_not(body: bytes, error: Exception, field: str = "") -> tuple[str, str]:
    """One word and one sentence for what a decoder refused."""
    if isinstance(error, RecursionError):
        return "not_json", TOO_DEEP
    if not isinstance(error, msgspec.ValidationError) and not _is_utf8(body):
        return "bad_utf8", "the data is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        if not body.lstrip().startswith(b"{"):
            return "not_an_object", "the data is not a JSON object"
        if field:
            return "bad_user", f"the user in {field} is not a string, an integer or a list of them"
        return "not_json", f"the envelope is malformed: {error}"
    return "not_json", f"the data is not JSON: {error}"


def _is_utf8(body: bytes) -> bool:
    """Decides by the bytes: msgspec 0.22 raises a `UnicodeDecodeError` for them, 0.23 a `DecodeError`."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _may_be_bulk(body: bytes) -> bool:
    """Whether it says so, or cannot be read as a whole and has to be looked at closely."""
    try:
        return bool(msgspec.json.decode(body, type=_Probe).type == BULK_TYPE)
    except REFUSED:
        return True


def _entry_id(piece: bytes) -> str | None:
    try:
        return json_string.decode(pieces.members(piece).get("entryId", b""))
    except REFUSED:
        return None
