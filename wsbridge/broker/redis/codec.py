"""Names of a user's keys in Redis, and the encoding of their values.

A key contains a digest of the user id. With the id itself, an empty one or one with a brace would break the hash tag
that keeps the keys of one user in one slot.
"""

import functools
import hashlib
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from wsbridge.broker.history import weight_of
from wsbridge.core.events import Entry, Event, Position

_HEADER = struct.Struct(">8sQQI")  # epoch, offset, time in ms, length of the body, as in history.lua
_WEIGHT = struct.Struct(">IQ")  # at the end of a body: its weight, and the mark that history.lua sets
MARK_BYTES = 8
DISCONNECT = b"disconnect"  # a message on a user's channel; shorter than any entry
_POSITION = re.compile(rb"([A-Za-z0-9]+) ([0-9]{1,20}) [0-9]+ [0-9]+")


class _Body(msgspec.Struct, array_like=True, gc=False):
    """The body of an entry, after its header. If `size` is set, `data` is the name of the key that holds the data.

    `end` is the event's span, if it has one, then a weight and a mark for history.lua. The decoder skips any field that
    a later version adds, so that two versions can share a server during a rollout.
    """

    type: str
    stamp: str
    event_id: bytes
    data: bytes
    size: int = 0
    check: int = 0
    produced: float | None = None
    end: bytes = b""


_decoder = msgspec.msgpack.Decoder(_Body)


class Reference(NamedTuple):
    """A reference to data under its own key. `check` is the CRC-32 of the data, which detects that a part was lost."""

    name: bytes
    size: int
    check: int


class Referenced(NamedTuple):
    """An entry whose data is under its own key."""

    entry: Entry  # without data
    reference: Reference

    def complete(self, data: bytes) -> Entry:
        return msgspec.structs.replace(self.entry, data=data)


class Keys(NamedTuple):
    """The keys of one user. `position` is also the name of the channel."""

    position: str
    entries: str
    seen: str


@functools.lru_cache(8_192)
def keys_of(prefix: str, user: str) -> Keys:
    name = position_key(prefix, user)
    return Keys(name, f"{name}:h", f"{name}:s")


def position_key(prefix: str, user: str) -> str:
    """The first key of a user, without the cache: a loop over all users would evict those who have events."""
    return f"{prefix}:{{{digest_of(user).hex()}}}"


def all_positions(prefix: str) -> str:
    """A pattern for SCAN that matches all keys of positions and no other key."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix) + ":{*}"


def dedupe_key(event: Event) -> bytes:
    """The digest by which a redelivery is recognised; empty if the event has no key."""
    return digest_of(event.key) if event.key else b""


def encode_body(event: Event, stamp: str, reference: Reference | None = None) -> bytes:
    data = (event.data, 0, 0) if reference is None else reference
    end = event.span.encode() + _WEIGHT.pack(weight_of(event.data, event.id), 0)
    fields = (event.type, stamp, event.id.encode(errors="replace"), *data, event.produced, end)
    return msgspec.msgpack.encode(fields)[:-MARK_BYTES]


def body_key(prefix: str, name: bytes) -> str:
    """The key of data that several histories may reference; in any slot."""
    return f"{prefix}:b:{name.hex()}"


def decode_entries(user: str, packed: bytes, received: Callable[[str], float]) -> list[Entry | Referenced]:
    """Decode a series of entries, from a message of `append` or from a history."""
    entries, place = list[Entry | Referenced](), 0
    while place < len(packed):
        epoch, offset, _, size = _HEADER.unpack_from(packed, place)
        place += _HEADER.size
        found = _decoder.decode(packed[place : place + size])
        place += size
        data, event_id = b"" if found.size else found.data, found.event_id.decode()
        at = received(found.stamp)
        span = found.end[: -_WEIGHT.size].decode() if len(found.end) > _WEIGHT.size else ""
        entry = Entry(user, epoch.decode(), offset, found.type, data, found.stamp, at, event_id, found.produced, span)
        entries.append(Referenced(entry, Reference(found.data, found.size, found.check)) if found.size else entry)
    return entries


def parse_position(text: bytes | None) -> Position | None:
    """Parse the value of a position's key. None if there is none, or if it is not a position."""
    found = _POSITION.fullmatch(text or b"")
    return Position(found[1].decode(), int(found[2])) if found else None


def digest_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
