"""Attributes of events and of Kafka messages as short text, whatever an untrusted publisher puts into them.

The headers of a Kafka message are HTTP headers, or the `metadata` of a bulk entry.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from wsbridge.core.event_ids import LONGEST_ID, shortened
from wsbridge.core.receipts import LONGEST
from wsbridge.core.user_ids import MAX_USER_BYTES
from wsbridge.dapr.json_pieces import members
from wsbridge.dapr.payload import REFUSED

SEARCHED = 2_048  # bytes of a malformed envelope, which take half a millisecond
LONGEST_TIME = 15  # digits of milliseconds since 1970: the year 33658
_LONGEST_INTEGER = 10**MAX_USER_BYTES  # Python refuses to write out integers of thousands of digits


def as_text(value: Any) -> str:
    """A string unchanged, an integer in decimals, anything else as ""."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int and abs(value) < _LONGEST_INTEGER else ""


def short_id(value: Any) -> str:
    """The text of an id, or its SHA-256 digest if it is long or not encodable as UTF-8."""
    if type(value) is str and len(value) <= LONGEST_ID and value.isascii():
        return value  # nearly always
    return "" if value is None else shortened(as_text(value))


def coordinates(topic: str, metadata: Mapping[str, Any]) -> str:
    """`topic/partition/offset` of the message; "" if it did not come from Kafka."""
    if "__partition" not in metadata or "__offset" not in metadata:
        return ""
    return short_id(f"{topic}/{metadata['__partition']}/{metadata['__offset']}")


def id_of(topic: str, metadata: Mapping[str, Any]) -> str:
    """The id of a message of which only the headers can be read; "" if they have none."""
    return short_id(metadata.get("ce_id")) or coordinates(topic, metadata)


def id_in(envelope: bytes) -> str:
    """The `id` near the beginning of an envelope that no decoder accepts as a whole; "" if it cannot be read.

    Only a part is searched, because an untrusted publisher decides how long this takes: a megabyte takes seconds.
    """
    part = envelope[:SEARCHED].rstrip()
    try:
        return short_id(msgspec.json.decode(members(part.removesuffix(b"}") + b"}").get("id", b"")))
    except REFUSED:
        return ""


def produced_at(metadata: Mapping[str, Any]) -> float | None:
    """Kafka's time of the message, in seconds since 1970; None if there is none."""
    text = metadata.get("__timestamp")
    if type(text) is str and len(text) <= LONGEST_TIME and text.isascii() and text.isdecimal():
        return int(text) / 1_000
    return None


def receipt_after(value: Any) -> float | None:
    """The seconds that the extension `wsreceipt` names; 0 for the default, None for no receipt.

    A value that is not a number of seconds, such as true, asks for the default.
    """
    if value in (False, "", "0", "false"):  # also 0, which equals False
        return None
    text = as_text(value)
    return min(float(text), LONGEST) if text.isascii() and text.isdecimal() else 0.0


def unescaped(text: str) -> str:
    """Undo what the component's `escapeHeaders` does to a header or key: Go's `url.QueryEscape`."""
    return unquote_plus(text, errors="surrogateescape")
