"""How a text becomes a setting's value, and what was expected. Knows no setting."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from wsbridge.config import redis_url

RESERVED_TYPES = frozenset(  # the protocol's, and `state`, which is an event of the browser client's own
    {"connected", "pong", "authenticated", "gap", "error", "goodbye", "ping", "auth", "state"}
)
ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
TOKEN_BYTES = 16  # a shorter one can be guessed
_NAME = re.compile(r"[^\s\"\\]+")  # in a dotted path; msgspec takes no others
_OTHER_ORIGINS = {"*", "null", "file://"}  # any; sandboxed frames and data: URLs; pages from a disk in some apps
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\*\.)?(?P<name>[^/?#@*\s]+)")


@dataclass(frozen=True)
class Kind:
    """How a text becomes a value, and how to say what was expected."""

    expected: str
    parse: Callable[[str], Any]


def _convert(expected: str, kind: Any) -> Kind:
    return Kind(expected, lambda text: msgspec.convert(text.strip(), kind, strict=False))


def whole(low: int, high: int = 2**53) -> Kind:
    top = f"from {low} to {high}" if high < 2**53 else f"of {low} or more"
    return _convert(f"a whole number {top}", Annotated[int, msgspec.Meta(ge=low, le=high)])


def seconds(low: float, high: float) -> Kind:
    return _convert(f"seconds, from {low:g} to {high:g}", Annotated[float, msgspec.Meta(ge=low, le=high)])


def yes_or_no() -> Kind:
    return _convert("true or false", bool)


def one_of(*allowed: str) -> Kind:
    kind = _convert("one of " + ", ".join(allowed), Literal[allowed])
    return Kind(kind.expected, lambda text: kind.parse(text.lower()))


def _word(text: str) -> str:
    text = text.strip()
    if not (text and text.isprintable()):
        raise ValueError
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _some_words(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not words or not text.strip().isprintable():
        raise ValueError
    return words


def _algorithms(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not words or not set(words) <= set(ALGORITHMS):
        raise ValueError
    return words


def _origins(text: str) -> tuple[str, ...]:
    words = tuple(word if word in _OTHER_ORIGINS else word.rstrip("/") for word in _words(text.lower()))
    if not all(word in _OTHER_ORIGINS or ORIGIN.fullmatch(word) for word in words):
        raise ValueError
    return words


def _topics(text: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple((topic.strip(), kind.strip()) for topic, _, kind in (w.partition("=") for w in _words(text)))
    topics = {topic for topic, _ in pairs}
    good = all(re.fullmatch(r"[\w.-]+", topic) and re.fullmatch(r"[a-z]\w*", kind) for topic, kind in pairs)
    if not pairs or not good or len(topics) != len(pairs) or any(kind in RESERVED_TYPES for _, kind in pairs):
        raise ValueError
    return pairs


def _user_field(text: str) -> str:
    text = _word(text)
    names = text.split(".")
    if text not in ("@subject", "@key") and (text.startswith("@") or not all(map(_NAME.fullmatch, names))):
        raise ValueError
    return text


def _host(text: str) -> str:
    """An address or a name, without the brackets that an IPv6 address has in a URL."""
    text = text.strip()
    if bracketed := re.fullmatch(r"\[(.*)\]", text):
        return str(ipaddress.IPv6Address(bracketed[1]))
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", text):
        raise ValueError
    return text


def _networks(text: str) -> tuple[str, ...]:
    return tuple(w if w == "private" else str(ipaddress.ip_network(w)) for w in map(str.lower, _words(text)))


def _http_url(text: str) -> str:
    url = urlsplit(text.strip())
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:  # `port` raises if it is none
        raise ValueError
    return text.strip()


def _pem(text: str) -> str:
    text = text.replace("\\n", "\n")  # as it often stands in an environment file
    if "-----BEGIN " not in text:
        raise ValueError
    return text


def _secret(text: str) -> str:
    text = text.strip("\r\n")
    if not text:
        raise ValueError
    return text


def _token(text: str) -> str:
    text = _secret(text)
    if len(text.encode()) < TOKEN_BYTES:
        raise ValueError
    return text


def _key_prefix(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(r"[^\s{}]+", text) or not text.isprintable():
        raise ValueError
    return text


USER_FIELD = Kind("a dotted path, @subject or @key", _user_field)
HTTP_URL = Kind("an http or https URL", _http_url)
PEM = Kind("one or more public keys in PEM", _pem)
TEXT = Kind("a word", _word)
HOST = Kind("an IPv4 address, an IPv6 address or a host name, without a port", _host)
TEXT_LIST = Kind("comma-separated words", _some_words)
PORT = whole(0, 65535)
SECRET = Kind("a secret that is not empty", _secret)
TOKEN = Kind(f"a token of {TOKEN_BYTES} bytes or more, such as one of: openssl rand -hex 32", _token)
REDIS_URL = Kind(
    "a URL such as redis://host:6379/0, rediss://, unix:///path, redis+sentinel://host,host/service "
    "or redis+cluster://host,host",
    redis_url.parse,
)
KEY_PREFIX = Kind("a word without braces", _key_prefix)  # braces are the hash tag's, behind it in each key
ALGORITHM_LIST = Kind("a comma-separated list out of " + ", ".join(ALGORITHMS), _algorithms)
NETWORK_LIST = Kind("comma-separated addresses or networks such as 192.0.2.7 or 2001:db8::/32, or private", _networks)
ORIGIN_LIST = Kind(
    "comma-separated origins such as https://app.example.com or https://*.example.com, null, file://, or *", _origins
)
TOPIC_LIST = Kind(
    "comma-separated topic=message_type pairs, each topic once, no type of the protocol's own ("
    + ", ".join(sorted(RESERVED_TYPES))
    + ")",
    _topics,
)
