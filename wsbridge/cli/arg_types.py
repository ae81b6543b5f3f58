"""Types of options and arguments: each turns a word of the command line into a value, or raises `BadParameter`."""

from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from click import BadParameter

from wsbridge.core.user_ids import is_user

_DIGITS = 10  # of the largest number of seconds


def user(word: str) -> str:
    if not is_user(word):
        raise BadParameter("expected a user id of 1 to 256 bytes in UTF-8")
    return word


def seconds(word: str) -> int:
    if not word.isascii() or not word.isdigit() or not 0 < int(word[:_DIGITS]) < 2**31 or len(word) > _DIGITS:
        raise BadParameter(f"expected a whole number of seconds, 1 or more, got {word!r}")
    return int(word)


def token(word: str) -> str:
    """A token that fits into a header."""
    word = word.strip()
    if not word or not word.isascii() or not word.isprintable() or " " in word:
        raise BadParameter("expected a token such as `wsbridge token` prints")
    return word


def event_type(word: str) -> str:
    """The type of an event; a word with `=` is data in the wrong place."""
    if "=" in word or not word or not word.isprintable():
        raise BadParameter(f"expected the type of an event, such as task.created, got {word!r}")
    return word


def pair(word: str) -> tuple[str, str | msgspec.Raw]:
    """`key=text` or `key:=json`; the JSON is sent verbatim."""
    key, equals, text = word.partition("=")
    is_json, key = key.endswith(":"), key.removesuffix(":")
    if not equals or not key:
        raise BadParameter(f"expected key=text or key:=json, got {word!r}")
    if key == "event_type":
        raise BadParameter(f"event_type is set by TYPE; leave {word!r} out")
    if not is_json:
        return key, text
    try:
        return key, msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadParameter(f"expected JSON after {key}:=, got {text!r}; for a string write {key}={text}") from None


def url(example: str, *schemes: str, path: str = "", is_base: bool = False) -> Callable[[str], str]:
    """A URL with a host; `path` is the default of its path. A base can be shown, and a path be added to it."""

    def read(word: str) -> str:
        try:
            parts = urlsplit(word.strip())
            good = parts.scheme in schemes and parts.hostname and parts.port != 0 and word.isascii()
        except ValueError:  # a port that is not a number, an unfinished [
            good = False
        if not good or not word.isprintable() or " " in word.strip():
            raise BadParameter(f"expected a URL such as {example}, got {word!r}")
        if is_base and (parts.query or parts.username is not None):
            raise BadParameter(f"expected a URL without user, password and query, such as {example}")
        return parts._replace(path=parts.path if parts.path.strip("/") else path, fragment="").geturl()

    return read
