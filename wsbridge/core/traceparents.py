"""W3C `traceparent`: the identity of a span and of its trace (Trace Context §3.2), as text."""

import re

_VALID = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def trace_id(traceparent: str) -> str:
    """The id of the trace; "" if the text is not a `traceparent` of version 00."""
    found = _VALID.fullmatch(traceparent)
    return found[1] if found else ""
