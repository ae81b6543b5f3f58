"""What goes through the bridge: an event, its position in a user's history, its entry there."""

import re
from typing import NamedTuple, Self

import msgspec

from wsbridge.core.reasons import Drop

MAX_USER_BYTES = 256  # as UTF-8; nobody with a longer id can connect
_POSITION = re.compile(r"([A-Za-z0-9]{1,32}):(0|[1-9][0-9]{0,18})", re.ASCII)


class Rejected(NamedTuple):
    """An event that can never be taken: why, for metrics and for people, and its id where it has one."""

    reason: Drop
    text: str
    event_id: str = ""


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where one user's history stands. Two positions compare, by offset, only within one epoch."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if the text is no position."""
        found = _POSITION.fullmatch(text)
        return cls(found[1], int(found[2])) if found else None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as it came in, before it has a position.

    `type` is the message type that its topic stands for; `data` is the JSON object as it is in the broker, checked to
    be UTF-8. `key` names the event for ever (CloudEvent source and id, or Kafka coordinates); it is empty where
    nothing does, and then a redelivery is not recognised. `trace` is a W3C `traceparent`, for the log, or empty.
    `produced` is when Kafka got it, in seconds since the epoch by the clock of its producer or broker, or None.
    """

    users: tuple[str, ...]
    data: bytes
    type: str
    id: str
    key: str
    trace: str = ""
    produced: float | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event in one user's history. `timestamp` is RFC 3339; `received` is in seconds of the loop's clock.

    `produced` is that of its event.
    """

    user: str
    epoch: str
    offset: int
    type: str
    data: bytes
    timestamp: str
    received: float
    event_id: str
    produced: float | None = None


def is_user(text: str) -> bool:
    """A user id that can be on the wire: 1 to 256 bytes of UTF-8."""
    try:
        return 0 < len(text.encode()) <= MAX_USER_BYTES
    except UnicodeEncodeError:
        return False
