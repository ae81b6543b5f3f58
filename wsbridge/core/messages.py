"""Messages between server and client: JSON in WebSocket text frames and in SSE data."""

import functools
from typing import Literal, NamedTuple

import msgspec

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Position
from wsbridge.core.timestamps import seconds_of, timestamp

SUBPROTOCOL = "wsbridge.v1"
MAX_MESSAGE_BYTES = 16 * 1024
LONGEST = 3_600.0  # seconds of a duration that a client reports
PONG = b'{"type":"pong"}'
_json = msgspec.json.Encoder().encode


class Sample(NamedTuple):
    """The times of one event at a client: its `timestamp`, and durations in seconds.

    `handlers` is from its arrival to the end of its handlers, `held` from there to the report.
    """

    timestamp: float
    handlers: float
    held: float


class FromClient(NamedTuple):
    """A message of a client: a `ping`, an `auth` with its token, a `handled`, or a `bad` one.

    `text` is the token, or a text for the developer of a `bad` one. Only `handled` has a position. It becomes `stale`
    if that is of another epoch than the session's.
    """

    kind: Literal["ping", "auth", "handled", "stale", "bad"]
    text: str = ""
    position: Position | None = None
    sample: Sample | None = None


class _Message(msgspec.Struct):
    type: str
    token: str | None = None
    last_event_id: str | None = None
    timestamp: str | None = None
    handlers_ms: float = 0.0
    held_ms: float = 0.0


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
    if message.type == "handled":
        position = Position.parse(message.last_event_id or "")
        bad = FromClient("bad", 'expected {"type":"handled","last_event_id":"<epoch>:<offset>"}')
        return FromClient("handled", "", position, _sample(message)) if position else bad
    return FromClient("bad", "unknown type; clients send ping, auth and handled")


def _sample(message: _Message) -> Sample | None:
    """The times of the message; None if it has none, or impossible ones."""
    try:
        at = seconds_of(message.timestamp or "")
    except (ValueError, OverflowError):
        return None
    durations = message.handlers_ms / 1000, message.held_ms / 1000
    return Sample(at, *durations) if all(0 <= each <= LONGEST for each in durations) else None


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
    *,
    receipts: bool = False,
) -> bytes:
    """The first message. `position` is the one before the first event that follows; `ping_interval` is in seconds.

    With `receipts` the client may report what it has handled.
    """
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
        receipts=receipts or None,
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


def update(entry: Entry, traceparent: str = "") -> bytes:
    """An event. Its data is inserted verbatim, without decoding."""
    tail = f',"timestamp":"{entry.timestamp}","id":"{entry.epoch}:{entry.offset}"'.encode()
    end = b',"traceparent":"%b"}' % traceparent.encode() if traceparent else b"}"
    if not entry.event_id:
        return b"".join((_head(entry.type), entry.data, tail, end))
    return b"".join((_head(entry.type), entry.data, tail, b',"event_id":', _json(entry.event_id), end))


@functools.lru_cache
def _head(kind: str) -> bytes:
    return f'{{"type":"{kind}","event":'.encode()
