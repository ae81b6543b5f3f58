"""Attributes of events as short, printable text, whatever an untrusted publisher puts into them."""

import hashlib
from typing import Any

from wsbridge.core.user_ids import MAX_USER_BYTES
from wsbridge.dapr.payload import is_utf8

LONGEST_ID = 256  # characters; a longer id is replaced by its digest, because ids are remembered for an hour and logged
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
    if value is None:
        return ""
    text = as_text(value)
    encoded = text.encode(errors="surrogatepass")
    return text if len(text) <= LONGEST_ID and is_utf8(encoded) else hashlib.sha256(encoded).hexdigest()
