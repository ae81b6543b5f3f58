"""Records of events and connections, in columns: one record for a whole delivery or batch.

Times are in seconds since 1970. No record contains data of an event.
"""

from collections.abc import Sequence

import msgspec

from wsbridge.core.events import Position

Outcome = tuple[str, str | None, str]  # status, reason and detail, as in `broker.base.Outcome`


class Received(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Events of one delivery of the sidecar. `outcomes` is None if all were stored."""

    at: float
    topic: str
    ids: Sequence[str]
    users: Sequence[Sequence[str]]
    partitions: Sequence[str]
    offsets: Sequence[str]  # in the partition
    produced: Sequence[float | None]
    outcomes: Sequence[Outcome] | None = None


class Refused(msgspec.Struct, array_like=True, tag=2, gc=False):
    """One event that was refused before its users were read: dropped, or retried with its whole delivery."""

    at: float
    topic: str
    event_id: str
    reason: str
    text: str
    status: str = "dropped"
    place: str = ""  # topic/partition/offset, if they are known


class Relayed(msgspec.Struct, array_like=True, tag=3, gc=False):
    """Entries of one batch. Each was passed to the sessions of its user on this replica, if there are any."""

    at: float
    ids: Sequence[str]
    users: Sequence[str]
    epochs: Sequence[str]
    offsets: Sequence[int]


class Resumed(msgspec.Struct, array_like=True, tag=4, gc=False):
    """A session that has read the history: at its start, or because it missed live entries.

    It got `replayed` entries after `position`. If there is a `gap`, it ends at `position`.
    """

    at: float
    user: str
    session: str
    transport: str
    opened_at: float
    is_start: bool
    asked: str | None  # the position after which was read: at the start the one that the client sent
    position: Position
    replayed: int
    gap: str | None


class Closed(msgspec.Struct, array_like=True, tag=5, gc=False):
    """A session that has ended. `position` is that of the last entry that was passed to it.

    `handled` is that of the last one that its client has reported, or after which it resumed.
    """

    at: float
    user: str
    session: str
    transport: str
    opened_at: float
    code: int
    reason: str
    position: Position
    handled: Position | None = None


Record = Received | Refused | Relayed | Resumed | Closed
TAGS: dict[type, int] = {Received: 1, Refused: 2, Relayed: 3, Resumed: 4, Closed: 5}
EVENTS, RECEIVED, SESSIONS = frozenset({1, 2, 3}), frozenset({1}), frozenset({4, 5})
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Record).decode


def tag_of(packed: bytes) -> int:
    """The tag of an encoded record, without decoding it: the first element of its array."""
    return packed[1]
