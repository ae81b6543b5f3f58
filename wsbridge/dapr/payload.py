"""The bytes of a message: JSON in UTF-8, or the reason why they are refused.

The work of every function is in proportion to the number of bytes, whatever they are.
"""

import codecs
import itertools
import re
import struct
from array import array

import msgspec

from wsbridge.core.events import Rejected
from wsbridge.core.reasons import Drop

MAX_DEPTH = 500  # levels of nesting; deeper data is dropped. Decoders give up later, each version of Python elsewhere
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # raised by decoders for untrusted bytes
_TOO_DEEP = f"the data is nested more than {MAX_DEPTH} levels deep; publish flatter data"
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up, as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_UTF16 = (  # the first bytes of text in UTF-16 or UTF-32: a byte order mark, or a bracket
    codecs.BOM_UTF16_LE,  # also the first half of that of UTF-32
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_BE,
    *(sign + b"\0" for sign in (b"{", b"[")),
    *(b"\0" + sign + b"\0" for sign in (b"{", b"[")),
    *(b"\0\0\0" + sign + b"\0\0\0" for sign in (b"{", b"[")),
)
_SCHEMA_ID = struct.Struct(">xI")  # the wire format of a schema registry: a zero byte, four with the id, the data
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")  # a high surrogate without its low one
_string = msgspec.json.Decoder(str)
_base64 = msgspec.json.Decoder(bytes)  # three times as fast as the standard library


def without_bom(data: bytes) -> bytes:
    """Skip a UTF-8 byte order mark, as RFC 8259 §8.1 allows."""
    return data.removeprefix(codecs.BOM_UTF8)


def from_base64(string: bytes | msgspec.Raw) -> bytes | Rejected:
    """Decode the base64 in a JSON string, without a byte order mark."""
    try:
        return without_bom(_base64.decode(string))
    except REFUSED:
        return Rejected(Drop.NOT_JSON, "the data is not base64; check how its publisher encodes it")


def from_string(string: bytes | msgspec.Raw) -> bytes | Rejected:
    """Decode a JSON string that holds text, without a byte order mark."""
    try:
        return without_bom(_string.decode(string).encode())
    except REFUSED as error:
        return rejection(bytes(string), error)


def rejection(data: bytes, error: Exception, field: str = "") -> Rejected:
    """The reason why a decoder refused the data. `field` is the field of the user if the decoder reads it, else ""."""
    if isinstance(error, RecursionError):
        return Rejected(Drop.NOT_JSON, _TOO_DEEP)
    if data.startswith(_UTF16):
        return Rejected(Drop.UTF16, "the data is UTF-16 or UTF-32; encode the JSON as UTF-8")
    if isinstance(error, msgspec.ValidationError):
        return _misfit(data, error, field)
    if len(data) > _SCHEMA_ID.size and data.startswith(b"\0"):
        (schema,) = _SCHEMA_ID.unpack_from(data)
        text = f"the data begins with the five bytes of a schema registry (schema {schema}); publish plain JSON"
        return Rejected(Drop.SCHEMA_REGISTRY, text)
    if not is_utf8(data):
        return Rejected(Drop.BAD_UTF8, "the data is not UTF-8; encode the JSON as UTF-8")
    text = f"the data is not JSON; publish a JSON object. {error}"
    if "surrogate" in str(error) or _HALF_PAIR.search(data):  # msgspec may call the data truncated
        text = "the data has half of an escaped surrogate pair; publish whole characters"
    return Rejected(Drop.NOT_JSON, text)


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def too_deep(json: bytes) -> Rejected | None:
    """The rejection of JSON that is nested beyond `MAX_DEPTH`; the argument must be valid JSON."""
    if json.count(b"[") + json.count(b"{") <= MAX_DEPTH or depth(json) <= MAX_DEPTH:
        return None
    return Rejected(Drop.NOT_JSON, _TOO_DEEP)


def depth(json: bytes) -> int:
    """How many levels deep JSON is nested. Runs in C without backtracking; a megabyte takes milliseconds."""
    plain = json.replace(rb"\\", b"").replace(rb"\"", b"")  # now each quote begins or ends a string
    outside = b"".join(plain.split(b'"')[::2])
    return max(itertools.accumulate(array("b", outside.translate(_STEPS, delete=_NO_BRACKETS))), default=0)


def _misfit(data: bytes, error: msgspec.ValidationError, field: str) -> Rejected:
    if not data.lstrip().startswith(b"{"):
        return Rejected(Drop.NOT_AN_OBJECT, "the data is JSON but not an object; publish a JSON object")
    if field:
        return Rejected(Drop.BAD_USER, f"{field} must be a string, an integer or a list of these")
    return Rejected(Drop.NOT_JSON, f"the entry of the bulk is malformed: {error}")
