"""Messages between server and client: JSON in WebSocket text frames and in SSE data."""

import functools
from typing import Literal, NamedTuple

import msgspec

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Position
from wsbridge.core.timestamps import timestamp

SUBPROTOCOL = "wsbridge.v1"
MAX_MESSAGE_BYTES = 16 * 1024
PONG = b'{"type":"pong"}'
_json = msgspec.json.Encoder().encode


class FromClient(NamedTuple):
    """A message of a client: a `ping`, an `auth` with its token, or a `bad` one with a text for its developer."""

    kind: Literal["ping", "auth", "bad"]
    text: str = ""


class _Message(msgspec.Struct):
    type: str
    token: str | None = None


_message = msgspec.json.Decoder(_Message)


def read_message(text: str) -> FromClient:
    """Read a text message of a client. Never raises."""
    try:
        message = _message.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return FromClient("bad", 'expected a JSON object such as {"type":"ping"}')
    if message.type == "ping":
        return FromClient("ping")
    if message.type == "auth":
        bad = FromClient("bad", 'expected {"type":"auth","token":"<jwt>"}')
        return FromClient("auth", message.token) if message.token else bad
    return FromClient("bad", "unknown type; clients send ping and auth")


def _encode(**fields: object) -> bytes:
    """A message without the fields that are None."""
    return _json({name: value for name, value in fields.items() if value is not None})


def connected(
    user: str,
    session: str,
    position: Position,
    ping_interval: float,
    recovered: bool | None,  # noqa: FBT001 - a field of the message
    expires_in_ms: int | None,
) -> bytes:
    """The first message. `position` is the one before the first event that follows; `ping_interval` is in seconds."""
    return _encode(
        type="connected",
        message="WebSocket connected successfully",
        user_id=user,
        timestamp=timestamp(),
        session_id=session,
        last_event_id=str(position),
        recovered=recovered,
        ping_interval_ms=round(ping_interval * 1000),
        expires_in_ms=expires_in_ms,
    )


def authenticated(expires_in_ms: int | None) -> bytes:
    return _encode(type="authenticated", expires_in_ms=expires_in_ms)


def gap(after: Position | None, last: Position, reason: str) -> bytes:
    return _encode(type="gap", after=after and str(after), last_event_id=str(last), reason=reason)


def error(code: str, text: str) -> bytes:
    return _encode(type="error", code=code, message=text)


def goodbye(close: Close, reconnect_after: float = 0.0, close_after: float = 0.0) -> bytes:
    """The last message. `reconnect_after` and `close_after` are in seconds from now."""
    return _encode(
        type="goodbye",
        code=close.code,
        reason=close.reason,
        reconnect=close.reconnect,
        reconnect_after_ms=round(reconnect_after * 1000),
        close_after_ms=round(close_after * 1000),
    )


def update(entry: Entry) -> bytes:
    """An event. Its data is inserted verbatim, without decoding."""
    tail = f',"timestamp":"{entry.timestamp}","id":"{entry.epoch}:{entry.offset}"'.encode()
    if not entry.event_id:
        return b"".join((_head(entry.type), entry.data, tail, b"}"))
    return b"".join((_head(entry.type), entry.data, tail, b',"event_id":', _json(entry.event_id), b"}"))


@functools.lru_cache
def _head(kind: str) -> bytes:
    return f'{{"type":"{kind}","event":'.encode()
