"""Masks secrets in text before it is logged, for example tokens in a URL or in an error message."""

import re

from multidict import MultiMapping

MASK = "***"
SHOWN = frozenset({"user_id", "last_event_id"})  # query parameters whose values are logged; all others are masked
LONGEST_SEGMENT = 24  # characters of a segment of an unknown path; a longer one may be a token and is masked
# Found quickly in text without secrets, which is nearly all. The patterns below decide.
_HINT = re.compile("oken|OKEN|earer|EARER|jwt|JWT|ecret|ECRET|assword|ASSWORD|ew|ey")
# Base64url of a JSON object, then at least one more part (RFC 7515 §7.1). Patterns start at word boundaries only and
# have possessive quantifiers, so that each search takes linear time.
_JWT = re.compile(r"(?<![\w-])e[wy][\w-]{8,}+(?:\.[\w-]*+)+", re.ASCII)
_NAMED = re.compile(
    r"""(?<![\w-])([\w-]*?(?:token|jwt|secret|password)(?:\s?=\s?|:|%3d|["']:\s?)["']?)[^\s&"'<>,;]++""",
    re.ASCII | re.IGNORECASE,
)
_SEPARATOR = re.compile("[?&=;]")
_BEARER = re.compile(r"""(?<![\w-])(bearer(?:\s|%20|\.))[^\s&"',;]++""", re.ASCII | re.IGNORECASE)


def scrubbed(text: str) -> str:
    """Mask everything in the text that looks like a token, a password or a secret."""
    if not _HINT.search(text):
        return text
    text = _JWT.sub(MASK, text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1{MASK}", text)


def shown_query(query: MultiMapping[str]) -> str:
    return "&".join(f"{_name(name)}={_value(name, value)}" for name, value in query.items())


def shown_path(path: str, *, is_route: bool) -> str:
    """The path of a request for the log. Without a route, long segments are masked."""
    if is_route:
        return scrubbed(path)
    return "/".join(MASK if len(segment) > LONGEST_SEGMENT else scrubbed(segment) for segment in path.split("/"))


def _name(name: str) -> str:
    return scrubbed(name) if len(name) <= LONGEST_SEGMENT else MASK  # in `?<token>` the name is the token


def _value(name: str, value: str) -> str:
    """The value for the log. A separator in it is a mistake in the URL, and the rest may be another parameter."""
    if name not in SHOWN:
        return MASK if value else ""
    harmless = _SEPARATOR.split(value, maxsplit=1)[0]
    return scrubbed(harmless) + (MASK if len(harmless) < len(value) else "")
