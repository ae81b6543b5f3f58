"""What a sidecar posts, understood: CloudEvents in all their forms. Knows nothing of HTTP."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsbridge import pieces
from wsbridge.envelope import (
    MAX_DEPTH,
    REFUSED,
    TOO_DEEP,
    BulkEntry,
    Envelope,
    Unreadable,
    from_base64,
    json_string,
    read_entries,
    read_envelope,
    why_not,
    word,
)
from wsbridge.event import MAX_USER_BYTES, Dropped, Event, is_user

MAX_USERS = 1_000  # of one event: each gets it in a history of its own
RAW_SOURCE = "Dapr"  # the source of envelopes that the sidecar makes up around raw payloads, with an id that changes
LONGEST_TIME = 15  # digits of milliseconds since the epoch: the year 33658
LONGEST_ID = 256  # characters: ids are remembered for an hour and logged, whatever a publisher puts into them


class _AnyObject(msgspec.Struct, gc=False):
    """Whatever is in it, it is a JSON object."""


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

    def read(self, body: bytes, topic: str, metadata: Mapping[str, Any]) -> Event:
        """One event: enveloped, bare, or in an envelope around a raw payload; `metadata` holds `__key`, `__offset`, ….

        Raises:
            Dropped: it can never be understood.

        """
        try:
            return self._read(body, topic, metadata, raw=False)
        except Dropped as dropped:
            raise _named(dropped, topic, metadata) from None

    def _read(self, body: bytes, topic: str, metadata: Mapping[str, Any], *, raw: bool) -> Event:
        envelope = read_envelope(body)
        if not envelope.specversion:
            return self._event(body.strip(), topic, envelope, metadata, stable=False)
        if envelope.has_expired():
            raise Dropped("expired", f"its time to live ended at {envelope.expiration}", envelope.id)
        if bytes(envelope.data_base64).startswith(b'"'):
            data = from_base64(envelope.data_base64)
            if envelope.source == RAW_SOURCE and not raw:
                return self._read(data, topic, metadata, raw=True)
            return self._event(data, topic, envelope, metadata, stable=True)
        data = bytes(envelope.data)
        if data.startswith(b'"'):
            data = self._unquoted(data, envelope)
        elif not data or data == b"null":
            raise Dropped("no_data", "the CloudEvent has no data", envelope.id)
        return self._event(data, topic, envelope, metadata, stable=True)

    @staticmethod
    def _unquoted(data: bytes, envelope: Envelope) -> bytes:
        try:
            return json_string.decode(data).encode()
        except REFUSED as error:
            raise Dropped(*why_not(data, error), envelope.id) from None

    def read_bulk(self, body: bytes, topic: str) -> list[tuple[str, Event | Dropped]] | None:
        """Each entry's id with its event, in order; None if the body is no bulk delivery."""
        entries = read_entries(body)
        if entries is None:
            return None
        return [(e.entry_id, e.dropped if isinstance(e, Unreadable) else self._entry(e, topic)) for e in entries]

    def _entry(self, entry: BulkEntry, topic: str) -> Event | Dropped:
        metadata = entry.metadata or {}
        try:
            return self._read(entry.payload(), topic, metadata, raw=entry.is_raw())
        except Dropped as dropped:
            return _named(dropped, topic, metadata)

    def _event(
        self, data: bytes, topic: str, envelope: Envelope, metadata: Mapping[str, Any], *, stable: bool
    ) -> Event:
        event_id, source = envelope.id, envelope.source
        if len(event_id) > LONGEST_ID or len(source) > LONGEST_ID:
            event_id, source = _brief(event_id), _brief(source)
        key = f"{source}\n{event_id}" if stable and source and event_id else ""
        if not key and (coordinates := _coordinates(topic, metadata)):
            event_id, key = coordinates, "\n" + coordinates
        if len(data) > self._max_bytes:
            raise Dropped("too_large", f"{len(data)} bytes of data, at most {self._max_bytes} are taken", event_id)
        if len(data) > 2 * MAX_DEPTH and _is_deep(data):  # shorter, it has not brackets enough
            raise Dropped("not_json", TOO_DEEP, event_id)
        users = self._users(data, envelope, metadata, event_id)
        trace = envelope.traceparent or metadata.get("traceparent", "")
        return Event(users, data, self._types[topic], event_id, key, trace, _produced(metadata))

    def _users(self, data: bytes, envelope: Envelope, metadata: Mapping[str, Any], event_id: str) -> tuple[str, ...]:
        try:
            data.decode()  # msgspec passes bad UTF-8 through, and one bad byte makes a browser drop its socket
            value = self._data.decode(data)
        except REFUSED as error:
            raise Dropped(*why_not(data, error, self._field), event_id) from None
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
    users = tuple(dict.fromkeys(word(user) for user in values))
    if not all(is_user(user) for user in users):
        raise Dropped(
            "bad_user",
            f"a user in {field} is not a string of 1 to {MAX_USER_BYTES} bytes or an integer",
            event_id,
        )
    return users


def _is_deep(data: bytes) -> bool:
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH and pieces.depth(data) > MAX_DEPTH


def _named(dropped: Dropped, topic: str, metadata: Mapping[str, Any]) -> Dropped:
    """Whoever has to look for it needs an id."""
    dropped.event_id = dropped.event_id or _coordinates(topic, metadata)
    return dropped


def _coordinates(topic: str, metadata: Mapping[str, Any]) -> str:
    """Of a message in Kafka; "" if it has not come from there."""
    if "__partition" not in metadata or "__offset" not in metadata:
        return ""
    return _brief(f"{topic}/{metadata['__partition']}/{metadata['__offset']}")


def _produced(metadata: Mapping[str, Any]) -> float | None:
    """Kafka's time of the message, in seconds since the epoch; None where there is none."""
    text = metadata.get("__timestamp")
    if type(text) is str and len(text) <= LONGEST_TIME and text.isascii() and text.isdecimal():
        return int(text) / 1_000
    return None


def _brief(text: str) -> str:
    """The text itself, or its digest if it is long."""
    return text if len(text) <= LONGEST_ID else hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
