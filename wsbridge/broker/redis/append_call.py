"""Calls of `append` in `history.lua`. Each is for several users, because a call of its own costs more than an event."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import keys_of
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.errors import unavailable

USERS = 64  # in one call, which takes the server about 1 ms
CALL_BYTES = 65_536  # of events in one call; its last user may exceed it

Body = tuple[bytes, bytes]  # of an event: its dedupe key, and the body of its entry
Reply = bytes | BrokerUnavailable


@dataclass(eq=False, slots=True)
class AppendCall:
    """Its users are in one slot. An event of several users is sent once."""

    users: list[str] = field(default_factory=list)
    _keys: list[str] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)  # as history.lua takes them
    _bodies: list[bytes] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)  # event → its place in this call
    size: int = 0  # bytes of its events

    def add(self, user: str, keys: Sequence[str], own: Sequence[int], bodies: Sequence[Body]) -> None:
        """Add the user with its `own` events, by their index in `bodies`."""
        self.users.append(user)
        self._keys += keys
        self._places.append(len(own))
        for event in own:
            place = self._known.setdefault(event, len(self._known))
            self._places.append(place)
            if 2 * place == len(self._bodies):  # new in this call
                self._bodies += bodies[event]
                self.size += len(bodies[event][1])

    def command(self, options: Sequence[str | int]) -> Command:
        places = struct.pack(f">{len(self._places)}H", *self._places)
        return call("append", self._keys, *options, places, *self._bodies)


class Replies(NamedTuple):
    """The replies to one call. It may have failed for all of its users, or for some of them."""

    users: Sequence[str]
    reply: Sequence[bytes | Exception] | BrokerUnavailable

    def by_user(self) -> Iterator[tuple[str, Reply]]:
        """Each user with the reply for it."""
        each = [self.reply] * len(self.users) if isinstance(self.reply, BrokerUnavailable) else self.reply
        for user, one in zip(self.users, each, strict=True):
            yield user, one if isinstance(one, bytes | BrokerUnavailable) else unavailable(one)


def grouped(
    events: Mapping[str, Sequence[int]], bodies: Sequence[Body], prefix: str, slot_of: Callable[[str], int]
) -> list[AppendCall]:
    """The calls for all users. `events` are those of each user, by their index in `bodies`."""
    calls: list[AppendCall] = []
    latest: dict[int, AppendCall] = {}  # by slot
    for user, own in events.items():
        keys = keys_of(prefix, user)
        slot = slot_of(keys.position)
        found = latest.get(slot)
        if found is None or len(found.users) >= USERS or found.size >= CALL_BYTES:
            found = latest[slot] = AppendCall()
            calls.append(found)
        found.add(user, keys, own, bodies)
    return calls
