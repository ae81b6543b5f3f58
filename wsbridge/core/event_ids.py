"""Ids of events, as the bridge stores, logs and searches them. A publisher may choose any."""

import hashlib

LONGEST_ID = 256  # characters; a longer id is replaced by its digest, because ids are remembered for an hour and logged


def shortened(event_id: str) -> str:
    """The id, or its SHA-256 digest if it is long or cannot be encoded as UTF-8."""
    encoded = event_id.encode(errors="surrogatepass")
    is_utf8 = event_id.isascii() or encoded == event_id.encode(errors="replace")
    return event_id if len(event_id) <= LONGEST_ID and is_utf8 else hashlib.sha256(encoded).hexdigest()
