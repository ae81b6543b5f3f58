"""The wire: messages both ways, frames, and the ways a connection ends. Does no I/O."""

import functools
import time
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from wsbridge.core.events import Entry, Position

SUBPROTOCOL = "wsbridge.v1"
MAX_MESSAGE_BYTES = 16 * 1024
PONG = b'{"type":"pong"}'
PING_FRAME = b"\x89\x00"  # RFC 6455 §5.5.2
_TEXT, _CLOSE, _PONG = 0x81, 0x88, 0x8A  # FIN and the opcode, RFC 6455 §5.2
_json = msgspec.json.Encoder().encode


class Close(NamedTuple):
    """How a session ends. Codes 4000-4499 come back, 4500-4999 stay away."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        return self.code not in (1002, 1003, 1007, 1008, 1009) and self.code < 4500  # noqa: PLR2004 - the rule itself


NO_STATUS = Close(1005, "")  # the peer's close frame held no code
LOST = Close(1006, "lost")  # no close frame came at all
PROTOCOL_ERROR = Close(1002, "protocol_error")
UNSUPPORTED = Close(1003, "binary")
BAD_UTF8 = Close(1007, "bad_utf8")
POLICY = Close(1008, "policy")
TOO_LARGE = Close(1009, "too_large")
INTERNAL = Close(1011, "internal")
SHUTDOWN = Close(1012, "shutdown")
OVERLOADED = Close(1013, "overloaded")
UNAVAILABLE = Close(1013, "unavailable")
TOKEN_MISSING = Close(4401, "token_missing")
TOKEN_INVALID = Close(4401, "token_invalid")
TOKEN_EXPIRED = Close(4401, "token_expired")
SLOW_CONSUMER = Close(4408, "slow_consumer")
TOO_MANY_CONNECTIONS = Close(4429, "too_many_connections")
USER_ID_REQUIRED = Close(4500, "user_id_required")
USER_MISMATCH = Close(4503, "user_mismatch")
ORIGIN_FORBIDDEN = Close(4503, "origin_forbidden")
FORCE_DISCONNECT = Close(4509, "force_disconnect")
CLOSES = (
    PROTOCOL_ERROR, UNSUPPORTED, BAD_UTF8, POLICY, TOO_LARGE, INTERNAL, SHUTDOWN, OVERLOADED, UNAVAILABLE,
    TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED,
    SLOW_CONSUMER, TOO_MANY_CONNECTIONS, USER_ID_REQUIRED, USER_MISMATCH, ORIGIN_FORBIDDEN, FORCE_DISCONNECT,
)  # fmt: skip
_FROM_CLIENTS = frozenset({1000, 1001, 1005})
_CLIENT, _OTHER = "client", ("other", "client")
# What metrics tell closes apart by, code and reason; all of them are there from the start.
CLOSE_LABELS = (
    *((str(close.code), close.reason) for close in CLOSES),
    *(("1006", reason) for reason in ("lost", "ping_timeout", "internal")),
    *((str(code), _CLIENT) for code in sorted(_FROM_CLIENTS)),
    _OTHER,
)
_LABELS = frozenset(CLOSE_LABELS)


def counted(close: Close) -> tuple[str, str]:
    """Code and reason as a metric's labels. What clients make up is `other`: it could be anything."""
    labels = (str(close.code), close.reason)
    if labels in _LABELS:
        return labels
    return (str(close.code), _CLIENT) if close.code in _FROM_CLIENTS else _OTHER


class Refused(Exception):  # noqa: N818 - a way to end, not a failure of ours
    """A connection that is accepted only to be closed: pages see nothing of an HTTP status."""

    def __init__(self, close: Close, text: str = "") -> None:
        super().__init__(text or close.reason)
        self.close = close


class Ping(NamedTuple):
    """`{"type":"ping"}`."""


class Auth(NamedTuple):
    """`{"type":"auth","token":"…"}`."""

    token: str


class Bad(NamedTuple):
    """Anything else; `text` is for the client's developer."""

    text: str


class _Message(msgspec.Struct):
    type: str
    token: str | None = None


_message = msgspec.json.Decoder(_Message)


def read(text: str) -> Ping | Auth | Bad:
    """A client's text message, understood."""
    try:
        message = _message.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return Bad('expected a JSON object such as {"type":"ping"}')
    if message.type == "ping":
        return Ping()
    if message.type == "auth" and message.token:
        return Auth(message.token)
    if message.type == "auth":
        return Bad('expected {"type":"auth","token":"<jwt>"}')
    return Bad("unknown type; clients send ping and auth")


def timestamp(at: float | None = None) -> str:
    """RFC 3339, UTC, milliseconds, `Z`; `at` is in seconds since 1970."""
    seconds, milliseconds = divmod(int((time.time() if at is None else at) * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03}Z"


@functools.lru_cache(64)
def seconds_of(stamp: str) -> float:
    """What `timestamp` was made of, in seconds since 1970."""
    return datetime.fromisoformat(stamp).timestamp()


@functools.lru_cache(4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def connected(
    user: str,
    session: str,
    position: Position,
    ping_interval: float,
    recovered: bool | None,  # noqa: FBT001 - a field of the message; None leaves it out
    expires_in_ms: int | None,
) -> bytes:
    """The first frame; `position` is the one before the first frame that follows, `ping_interval` is in seconds."""
    message = {
        "type": "connected",
        "message": "WebSocket connected successfully",
        "user_id": user,
        "timestamp": timestamp(),
        "session_id": session,
        "last_event_id": str(position),
    }
    optional = {
        "recovered": recovered,
        "ping_interval_ms": round(ping_interval * 1000),
        "expires_in_ms": expires_in_ms,
    }
    return _json(message | {name: value for name, value in optional.items() if value is not None})


def authenticated(expires_in_ms: int | None) -> bytes:
    message: dict[str, object] = {"type": "authenticated"}
    return _json(message if expires_in_ms is None else message | {"expires_in_ms": expires_in_ms})


def gap(after: Position | None, last: Position, reason: str) -> bytes:
    message = {"type": "gap", "after": str(after), "last_event_id": str(last), "reason": reason}
    if after is None:
        del message["after"]
    return _json(message)


def error(code: str, text: str) -> bytes:
    return _json({"type": "error", "code": code, "message": text})


def goodbye(close: Close, reconnect_after: float = 0.0, close_after: float = 0.0) -> bytes:
    """`reconnect_after` and `close_after` are in seconds from now."""
    return _json(
        {
            "type": "goodbye",
            "code": close.code,
            "reason": close.reason,
            "reconnect": close.reconnect,
            "reconnect_after_ms": round(reconnect_after * 1000),
            "close_after_ms": round(close_after * 1000),
        }
    )


def update(entry: Entry) -> bytes:
    """The data goes in untouched: the message is pasted together, not encoded."""
    tail = f',"timestamp":"{entry.timestamp}","id":"{entry.epoch}:{entry.offset}"}}'
    return b"".join((_head(entry.type), entry.data, tail.encode()))


@functools.lru_cache
def _head(kind: str) -> bytes:
    return f'{{"type":"{kind}","event":'.encode()


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked frame (RFC 6455 §5.2)."""
    return _frame(_TEXT, payload)


def pong_frame(payload: bytes) -> bytes:
    return _frame(_PONG, payload)


def close_frame(close: Close) -> bytes:
    """RFC 6455 §5.5.1; without a code where the close has none to send (§7.4.1)."""
    if close.code in (NO_STATUS.code, LOST.code):
        return _frame(_CLOSE, b"")
    return _frame(_CLOSE, close.code.to_bytes(2, "big") + close.reason.encode()[:123])


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:  # noqa: PLR2004 - RFC 6455 §5.2
        return bytes((first, size)) + payload
    if size < 65_536:  # noqa: PLR2004
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
