"""The top-level pieces of text that should be JSON and is not as a whole. Knows nothing of events.

msgspec decodes a document or refuses it; one entry nested 2,000 deep would take its whole bulk with it. Here text is
cut at its own brackets and commas, without recursion and without looking inside.

Each pass takes time in proportion to the text: a token begins at every quote and bracket, so what was looked at once is
never looked at again. A string that does not end is a token, too, up to the end of the text.
"""

import re
from collections.abc import Iterator

import msgspec

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]', re.DOTALL)


def elements(text: bytes) -> list[bytes]:
    """The elements of a JSON array, as they stand; an empty list if the text is not one."""
    text = text.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return []
    return [piece for piece in _cut(text, b",") if piece]


def members(text: bytes) -> dict[str, bytes]:
    """The members of a JSON object, values as they stand; those with an unreadable name are left out."""
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
            case _:
                pass
    yield text[start:-1].strip()
