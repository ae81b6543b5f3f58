"""The bytes of a message: JSON in UTF-8, or the reason why they are not. Independent of envelopes.

Every function here takes time in proportion to the bytes that it is given, whatever they are.
"""

import codecs
import itertools
import struct
from array import array

import msgspec

from wsbridge.core.events import Rejected
from wsbridge.core.reasons import Drop

MAX_DEPTH = 500  # levels of nesting; decoders give up somewhere behind it, each version of Python elsewhere
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding of untrusted bytes raises
_TOO_DEEP = f"the data is nested too deeply: at most {MAX_DEPTH} levels are taken"
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up, as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_UTF16 = (  # what text begins with in another encoding: a byte order mark, or the first bracket
    codecs.BOM_UTF16_LE,  # of UTF-32, too
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_BE,
    *(sign + b"\0" for sign in (b"{", b"[")),
    *(b"\0" + sign + b"\0" for sign in (b"{", b"[")),
    *(b"\0\0\0" + sign + b"\0\0\0" for sign in (b"{", b"[")),
)
_SCHEMA_ID = struct.Struct(">xI")  # a schema registry's wire format: a zero byte, the id in four more, the data
_string = msgspec.json.Decoder(str)
_base64 = msgspec.json.Decoder(bytes)  # in a third of the time that the standard library takes for such a string


def without_bom(data: bytes) -> bytes:
    """Skip a byte order mark in UTF-8, as RFC 8259 §8.1 allows."""
    return data.removeprefix(codecs.BOM_UTF8)


def from_base64(string: bytes | msgspec.Raw) -> bytes | Rejected:
    """Decode the base64 in a JSON string."""
    try:
        return _base64.decode(string)
    except REFUSED:
        return Rejected(Drop.NOT_JSON, "the data is not base64")


def from_string(string: bytes | msgspec.Raw) -> bytes | Rejected:
    """Decode a JSON string that holds text."""
    try:
        return _string.decode(string).encode()
    except REFUSED as error:
        return rejection(bytes(string), error)


def rejection(data: bytes, error: Exception, field: str = "") -> Rejected:
    """Why a decoder refused the data; `field` is where it looked for the user, if it did."""
    if isinstance(error, RecursionError):
        return Rejected(Drop.NOT_JSON, _TOO_DEEP)
    if data.startswith(_UTF16):
        return Rejected(Drop.UTF16, "the data is UTF-16 or UTF-32: JSON must be UTF-8 (RFC 8259 §8.1)")
    if isinstance(error, msgspec.ValidationError):
        return _misfit(data, error, field)
    if len(data) > _SCHEMA_ID.size and data.startswith(b"\0"):
        (schema,) = _SCHEMA_ID.unpack_from(data)
        text = f"the data begins with the five bytes of a schema registry (schema {schema}): plain JSON is taken"
        return Rejected(Drop.SCHEMA_REGISTRY, text)
    if not is_utf8(data):
        return Rejected(Drop.BAD_UTF8, "the data is not UTF-8")
    return Rejected(Drop.NOT_JSON, f"the data is not JSON: {error}")


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def too_deep(json: bytes) -> Rejected | None:
    """Whether JSON, which a decoder has accepted, is nested beyond `MAX_DEPTH`."""
    if json.count(b"[") + json.count(b"{") <= MAX_DEPTH or depth(json) <= MAX_DEPTH:
        return None
    return Rejected(Drop.NOT_JSON, _TOO_DEEP)


def depth(json: bytes) -> int:
    """How deep JSON is nested. All of it runs in C, without backtracking: a megabyte takes milliseconds."""
    plain = json.replace(rb"\\", b"").replace(rb"\"", b"")  # now each quote begins or ends a string
    outside = b"".join(plain.split(b'"')[::2])
    return max(itertools.accumulate(array("b", outside.translate(_STEPS, delete=_NO_BRACKETS))), default=0)


def _misfit(data: bytes, error: msgspec.ValidationError, field: str) -> Rejected:
    """Why the data does not fit, though it is JSON."""
    if not data.lstrip().startswith(b"{"):
        return Rejected(Drop.NOT_AN_OBJECT, "the data is not a JSON object")
    if field:
        return Rejected(Drop.BAD_USER, f"the user in {field} is not a string, an integer or a list of them")
    return Rejected(Drop.NOT_JSON, f"the envelope is malformed: {error}")
