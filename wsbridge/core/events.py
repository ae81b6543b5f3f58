"""An event, its position in a user's history, and its entry there."""

import re
from typing import NamedTuple, Self

import msgspec

from wsbridge.core.reasons import Drop

_POSITION = re.compile(r"([A-Za-z0-9]{1,32}):(0|[1-9][0-9]{0,18})", re.ASCII)


class Rejected(NamedTuple):
    """An event that can never be accepted.

    `reason` is for metrics and answers. `text` is for the developer of the backend: what is wrong, where, what to do.
    `event_id` is "" if the event has none. `trace` is as in `Event`.
    `place` is Kafka's topic/partition/offset of its message, for people, or "".
    """

    reason: Drop
    text: str
    event_id: str = ""
    trace: str = ""
    place: str = ""


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in one user's history. Offsets compare only within one epoch."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if the text is not a position."""
        found = _POSITION.fullmatch(text)
        return cls(found[1], int(found[2])) if found else None


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of a delivery, before it has a position.

    `type` is the message type of its topic. `data` is the JSON object verbatim, in valid UTF-8. `key` identifies the
    event (CloudEvent source and id, or Kafka coordinates). If it is "", redeliveries are not recognised. `trace` is a
    `traceparent` in any form, or "". `produced` is Kafka's time of the message in seconds since 1970, by the clock
    of its producer or broker, or None. `partition` and `offset` are Kafka's, for people, or "". `receipt` is None if
    the publisher asked for none, else the seconds until it is due; 0 is the default of the settings. `span` is a valid
    `traceparent` for its entries, or "".
    """

    users: tuple[str, ...]
    data: bytes
    type: str
    id: str
    key: str
    trace: str = ""
    produced: float | None = None
    partition: str = ""
    offset: str = ""
    receipt: float | None = None
    span: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event in one user's history.

    `timestamp` is when the bridge received the event (RFC 3339), `received_at` the same by the loop's clock in seconds.
    `span` is as in `Event`.
    """

    user: str
    epoch: str
    offset: int
    type: str
    data: bytes
    timestamp: str
    received_at: float
    event_id: str
    produced: float | None = None
    span: str = ""
