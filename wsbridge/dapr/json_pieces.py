"""Cuts a JSON document at its top-level commas and colons, also if a part of it is not JSON.

Decoders refuse such a document as a whole: one bulk entry that is nested 2,000 levels deep would cost all entries. A
sidecar that passes messages on verbatim (`rawPayload`) never sends one.

The work is in proportion to the length of the text, and there is no recursion: a token begins at every quote and
bracket, so no byte is looked at twice. A string without an end is a token up to the end of the text.
"""

import re
from collections.abc import Iterator

import msgspec

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]', re.DOTALL)


def elements(text: bytes) -> list[bytes] | None:
    """The elements of a JSON array, verbatim; None if the text is not in brackets."""
    text = text.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return None
    return [piece for piece in _cut(text, b",") if piece]


def members(text: bytes) -> dict[str, bytes]:
    """The members of a JSON object, values verbatim; empty if the text is not in braces.

    Members with an unreadable name are left out.
    """
    text = text.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return {}
    pieces = list(_cut(text, b",:"))
    found = {}
    for name, value in zip(pieces[::2], pieces[1::2], strict=False):
        try:
            found[msgspec.json.decode(name, type=str)] = value
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def _cut(text: bytes, separators: bytes) -> Iterator[bytes]:
    depth, start = 0, 1
    for token in _TOKEN.finditer(text):
        match token.group():
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case sign if depth == 1 and sign in separators:
                yield text[start : token.start()].strip()
                start = token.end()
    yield text[start:-1].strip()
