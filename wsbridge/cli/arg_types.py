"""How a word of the command line becomes a value. Knows no command."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from wsbridge.core.events import is_user

_GIVEN = {"user_id": "--user", "event_type": "the event's type"}


def user(word: str) -> str:
    """A user id."""
    if not is_user(word):
        raise ArgumentTypeError("expected a user id of 1 to 256 bytes in UTF-8")
    return word


def seconds(word: str) -> int:
    """A duration."""
    if not word.isascii() or not word.isdigit() or not 0 < int(word[:10]) < 2**31:
        raise ArgumentTypeError(f"expected a whole number of seconds, got {word!r}")
    return int(word)


def token(word: str) -> str:
    """A token as it can stand in a header."""
    word = word.strip()
    if not word or not word.isascii() or not word.isprintable() or " " in word:
        raise ArgumentTypeError("expected a token such as `wsbridge token` prints")
    return word


def event_type(word: str) -> str:
    """The type of an event; what looks like data is none."""
    if "=" in word or not word or not word.isprintable():
        raise ArgumentTypeError(f"expected an event's type such as task.created, got {word!r}")
    return word


def pair(word: str) -> tuple[str, str | msgspec.Raw]:
    """`key=text` or `key:=json`; the JSON goes out as it is written."""
    key, equals, text = word.partition("=")
    is_json, key = key.endswith(":"), key.removesuffix(":")
    if not equals or not key:
        raise ArgumentTypeError(f"expected key=text or key:=json, got {word!r}")
    if key in _GIVEN:
        raise ArgumentTypeError(f"{key} comes from {_GIVEN[key]}, not from {word!r}")
    if not is_json:
        return key, text
    try:
        return key, msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        raise ArgumentTypeError(f"expected JSON after {key}:=, got {text!r} (a text has quotes there)") from None


def url(example: str, *schemes: str, path: str = "") -> Callable[[str], str]:
    """A URL with a host; `path` is put in where it has none."""

    def read(word: str) -> str:
        try:
            parts = urlsplit(word.strip())
            good = parts.scheme in schemes and parts.hostname and parts.port != 0 and word.isascii()
        except ValueError:  # a port that is no number, an unfinished [
            good = False
        if not good or not word.isprintable() or " " in word.strip():
            raise ArgumentTypeError(f"expected a URL such as {example}, got {word!r}")
        return parts._replace(path=parts.path if parts.path.strip("/") else path, fragment="").geturl()

    return read
