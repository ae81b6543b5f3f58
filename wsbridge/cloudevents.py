"""What a sidecar posts, understood: CloudEvents in all their forms. Knows nothing of HTTP."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsbridge import pieces
from wsbridge.event import MAX_USER_BYTES, Dropped, Event, is_user

MAX_DEPTH = 500  # of the data; decoders give up somewhere behind it, each version of Python elsewhere
MAX_USERS = 1_000  # of one event: each gets it in a history of its own
RAW_SOURCE = "Dapr"  # the source of envelopes that the sidecar makes up around raw payloads, with an id that changes
_LONGEST_INTEGER = 10**MAX_USER_BYTES  # Python refuses to write out those of thousands of digits
LONGEST_ID = 256  # characters: ids are remembered for an hour and logged, whatever a publisher puts into them
_TOO_DEEP = f"the data is nested too deeply: {MAX_DEPTH} levels are taken"
BULK_TYPE = "com.dapr.event.sent.bulk"


class _Envelope(msgspec.Struct, gc=False):
    """CloudEvents 1.0 JSON format."""

    specversion: str = ""
    id: str = ""
    source: str = ""
    subject: Any = None  # may hold users, in any of their forms
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


class _LooseEnvelope(msgspec.Struct, gc=False):
    """The same from a publisher who mistypes attributes: that must not cost the data."""

    specversion: Any = None
    id: Any = None
    source: Any = None
    subject: Any = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: Any = None

    def strict(self) -> _Envelope:
        specversion = "" if self.specversion is None else "1.0"
        encoded = self.data_base64 if isinstance(self.data_base64, str) else None
        return _Envelope(specversion, _word(self.id), _word(self.source), self.subject, self.data, encoded)


class _BulkEntry(msgspec.Struct, gc=False, rename="camel"):
    entry_id: str
    event: msgspec.Raw = msgspec.Raw()
    content_type: str = ""
    metadata: dict[str, Any] | None = None


class _Bulk(msgspec.Struct, gc=False):
    entries: list[_BulkEntry]
    type: str = ""


class _Probe(msgspec.Struct, gc=False):
    type: Any = None


class _AnyObject(msgspec.Struct, gc=False):
    """Whatever is in it, it is a JSON object."""


_envelope = msgspec.json.Decoder(_Envelope)
_loose_envelope = msgspec.json.Decoder(_LooseEnvelope)
_bulk = msgspec.json.Decoder(_Bulk)
_bulk_entry = msgspec.json.Decoder(_BulkEntry)
_text = msgspec.json.Decoder(str)
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _read_envelope(body: bytes) -> _Envelope:
    try:
        return _envelope.decode(body)
    except _REFUSED as error:
        refused = error
    if isinstance(refused, msgspec.ValidationError):
        try:
            return _loose_envelope.decode(body).strict()
        except _REFUSED as error:
            refused = error
    raise Dropped(*_why_not(body, refused))


def _user_decoder(path: str) -> msgspec.json.Decoder[Any]:
    """A decoder that looks at nothing in the data but the field that `path` names."""
    if path.startswith("@"):
        return msgspec.json.Decoder(_AnyObject)
    kind: Any = str | int | list[str | int]
    for name in reversed(path.split(".")):
        kind = msgspec.defstruct("Data", [("user", kind | None, None)], rename={"user": name}, gc=False)
    return msgspec.json.Decoder(kind)


class EventReader:
    """Bytes → events.

    `types` says which message type a topic stands for; `user_field` is a dotted path in the data, `@subject` of the
    CloudEvent or `@key` of the Kafka message; `max_bytes` bounds the data.
    """

    def __init__(self, types: Mapping[str, str], user_field: str, max_bytes: int) -> None:
        self._types = types
        self._field = user_field
        self._depth = 0 if user_field.startswith("@") else user_field.count(".") + 1
        self._data = _user_decoder(user_field)
        self._max_bytes = max_bytes

    def read(self, body: bytes, topic: str, metadata: Mapping[str, Any], *, raw: bool = False) -> Event:
        """One event: enveloped, bare, or as the bytes of a raw payload; `metadata` holds `__key`, `__offset`, ….

        Raises:
            Dropped: it can never be understood.

        """
        envelope = _read_envelope(body)
        if not envelope.specversion:
            return self._event(body.strip(), topic, envelope, metadata, stable=False)
        if envelope.data_base64 is not None:
            data = _from_base64(envelope.data_base64)
            if envelope.source == RAW_SOURCE and not raw:
                return self.read(data, topic, metadata, raw=True)
            return self._event(data, topic, envelope, metadata, stable=True)
        data = bytes(envelope.data)
        if data.startswith(b'"'):
            data = self._unquoted(data, envelope)
        elif not data or data == b"null":
            raise Dropped("no_data", "the CloudEvent has no data", envelope.id)
        return self._event(data, topic, envelope, metadata, stable=True)

    @staticmethod
    def _unquoted(data: bytes, envelope: _Envelope) -> bytes:
        try:
            return _text.decode(data).encode()
        except _REFUSED as error:
            raise Dropped(*_why_not(data, error), envelope.id) from None

    def read_bulk(self, body: bytes, topic: str) -> list[tuple[str, Event | Dropped]] | None:
        """Each entry's id with its event, in order; None if the body is no bulk delivery."""
        try:
            bulk = _bulk.decode(body)
        except msgspec.ValidationError:
            if not _claims_bulk(body):
                return None
        except _REFUSED:
            pass
        else:
            return [(e.entry_id, self._entry(e, topic)) for e in bulk.entries] if bulk.type == BULK_TYPE else None
        return self._pieces(body, topic)

    def _pieces(self, body: bytes, topic: str) -> list[tuple[str, Event | Dropped]] | None:
        """The slow way: what one entry did to the document must not touch the others."""
        whole = pieces.members(body)
        if whole.get("type") != b'"' + BULK_TYPE.encode() + b'"':
            return None
        found: list[tuple[str, Event | Dropped]] = []
        for piece in pieces.elements(whole.get("entries", b"")):
            try:
                entry = _bulk_entry.decode(piece)
            except _REFUSED as error:
                entry_id = _entry_id(piece)
                if entry_id is not None:
                    found.append((entry_id, Dropped(*_why_not(piece, error))))
            else:
                found.append((entry.entry_id, self._entry(entry, topic)))
        return found

    def _entry(self, entry: _BulkEntry, topic: str) -> Event | Dropped:
        event, metadata = bytes(entry.event), entry.metadata or {}
        try:
            if not event.startswith(b'"'):
                return self.read(event, topic, metadata)
            text = _text.decode(event)
            binary = entry.content_type.startswith("application/octet-stream")
            return self.read(_from_base64(text) if binary else text.encode(), topic, metadata, raw=True)
        except Dropped as dropped:
            return dropped
        except _REFUSED as error:
            return Dropped(*_why_not(event, error))

    def _event(
        self, data: bytes, topic: str, envelope: _Envelope, metadata: Mapping[str, Any], *, stable: bool
    ) -> Event:
        event_id, source = envelope.id, envelope.source
        if len(event_id) > LONGEST_ID or len(source) > LONGEST_ID:
            event_id, source = _brief(event_id), _brief(source)
        key = f"{source}\n{event_id}" if stable and source and event_id else ""
        if not key and "__partition" in metadata and "__offset" in metadata:
            event_id = _brief(f"{topic}/{metadata['__partition']}/{metadata['__offset']}")
            key = "\n" + event_id
        if len(data) > self._max_bytes:
            raise Dropped("too_large", f"{len(data)} bytes of data, at most {self._max_bytes} are taken", event_id)
        if len(data) > 2 * MAX_DEPTH and _is_deep(data):  # shorter, it has not brackets enough
            raise Dropped("not_json", _TOO_DEEP, event_id)
        users = self._users(data, envelope, metadata, event_id)
        return Event(users, data, self._types[topic], event_id, key)

    def _users(self, data: bytes, envelope: _Envelope, metadata: Mapping[str, Any], event_id: str) -> tuple[str, ...]:
        try:
            data.decode()  # msgspec passes bad UTF-8 through, and one bad byte makes a browser drop its socket
            value = self._data.decode(data)
        except _REFUSED as error:
            raise Dropped(*_why_not(data, error, self._field), event_id) from None
        for _ in range(self._depth):
            value = None if value is None else value.user
        if self._field == "@subject":
            value = envelope.subject
        elif self._field == "@key":
            value = metadata.get("__key")
        return _checked(value, self._field, event_id)


def _checked(value: Any, field: str, event_id: str) -> tuple[str, ...]:
    if type(value) is str and 0 < len(value) <= MAX_USER_BYTES and value.isascii():
        return (value,)  # nearly always
    values: Sequence[Any] = value if isinstance(value, list) else (value,)
    if value in (None, "", []):
        raise Dropped("no_user", f"there is no user in {field}", event_id)
    if len(values) > MAX_USERS:
        raise Dropped("bad_user", f"{len(values)} users in {field}, at most {MAX_USERS} are taken", event_id)
    users = tuple(dict.fromkeys(_word(user) for user in values))
    if not all(is_user(user) for user in users):
        raise Dropped(
            "bad_user",
            f"a user in {field} is not a string of 1 to {MAX_USER_BYTES} bytes or an integer",
            event_id,
        )
    return users


def _is_deep(data: bytes) -> bool:
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH and pieces.depth(data) > MAX_DEPTH


def _word(value: Any) -> str:
    """A string as it is, an integer in decimals, anything else as nothing."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int and abs(value) < _LONGEST_INTEGER else ""


def _brief(text: str) -> str:
    """The text itself, or its digest if it is long."""
    return text if len(text) <= LONGEST_ID else hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Dropped("not_json", "the data is not base64") from None


def _why_not(body: bytes, error: Exception, field: str = "") -> tuple[str, str]:
    """One word and one sentence for what a decoder refused."""
    if isinstance(error, UnicodeDecodeError):
        return "bad_utf8", "the data is not UTF-8"
    if isinstance(error, RecursionError):
        return "not_json", _TOO_DEEP
    if isinstance(error, msgspec.ValidationError):
        if not body.lstrip().startswith(b"{"):
            return "not_an_object", "the data is not a JSON object"
        if field:
            return "bad_user", f"the user in {field} is not a string, an integer or a list of them"
        return "not_json", f"the envelope is malformed: {error}"
    return "not_json", f"the data is not JSON: {error}"


def _claims_bulk(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body, type=_Probe).type == BULK_TYPE)
    except _REFUSED:
        return False


def _entry_id(piece: bytes) -> str | None:
    try:
        return _text.decode(pieces.members(piece).get("entryId", b""))
    except _REFUSED:
        return None
