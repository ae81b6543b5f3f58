"""Types of settings: how the text of a variable becomes a value, what was expected instead, how a value is shown.

msgspec converts and checks numbers, booleans and choices. pydantic-settings and environs were tried. Both would still
need the parsers of this module, and code for masked secrets, unknown names and error texts that say what to do.
`wsbridge publish` and `wsbridge healthcheck` would take 1.7 to 2.4 times as long to start.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from wsbridge.config import redis_url

RESERVED_TYPES = frozenset(  # the protocol's, and `state`, which is an event of the browser client's own
    {"connected", "pong", "authenticated", "gap", "error", "goodbye", "ping", "auth", "handled", "state"}
)
ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
Value = TypeVar("Value")
TOKEN_BYTES = 16  # a shorter one can be guessed
_HOST_LENGTH = 253  # of a name (RFC 1035 §2.3.4); a longer label than 63 makes the resolver raise UnicodeError
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NAME = re.compile(r"[^\s\"\\]+")  # in a dotted path, as msgspec allows it
_OTHER_ORIGINS = {"*", "null", "file://"}  # any; sandboxed frames and data: URLs; pages from a disk in some apps
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\*\.)?(?P<name>[^/?#@*\s]+)")


def without_secrets(url: str) -> str:
    """The URL for people and logs: without user, password and query, where some servers expect a key."""
    return re.sub(r"[?#].+", "?***", re.sub(r"//[^/?#]*@", "//***@", url))


@dataclass(frozen=True)
class ValueType:
    """`parse` raises ValueError or ValidationError for a text that is not `expected`; `show` is for people and logs.

    `has_file` tells whether `NAME_FILE` may name a file with the value.
    """

    expected: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    has_file: bool = False


def _convert(expected: str, python_type: Any, show: Callable[[Any], str] = str) -> ValueType:
    return ValueType(expected, lambda text: msgspec.convert(text.strip(), python_type, strict=False), show)


def whole(low: int, high: int = 2**53) -> ValueType:
    top = f"from {low} to {high}" if high < 2**53 else f"of {low} or more"
    return _convert(f"a whole number {top}", Annotated[int, msgspec.Meta(ge=low, le=high)])


def seconds(low: float, high: float) -> ValueType:
    number = Annotated[float, msgspec.Meta(ge=low, le=high)]
    return _convert(f"seconds, from {low:g} to {high:g}", number, lambda value: str(value).removesuffix(".0"))


def one_of(*allowed: str) -> ValueType:
    choice = _convert("one of " + ", ".join(allowed), Literal[allowed])
    return ValueType(choice.expected, lambda text: choice.parse(text.lower()))


def _accepted(value: Value, condition: object) -> Value:
    """Return the value. Raises `ValueError` if the condition is false."""
    if not condition:
        raise ValueError
    return value


def _word(text: str) -> str:
    text = text.strip()
    return _accepted(text, text and text.isprintable())


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _some_words(text: str) -> tuple[str, ...]:
    words = _words(text)
    return _accepted(words, words and text.strip().isprintable())


def _algorithms(text: str) -> tuple[str, ...]:
    words = _words(text)
    return _accepted(words, words and set(words) <= set(ALGORITHMS))


def _origins(text: str) -> tuple[str, ...]:
    words = tuple(word if word in _OTHER_ORIGINS else word.rstrip("/") for word in _words(text.lower()))
    return _accepted(words, all(word in _OTHER_ORIGINS or ORIGIN.fullmatch(word) for word in words))


def _topics(text: str) -> tuple[tuple[str, str], ...]:
    found = [re.fullmatch(r"([\w.-]+)\s*=\s*([a-z]\w*)", word) for word in _words(text)]
    pairs = tuple((pair[1], pair[2]) for pair in found if pair and pair[2] not in RESERVED_TYPES)
    return _accepted(pairs, found and len(dict(pairs)) == len(found))


def _user_field(text: str) -> str:
    text = _word(text)
    is_path = not text.startswith("@") and all(map(_NAME.fullmatch, text.split(".")))
    return _accepted(text, is_path or text in ("@subject", "@key"))


def _host(text: str) -> str:
    """An address or a name, without the brackets that an IPv6 address has in a URL."""
    text = text.strip()
    if bracketed := re.fullmatch(r"\[(.*)\]", text):
        return str(ipaddress.IPv6Address(bracketed[1]))
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    return _accepted(text, len(text) <= _HOST_LENGTH and _HOST.fullmatch(text))


def _http_url(text: str) -> str:
    text = text.strip()
    url = urlsplit(text)  # its `port` raises ValueError if it is malformed
    return _accepted(text, url.scheme in ("http", "https") and url.hostname and url.port != 0)


def _pem(text: str) -> str:
    text = text.replace("\\n", "\n")  # as often written in environment files
    return _accepted(text, "-----BEGIN " in text)


def _secret(text: str) -> str:
    text = text.strip("\r\n")
    return _accepted(text, text)


def _token(text: str) -> str:
    text = _secret(text)
    return _accepted(text, len(text.encode()) >= TOKEN_BYTES)


def _masked(_: str) -> str:
    return "***"


def _key_prefix(text: str) -> str:
    text = text.strip()
    return _accepted(text, re.fullmatch(r"[^\s{}]+", text) and text.isprintable())


USER_FIELD = ValueType("a dotted path, @subject or @key", _user_field)
HTTP_URL = ValueType("an http or https URL", _http_url, without_secrets)
PEM = ValueType("one or more public keys in PEM", _pem, lambda pem: f"{pem.count('-----BEGIN ')} key(s)", has_file=True)
BOOLEAN = _convert("true or false", bool, lambda value: str(value).lower())
TEXT = ValueType("a word", _word)
HOST = ValueType("an IPv4 address, an IPv6 address or a host name, without a port", _host)
TEXT_LIST = ValueType("comma-separated words", _some_words, ",".join)
PORT = whole(0, 65535)
SECRET = ValueType("a secret that is not empty", _secret, _masked, has_file=True)
TOKEN = ValueType(
    f"a token of {TOKEN_BYTES} bytes or more; make one with: openssl rand -hex 32", _token, _masked, has_file=True
)
REDIS_URL = ValueType(
    "a URL such as redis://host:6379/0, rediss://, unix:///path, redis+sentinel://host,host/service "
    "or redis+cluster://host,host",
    redis_url.parse,
    has_file=True,
)
KEY_PREFIX = ValueType("a word without braces", _key_prefix)  # braces mark the hash tag that follows it in each key
ALGORITHM_LIST = ValueType("a comma-separated list of " + ", ".join(ALGORITHMS), _algorithms, ",".join)
NETWORK_LIST = ValueType(
    "comma-separated addresses or networks such as 192.0.2.7 or 2001:db8::/32, or private",
    lambda text: tuple(w if w == "private" else str(ipaddress.ip_network(w)) for w in _words(text.lower())),
    ",".join,
)
ORIGIN_LIST = ValueType(
    "comma-separated origins such as https://app.example.com or https://*.example.com, null, file://, or *",
    _origins,
    ",".join,
)
TOPIC_LIST = ValueType(
    "comma-separated topic=message_type pairs, each topic once, and none of the protocol's own types ("
    + ", ".join(sorted(RESERVED_TYPES))
    + ")",
    _topics,
    lambda pairs: ",".join(map("=".join, pairs)),
)
