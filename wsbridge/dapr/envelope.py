"""CloudEvents 1.0 around an event, in the JSON format or in Kafka headers. Looks into no data."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, unquote_plus

import msgspec

from wsbridge.core.events import MAX_USER_BYTES, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.dapr.payload import REFUSED, from_base64, from_string, rejection, without_bom

BINARY = "ce_specversion"  # the header that makes a Kafka message a CloudEvent in binary content mode
RAW_SOURCE = "Dapr"  # the source of envelopes that the sidecar makes up around raw payloads, with an id that changes
_LONGEST_INTEGER = 10**MAX_USER_BYTES  # Python refuses to write out those of thousands of digits


class Envelope(msgspec.Struct, gc=False):
    """The attributes of a CloudEvent, and its data if the envelope is JSON."""

    specversion: str = ""
    id: str = ""
    source: str = ""
    subject: Any = None  # may hold users, in any of their forms
    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()
    traceparent: str = ""  # the extensions: Distributed Tracing, and Dapr's time to live
    expiration: str = ""

    @property
    def is_sidecars(self) -> bool:
        """Whether a sidecar made it up, around the bytes of a message."""
        return self.source == RAW_SOURCE and self._is_base64

    @property
    def _is_base64(self) -> bool:
        return bytes(self.data_base64).startswith(b'"')

    def has_expired(self) -> bool:
        """Never, where that is no time with its zone: as for a sidecar."""
        if not self.expiration:
            return False
        try:
            end = datetime.fromisoformat(self.expiration)
        except ValueError:
            return False
        return end.tzinfo is not None and end < datetime.now(UTC)

    def content(self) -> bytes | Rejected:
        """The data: a JSON value as it stands, or what a string or base64 holds."""
        if self._is_base64:
            return _unmarked(from_base64(self.data_base64))
        data = bytes(self.data)
        if data.startswith(b'"'):
            return _unmarked(from_string(data))
        if not data or data == b"null":
            return Rejected(Drop.NO_DATA, "the CloudEvent has no data")
        return data


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


_envelope = msgspec.json.Decoder(Envelope)
_loose = msgspec.json.Decoder(_Loose)


def read_envelope(body: bytes) -> Envelope | Rejected:
    """The envelope of a JSON object; a bare one gets an envelope without a `specversion`."""
    try:
        return _envelope.decode(body)
    except REFUSED as error:
        refused = error
    if isinstance(refused, msgspec.ValidationError):
        try:
            return _loose.decode(body).strict()
        except REFUSED as error:
            refused = error
    return rejection(body, refused)


def read_headers(headers: Mapping[str, Any], *, escaped: bool) -> Envelope | None:
    """The envelope of a CloudEvent in binary content mode (Kafka Protocol Binding §3.2); None if it is not one.

    `escaped` says whether the sidecar's Kafka component has `escapeHeaders` on.
    """
    if BINARY not in headers:
        return None

    def attribute(name: str) -> str:
        text = word(headers.get(f"ce_{name}"))
        return unescaped(text) if escaped else text

    expiration = word(headers.get("ce_expiration"))
    return Envelope(
        "1.0",
        attribute("id"),
        attribute("source"),
        attribute("subject"),
        traceparent=attribute("traceparent"),
        expiration=expiration if ":" in expiration else unquote(expiration),  # a time has colons, unless it is escaped
    )


def unescaped(text: str) -> str:
    """Undo what `escapeHeaders` does to a header or key: Go's `url.QueryEscape`."""
    return unquote_plus(text, errors="surrogateescape")


def word(value: Any) -> str:
    """A string as it is, an integer in decimals, anything else as nothing."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int and abs(value) < _LONGEST_INTEGER else ""


def _unmarked(data: bytes | Rejected) -> bytes | Rejected:
    return data if isinstance(data, Rejected) else without_bom(data)
