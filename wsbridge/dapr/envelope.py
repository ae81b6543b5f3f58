"""Reads the data, id and source of one message that the sidecar posts. Does not parse the data.

A message is a CloudEvents 1.0 envelope in JSON, data with CloudEvents attributes in Kafka headers, or bare data.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from wsbridge.core.events import Rejected
from wsbridge.core.reasons import Drop
from wsbridge.dapr.attributes import as_text, coordinates, id_in, id_of, receipt_after, short_id, unescaped
from wsbridge.dapr.payload import REFUSED, from_base64, from_string, rejection, without_bom

BINARY_MODE = "ce_specversion"  # the header that makes a Kafka message a CloudEvent in binary content mode
SIDECAR = "Dapr"  # the source of the envelopes that a sidecar puts around verbatim messages; their ids change
_OCTETS = "application/octet-stream"
_LONGEST_SHOWN = 64  # characters of a time in a text for operators


class Envelope(msgspec.Struct, gc=False):
    """The attributes of a CloudEvent, and its data if the envelope is JSON.

    Attributes are of any type: a publisher who mistypes one must not lose the data.
    """

    specversion: Any = None
    id: Any = None
    source: Any = None
    subject: Any = None  # may hold users, in any of their forms
    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()
    traceparent: Any = None  # the extension Distributed Tracing
    expiration: Any = None  # Dapr's time to live
    wsreceipt: Any = None  # the extension of this bridge: seconds until a receipt, or true

    @property
    def is_base64(self) -> bool:
        return bytes(self.data_base64).startswith(b'"')

    def has_expired(self) -> bool:
        """False also if the expiration is not a time with a zone, as a sidecar does it."""
        try:
            end = datetime.fromisoformat(as_text(self.expiration))
        except ValueError:
            return False
        return end.tzinfo is not None and end < datetime.now(UTC)

    def content(self) -> bytes | Rejected:
        """The data: a JSON value verbatim, or the content of a string or of base64."""
        if self.is_base64:
            return from_base64(self.data_base64)
        data = bytes(self.data)
        if data.startswith(b'"'):
            return from_string(data)
        if not data or data == b"null":
            return Rejected(Drop.NO_DATA, "the CloudEvent has no data; publish a JSON object as its data")
        return data


class Message(msgspec.Struct, gc=False):
    """A message without its envelope. `id` and `key` are those of `Event`; `subject` may hold users."""

    data: bytes
    id: str
    key: str
    subject: Any
    trace: str
    receipt: float | None = None


_envelope = msgspec.json.Decoder(Envelope)


def open_message(
    posted: bytes, topic: str, metadata: Mapping[str, Any], *, content_type: str | None, escaped: bool
) -> Message | Rejected:
    """Read a message that the sidecar posted.

    `posted` is the body of a single delivery, or a bulk entry's `event`. `content_type` is that of a bulk entry, None
    for a single delivery. `escaped` is whether the Kafka component sets `escapeHeaders`.
    """
    envelope, body = _unwrapped(posted, content_type)
    if isinstance(envelope, Rejected):
        return _named(envelope, id_in(body), topic, metadata)
    data: bytes | Rejected
    key = ""
    is_bare = envelope.specversion in (None, "")
    if is_bare and BINARY_MODE not in metadata:
        data, event_id = body.strip(), short_id(envelope.id)
    else:
        if is_bare:
            envelope, data = read_headers(metadata, escaped=escaped), body.strip()
        else:
            data = envelope.content()
        event_id, source = short_id(envelope.id), short_id(envelope.source)
        if envelope.expiration and envelope.has_expired():
            text = f"the event's time to live ended at {envelope.expiration[:_LONGEST_SHOWN]}, before it was delivered"
            data = Rejected(Drop.EXPIRED, text)
        if isinstance(data, Rejected):
            return _named(data, event_id, topic, metadata)._replace(trace=_trace(envelope, metadata))
        if source and event_id:
            key = f"{source}\n{event_id}"
    if not key and (place := coordinates(topic, metadata)):
        event_id, key = place, "\n" + place
    receipt = None if envelope.wsreceipt is None else receipt_after(envelope.wsreceipt)
    return Message(data, event_id, key, envelope.subject, _trace(envelope, metadata), receipt)


def read_headers(metadata: Mapping[str, Any], *, escaped: bool) -> Envelope:
    """The envelope of a CloudEvent in binary content mode (Kafka Protocol Binding §3.2)."""

    def attribute(name: str) -> str:
        text = as_text(metadata.get(f"ce_{name}"))
        return unescaped(text) if escaped else text

    return Envelope(
        "1.0",
        attribute("id"),
        attribute("source"),
        attribute("subject"),
        traceparent=attribute("traceparent"),
        expiration=unquote(as_text(metadata.get("ce_expiration"))),  # changes nothing in a time that is not escaped
        wsreceipt=metadata.get("ce_wsreceipt"),
    )


def _trace(envelope: Envelope, metadata: Mapping[str, Any]) -> str:
    return as_text(envelope.traceparent) or as_text(metadata.get("traceparent"))


def _unwrapped(posted: bytes, content_type: str | None) -> tuple[Envelope | Rejected, bytes]:
    """The message's envelope and its bytes.

    Decides whether the sidecar has passed the message on verbatim (`rawPayload`). A verbatim message is a JSON string
    in a bulk entry, and the base64 data of an envelope of the sidecar's own in a single delivery.
    """
    body: bytes | Rejected
    if content_type is not None and posted.startswith(b'"'):
        body = from_base64(posted) if content_type.startswith(_OCTETS) else from_string(posted)
    else:
        posted = without_bom(posted)
        envelope = _read_envelope(posted)
        if isinstance(envelope, Rejected) or envelope.source != SIDECAR or not envelope.is_base64:
            return envelope, posted
        body = from_base64(envelope.data_base64)
    return (body, b"") if isinstance(body, Rejected) else (_read_envelope(body), body)


def _read_envelope(body: bytes) -> Envelope | Rejected:
    try:
        return _envelope.decode(body)
    except REFUSED as error:
        return rejection(body, error)


def _named(rejected: Rejected, event_id: str, topic: str, metadata: Mapping[str, Any]) -> Rejected:
    """The same rejection with an id by which operators can find the message."""
    return rejected._replace(event_id=event_id or id_of(topic, metadata))
