"""What a sidecar posts, understood: CloudEvents in all their forms, for which users. Knows nothing of HTTP."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsbridge.core.events import MAX_USER_BYTES, Event, Rejected, is_user
from wsbridge.core.reasons import Drop
from wsbridge.dapr.bulk import BulkEntry, Unreadable, read_entries
from wsbridge.dapr.envelope import Envelope, read_envelope, read_headers, unescaped, word
from wsbridge.dapr.payload import REFUSED, from_base64, is_utf8, rejection, too_deep, without_bom

MAX_USERS = 1_000  # of one event: each gets it in a history of its own
MAX_SENT = 1 << 30  # bytes, data times users: what sockets are sent for one event; the default size fits
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
    CloudEvent or `@key` of the Kafka message; `max_bytes` bounds the data; `escaped_headers` says that keys and headers
    of Kafka messages arrive URL-encoded.
    """

    def __init__(
        self, types: Mapping[str, str], user_field: str, max_bytes: int, *, escaped_headers: bool = False
    ) -> None:
        self._types = types
        self._field = user_field
        self._depth = 0 if user_field.startswith("@") else user_field.count(".") + 1
        self._data = _user_decoder(user_field)
        self._max_bytes = max_bytes
        self._escaped = escaped_headers

    def read(self, body: bytes, topic: str, metadata: Mapping[str, Any]) -> Event | Rejected:
        """One event: enveloped, bare, or in an envelope around a raw payload.

        `metadata` holds `__key`, `__offset` and the headers of the Kafka message.
        """
        event = self._read(body, topic, metadata)
        return _named(event, topic, metadata) if isinstance(event, Rejected) else event

    def read_bulk(self, body: bytes, topic: str) -> list[tuple[str, Event | Rejected]] | None:
        """Each entry's id with its event, in order; None if the body is no bulk delivery."""
        entries = read_entries(body)
        if entries is None:
            return None
        found: list[tuple[str, Event | Rejected]] = []
        for entry in entries:
            if isinstance(entry, Unreadable):
                found.append(entry)
                continue
            metadata = entry.metadata or {}
            event = self._entry(entry, topic, metadata)
            found.append((entry.entry_id, _named(event, topic, metadata) if isinstance(event, Rejected) else event))
        return found

    def _entry(self, entry: BulkEntry, topic: str, metadata: Mapping[str, Any]) -> Event | Rejected:
        payload = entry.payload()
        if isinstance(payload, Rejected):
            return payload
        read = self._message if entry.is_raw else self._read
        return read(payload, topic, metadata)

    def _read(self, body: bytes, topic: str, metadata: Mapping[str, Any]) -> Event | Rejected:
        """What a sidecar made of a message: an envelope of its own, if the message is raw."""
        body = without_bom(body)
        envelope = read_envelope(body)
        if isinstance(envelope, Envelope) and envelope.is_sidecars:
            message = from_base64(envelope.data_base64)
            return message if isinstance(message, Rejected) else self._message(message, topic, metadata)
        return self._enveloped(envelope, body, topic, metadata)

    def _message(self, body: bytes, topic: str, metadata: Mapping[str, Any]) -> Event | Rejected:
        """A message as it is in the broker."""
        body = without_bom(body)
        return self._enveloped(read_envelope(body), body, topic, metadata)

    def _enveloped(
        self, envelope: Envelope | Rejected, body: bytes, topic: str, metadata: Mapping[str, Any]
    ) -> Event | Rejected:
        if isinstance(envelope, Rejected):
            return envelope
        binary = None if envelope.specversion else read_headers(metadata, escaped=self._escaped)
        if binary is None and not envelope.specversion:
            return self._event(body.strip(), topic, envelope, metadata, stable=False)
        envelope = binary or envelope
        if envelope.has_expired():
            return Rejected(Drop.EXPIRED, f"its time to live ended at {envelope.expiration}", _brief(envelope.id))
        data = body.strip() if binary else envelope.content()
        if isinstance(data, Rejected):
            return data._replace(event_id=_brief(envelope.id))
        return self._event(data, topic, envelope, metadata, stable=True)

    def _event(
        self, data: bytes, topic: str, envelope: Envelope, metadata: Mapping[str, Any], *, stable: bool
    ) -> Event | Rejected:
        event_id, source = _brief(envelope.id), _brief(envelope.source)
        key = f"{source}\n{event_id}" if stable and source and event_id else ""
        if not key and (coordinates := _coordinates(topic, metadata)):
            event_id, key = coordinates, "\n" + coordinates
        users = self._users(data, envelope, metadata)
        if isinstance(users, Rejected):
            return users._replace(event_id=event_id)
        trace = envelope.traceparent or metadata.get("traceparent", "")
        return Event(users, data, self._types[topic], event_id, key, trace, _produced(metadata))

    def _users(self, data: bytes, envelope: Envelope, metadata: Mapping[str, Any]) -> tuple[str, ...] | Rejected:
        if len(data) > self._max_bytes:
            return Rejected(Drop.TOO_LARGE, f"{len(data)} bytes of data, at most {self._max_bytes} are taken")
        try:
            value = self._data.decode(data)
        except REFUSED as error:
            return rejection(data, error, self._field)
        if not is_utf8(data):  # msgspec passes bad UTF-8 through, and one bad byte makes a browser drop its socket
            return Rejected(Drop.BAD_UTF8, "the data is not UTF-8")
        if (rejected := too_deep(data)) is not None:
            return rejected
        for _ in range(self._depth):
            value = None if value is None else value.user
        if self._field == "@subject":
            value = envelope.subject
        elif self._field == "@key":
            value = metadata.get("__key")
            value = unescaped(value) if self._escaped and type(value) is str else value
        users = _checked(value, self._field)
        if not isinstance(users, Rejected) and len(data) * len(users) > MAX_SENT:
            text = f"{len(data)} bytes of data for {len(users)} users, at most {MAX_SENT} bytes in all are sent"
            return Rejected(Drop.TOO_LARGE, text)
        return users


def _checked(value: Any, field: str) -> tuple[str, ...] | Rejected:
    if type(value) is str and 0 < len(value) <= MAX_USER_BYTES and value.isascii():
        return (value,)  # nearly always
    values: Sequence[Any] = value if isinstance(value, list) else (value,)
    if value in (None, "", []):
        return Rejected(Drop.NO_USER, f"there is no user in {field}")
    if len(values) > MAX_USERS:
        return Rejected(Drop.BAD_USER, f"{len(values)} users in {field}, at most {MAX_USERS} are taken")
    users = tuple(dict.fromkeys(word(user) for user in values))
    if not all(is_user(user) for user in users):
        return Rejected(
            Drop.BAD_USER,
            f"a user in {field} is not a string of 1 to {MAX_USER_BYTES} bytes or an integer",
        )
    return users


def _named(rejected: Rejected, topic: str, metadata: Mapping[str, Any]) -> Rejected:
    """Give it an id if it has none, to look for it by."""
    if rejected.event_id:
        return rejected
    return rejected._replace(event_id=_brief(word(metadata.get("ce_id"))) or _coordinates(topic, metadata))


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
    """The text itself, or its digest if it is long or was no UTF-8."""
    if len(text) <= LONGEST_ID and text.isascii():
        return text  # nearly always
    encoded = text.encode(errors="surrogatepass")
    return text if len(text) <= LONGEST_ID and is_utf8(encoded) else hashlib.sha256(encoded).hexdigest()
