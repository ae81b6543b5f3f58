"""What a person reads on a terminal: messages in colour, closes in words. Knows no connection."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

from wsbridge.core.close_codes import LOST, NO_STATUS, Close

_JOINERS = "\u200c\u200d"  # invisible, harmless, and needed in Persian, in Hindi and by emoji
_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_COLOURS = {
    "connected": "\x1b[32m",
    "authenticated": "\x1b[32m",
    "gap": "\x1b[33m",
    "goodbye": "\x1b[33m",
    "error": "\x1b[31m",
}
_UPDATE = "\x1b[36m"
_BY_CODE = {
    1000: "the server ended the session",
    1001: "the server, or a proxy before it, is going away",
    1002: "this client broke the WebSocket protocol, or a proxy between broke its messages",
    1003: "the server takes text messages only",
    NO_STATUS.code: "it was closed without a code, as some proxies do",
    LOST.code: "the connection broke: the server is gone, or the network or a proxy cut it",
    1007: "a message was not UTF-8",
    1008: "the server did not understand too many messages",
    1009: "a message was larger than the server takes",
    1011: "the server failed: see internal.error in its log",
    1012: "the server is shutting down, as in a restart or a deployment",
    1013: "the server cannot take the connection now",
    4401: "the server does not accept the token",
    4408: "this client did not read fast enough: its output is read too slowly. It gets the missed messages again",
    4429: "this user has as many connections as WSBRIDGE_MAX_CONNECTIONS_PER_USER allows: close one",
    4500: "the server needs a user id of 1 to 256 bytes: give --user",
    4503: "the server does not let this client in",
    4509: "an operator ended this user's sessions",
}
_BY_REASON = {
    (1013, "overloaded"): "the server is at a limit (WSBRIDGE_MAX_CONNECTIONS, WSBRIDGE_HANDSHAKE_RATE or ulimit -n)",
    (1013, "unavailable"): "the server cannot read histories or keys now: its /health names what fails",
    (4401, "token_missing"): "the server wants a token: give --token, or set WSBRIDGE_JWT_SECRET to have one made",
    (4401, "token_invalid"): "the server does not accept the token: made with another key, algorithm, audience or "
    "issuer? Its log says why (auth.failed)",
    (4401, "token_expired"): "the token has expired: get a fresh one",
    (4503, "user_mismatch"): "the token is another user's: give that one with --user",
    (4503, "origin_forbidden"): "the page's origin is not allowed: see WSBRIDGE_ALLOWED_ORIGINS",
}


def explain(close: Close) -> str:
    """The code, its reason, and what they mean in words."""
    way = "come back" if close.reconnect else "stay away"
    unknown = f"a code that this version does not know; by its range clients {way}"
    words = _BY_REASON.get(close) or _BY_CODE.get(close.code, unknown)
    return f"{close.code} {printable(close.reason)}".rstrip() + f": {words}"


def is_colourful(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """A terminal that understands colours, in front of someone who wants them (no-color.org)."""
    return stream.isatty() and environ.get("TERM") != "dumb" and not environ.get("NO_COLOR")


def printable(text: str) -> str:
    """The text with every control character, line end and invisible mark as an escape such as \\u001b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in text)


def one_line(text: bytes) -> bytes:
    """A message byte for byte, but that line ends, which JSON has between its tokens only, become spaces."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def pretty(text: str, *, colours: bool) -> str:
    """A message as one line: when, its type, its event type, its fields, its position."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return printable(text)
    paint = _painted if colours else _plain
    message_type, position = str(message.pop("type", "")), message.pop("id", None)
    words = [
        paint(_DIM, _clock(message.pop("timestamp", None))),
        paint(_COLOURS.get(message_type, _UPDATE), message_type),
    ]
    event = message.get("event")
    if isinstance(event, dict):
        message = event
        words.append(paint(_BOLD, str(message.pop("event_type", ""))))
    else:
        words.append(printable(str(message.pop("message", ""))))
    words += [paint(_DIM, f"{name}=") + _value(value) for name, value in message.items()]
    words += [paint(_DIM, str(position))] if position is not None else []
    return "  ".join(word for word in words if word)


def _value(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _clock(timestamp: Any) -> str:
    """Local time, as a person's watch shows it; now, where a message says nothing."""
    try:
        when = datetime.fromisoformat(timestamp).astimezone()
    except (TypeError, ValueError, OverflowError):
        when = datetime.now().astimezone()
    return when.strftime("%H:%M:%S.%f")[:-3]


def _painted(colour: str, text: str) -> str:
    return f"{colour}{printable(text)}{_RESET}" if text else ""


def _plain(_: str, text: str) -> str:
    return printable(text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane's end
