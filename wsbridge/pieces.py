"""The top-level pieces of a JSON text that a strict decoder refuses as a whole. Knows nothing of events.

msgspec decodes a document or refuses it; one entry nested 2,000 deep would take its whole bulk with it. Here a text is
cut at its own brackets and commas, without recursion and without looking inside.
"""

import itertools
import re
from array import array
from collections.abc import Iterator

import msgspec

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb"|[\[\]{},:]", re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up, as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


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


def depth(text: bytes) -> int:
    """How deep a JSON text is nested. All of it runs in C: a megabyte takes milliseconds."""
    brackets = _STRING.sub(b"", text).translate(_STEPS, delete=_NO_BRACKETS)
    return max(itertools.accumulate(array("b", brackets)), default=0)


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
