"""Headers of a Kafka message, as the sidecar passes them on: HTTP headers, or the `metadata` of a bulk entry."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from wsbridge.dapr.attributes import short_id

LONGEST_TIME = 15  # digits of milliseconds since 1970: the year 33658


def coordinates(topic: str, metadata: Mapping[str, Any]) -> str:
    """`topic/partition/offset` of the message; "" if it did not come from Kafka."""
    if "__partition" not in metadata or "__offset" not in metadata:
        return ""
    return short_id(f"{topic}/{metadata['__partition']}/{metadata['__offset']}")


def produced_at(metadata: Mapping[str, Any]) -> float | None:
    """Kafka's time of the message, in seconds since 1970; None if there is none."""
    text = metadata.get("__timestamp")
    if type(text) is str and len(text) <= LONGEST_TIME and text.isascii() and text.isdecimal():
        return int(text) / 1_000
    return None


def unescaped(text: str) -> str:
    """Undo what the component's `escapeHeaders` does to a header or key: Go's `url.QueryEscape`."""
    return unquote_plus(text, errors="surrogateescape")
