"""One user's last entries and position, and the bytes that histories share."""

import bisect
import math
import operator
import secrets
import string

from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.recovery import Resume, decide_resume

EPOCH_LENGTH = 8
_CHARACTERS = ((string.ascii_lowercase + string.digits) * 8)[:256].encode()  # a character for each byte


def weight_of(data: bytes, event_id: str) -> int:
    """The size of an event in the history of its user, in bytes: in full, even if other users share the data.

    The remaining cost of an entry is small and constant, so the number of entries bounds it.
    """
    return len(data) + len(event_id)


class History:
    """One user's last entries and position.

    The position outlives the entries. Operations other than `since` and `find` take constant time.
    """

    __slots__ = ("_entries", "_start", "epoch", "offset", "trimmed", "weight")

    def __init__(self) -> None:
        self.epoch = secrets.token_bytes(EPOCH_LENGTH).translate(_CHARACTERS).decode()
        self.offset = 0
        self.trimmed = 0  # the highest offset that was removed for lack of room, not because of its age
        self.weight = 0  # of all entries, see `weight_of`
        # Not a deque: that takes 700 bytes more while it is empty, as most are. Dropped entries are removed half a list
        # at a time, because `pop(0)` moves all later ones.
        self._entries: list[Entry] = []
        self._start = 0  # index of the oldest entry

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def kept(self) -> int:
        """The number of entries."""
        return len(self._entries) - self._start

    @property
    def oldest(self) -> Entry:
        return self._entries[self._start]

    @property
    def newest(self) -> Entry:
        return self._entries[-1]

    def append(self, user: str, event: Event, timestamp: str, received: float) -> Entry:
        self.offset += 1
        entry = Entry(
            user, self.epoch, self.offset, event.type, event.data, timestamp, received, event.id, event.produced,
            event.span,
        )  # fmt: skip
        self._entries.append(entry)
        self.weight += weight_of(entry.data, entry.event_id)
        return entry

    def drop_oldest(self) -> Entry:
        entry = self._entries[self._start]
        self._entries[self._start] = _DROPPED
        self._start += 1
        self.weight -= weight_of(entry.data, entry.event_id)
        if 2 * self._start > len(self._entries):
            del self._entries[: self._start]
            self._start = 0
        return entry

    def find(self, event_id: str, expired: float) -> Position | None:
        """The position of the newest entry of this event that was received after `expired`."""
        for place in range(len(self._entries) - 1, self._start - 1, -1):
            entry = self._entries[place]
            if entry.received_at <= expired:
                break
            if entry.event_id == event_id:
                return Position(entry.epoch, entry.offset)
        return None

    def since(self, asked: str | None, expired: float = -math.inf) -> Resume:
        """All entries after the position, or a gap. Entries that were received before `expired` do not count."""
        first = bisect.bisect_right(self._entries, expired, self._start, key=_RECEIVED)
        resume = decide_resume(asked, self.top, len(self._entries) - first, self.trimmed)
        missed = self.offset - resume.position.offset
        return resume._replace(entries=tuple(self._entries[-missed:])) if missed else resume


_DROPPED = Entry("", "", 0, "", b"", "", 0.0, "")
_RECEIVED = operator.attrgetter("received_at")


class SharedData:
    """Data of events, each counted once even if several histories hold it.

    An event for many users is one object in memory. Only data with more than one holder is registered.
    """

    def __init__(self) -> None:
        self._held: dict[int, int] = {}  # id() of data, which is kept alive meanwhile → histories

    def hold(self, data: bytes) -> int:
        """Add a holder of data that other histories may hold as well; return the number of added bytes."""
        held = self._held.get(id(data), 0)
        self._held[id(data)] = held + 1
        return 0 if held else len(data)

    def release(self, data: bytes) -> int:
        """Remove a holder; return the number of freed bytes."""
        held = self._held.get(id(data), 1) - 1
        if held:
            self._held[id(data)] = held
            return 0
        self._held.pop(id(data), None)
        return len(data)
