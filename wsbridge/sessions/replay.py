"""The entries of a session before it is live: the missed ones, then those published meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable

from wsbridge.core.events import Entry
from wsbridge.sessions.outbox import PORTION, Ledger

REPLAY_PORTION = 64  # entries, at most, whose frames are made at once


class Replay:
    """Two queues of one session. The missed entries are bounded by the history, the held ones by `SlowConsumers`."""

    __slots__ = ("_held", "_ledger", "_missed", "held_bytes")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._missed: deque[Entry] | None = None  # set once the history was read
        self._held: list[Entry] = []
        self.held_bytes = 0

    @property
    def has_begun(self) -> bool:
        return self._missed is not None

    @property
    def is_done(self) -> bool:
        """Whether all missed entries were taken."""
        return not self._missed

    def begin(self, entries: Iterable[Entry]) -> None:
        self._missed = deque(entries)
        for entry in self._missed:
            self._ledger.hold(entry.data)

    def take(self, update: Callable[[Entry], bytes]) -> tuple[list[bytes], int]:
        """Make frames of some missed entries: a portion, or one that is larger. Returns them and the last offset."""
        missed, frames, size, offset = self._missed or deque(), list[bytes](), 0, 0
        while missed and size < PORTION and len(frames) < REPLAY_PORTION:
            entry = missed.popleft()
            self._ledger.release(entry.data)
            frames.append(update(entry))
            size += len(frames[-1])
            offset = entry.offset
        return frames, offset

    def hold(self, entry: Entry, size: int) -> None:
        """Keep a published entry whose frame has `size` bytes."""
        self._held.append(entry)
        self.held_bytes += size
        self._ledger.hold(entry.data)

    def take_held(self) -> list[Entry]:
        held, self._held, self.held_bytes = self._held, [], 0
        for entry in held:
            self._ledger.release(entry.data)
        return held

    def end(self) -> bool:
        """Forget that it has begun, because more must be read from the history. Returns whether entries are held."""
        self._missed = None
        return bool(self._held)

    def clear(self) -> None:
        self.take_held()
        for entry in self._missed or ():
            self._ledger.release(entry.data)
        self._missed = None
