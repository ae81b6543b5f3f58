"""Text for a terminal: messages in colour, close codes in words."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

from wsbridge.core.close_codes import LOST, NO_STATUS, Close

_JOINERS = "\u200c\u200d"  # invisible and harmless; Persian, Hindi and emoji need them
_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_RED, _GREEN, _YELLOW, _CYAN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
_COLOURS = {"connected": _GREEN, "authenticated": _GREEN, "gap": _YELLOW, "goodbye": _YELLOW, "error": _RED}
_BY_CODE = {
    1000: "the server ended the session",
    1001: "the server or a proxy is shutting down",
    1002: "a message broke the WebSocket protocol: a mistake of this client, the server or a proxy",
    1003: "the server accepts text messages only",
    NO_STATUS.code: "closed without a code, as some proxies do",
    LOST.code: "the connection was lost: the server crashed, or the network or a proxy cut it",
    1007: "a message was not UTF-8",
    1008: "too many messages were invalid",
    1009: "a message was larger than the server allows",
    1011: "the server failed: see internal.error in its log",
    1012: "the server is shutting down, as in a restart or a deployment",
    1013: "the server cannot take the connection now",
    4401: "the server does not accept the token: see auth.failed in its log",
    4408: "this client read too slowly. It gets the missed messages after it reconnects",
    4429: "this user has as many connections as WSBRIDGE_MAX_CONNECTIONS_PER_USER allows: close one",
    4500: "the server needs a user id of 1 to 256 bytes: give --user",
    4503: "the server refuses this client",
    4509: "an operator ended this session",
}
_BY_REASON = {
    (1009, "max_message_bytes"): "a message was larger than this client takes: "
    "set WSBRIDGE_MAX_EVENT_BYTES here to the bridge's value",
    (1013, "overloaded"): "the server is at a limit (WSBRIDGE_MAX_CONNECTIONS, WSBRIDGE_HANDSHAKE_RATE or ulimit -n)",
    (1013, "unavailable"): "the server cannot read histories or keys now: its /health names the reason",
    (4401, "token_missing"): "the server requires a token: give --token, or set WSBRIDGE_JWT_SECRET to make tokens",
    (4401, "token_invalid"): "the server does not accept the token: `why` of auth.failed in its log "
    "names the setting and the remedy",
    (4401, "token_expired"): "the token has expired: get a new one; if it is new, see auth.failed in the server's log",
    (4503, "user_mismatch"): "the token is for another user than --user",
    (4503, "origin_forbidden"): "the page's origin is not allowed: see WSBRIDGE_ALLOWED_ORIGINS",
}


def explain(close: Close) -> str:
    """The code, its reason and their meaning in words."""
    unknown = f"unknown code; clients {'reconnect' if close.reconnect else 'do not reconnect'} after codes of its range"
    words = _BY_REASON.get(close) or _BY_CODE.get(close.code, unknown)
    return f"{close.code} {printable(close.reason)}".rstrip() + f": {words}"


def is_colourful(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal with colours, and the user allows them (no-color.org)."""
    return stream.isatty() and environ.get("TERM") != "dumb" and not environ.get("NO_COLOR")


def printable(text: str) -> str:
    """The text with every control character, line end and invisible character as an escape such as \\u001b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in text)


def one_line(text: bytes) -> bytes:
    """A message byte for byte, except that line ends become spaces: in JSON they occur only between tokens."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def pretty(text: str, *, colours: bool) -> str:
    """A message as one line: time, type, event type, fields, position."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return printable(text)

    def paint(colour: str, word: str) -> str:
        return f"{colour}{printable(word)}{_RESET}" if colours and word else printable(word)

    message_type, position = str(message.pop("type", "")), message.pop("id", None)
    colour = _COLOURS.get(message_type, _CYAN)  # cyan for events
    words = [paint(_DIM, _clock(message.pop("timestamp", None))), paint(colour, message_type)]
    event = message.get("event")
    if isinstance(event, dict):
        message = event
        words.append(paint(_BOLD, str(message.pop("event_type", ""))))
    else:
        words.append(printable(str(message.pop("message", ""))))
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    words += [paint(_DIM, f"{name}=") + printable(encode(value)) for name, value in message.items()]
    words += [paint(_DIM, str(position))] if position is not None else []
    return "  ".join(word for word in words if word)


def _clock(timestamp: Any) -> str:
    """The timestamp in local time; the present time if there is none."""
    try:
        when = datetime.fromisoformat(timestamp).astimezone()
    except (TypeError, ValueError, OverflowError):
        when = datetime.now().astimezone()
    return when.strftime("%H:%M:%S.%f")[:-3]


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane's end
