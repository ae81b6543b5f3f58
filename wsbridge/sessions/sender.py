"""Frames to one peer: at once where its transport is free, else in portions as it drains; then the close."""

from collections.abc import Sequence
from typing import Protocol

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Position
from wsbridge.sessions.outbox import HIGH_WATER, PORTION, Ledger, Outbox


class Connection(Protocol):
    """What a transport has to offer. None of it but `drain` waits."""

    transport_name: str

    @property
    def ping_interval(self) -> float | None:
        """Seconds between two pings, at most; None is the bridge's own."""
        ...

    @property
    def answers(self) -> bool:
        """Whether a peer that is there answers a ping."""
        ...

    def update(self, entry: Entry) -> bytes:
        """An entry as it stands on this connection; the same for all sessions of the kind."""
        ...

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        """A message as it stands on this connection."""
        ...

    def write(self, data: bytes | memoryview) -> None: ...

    def unsent(self) -> int:
        """Bytes in the transport's buffer."""
        ...

    def is_gone(self) -> bool:
        """Whether the peer has left unnoticed."""
        ...

    def ping(self) -> None: ...

    def wake(self) -> None:
        """There is something to `pump`: whoever owns the connection does it."""
        ...

    def abort_later(self, *, soon: bool = False) -> None:
        """Free everything within 2 s, or a second, whatever the peer does."""
        ...

    def end(self, close: Close) -> None:
        """Close in the transport's way; the last that is written."""
        ...

    def abort(self) -> None: ...

    async def drain(self) -> None:
        """Wait until the transport's buffer is nearly empty."""
        ...


class Sender:
    """The only writer of frames to `connection`. What waits is bounded from outside: see `Backlog`."""

    __slots__ = ("_connection", "_last", "_ledger", "_outbox", "written")

    def __init__(self, connection: Connection, ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger
        self._outbox: Outbox | None = None  # what the transport could not be given yet
        self._last: Close | None = None  # written when the outbox is empty
        self.written = 0  # bytes that went from the outbox to the transport

    @property
    def is_waiting(self) -> bool:
        """Whether `write_portion` has something to do."""
        return self._outbox is not None

    @property
    def waiting(self) -> int:
        """Bytes that the transport could not be given yet."""
        return self._outbox.size if self._outbox is not None else 0

    def send(self, frames: Sequence[bytes], size: int) -> bool:
        """Write frames of `size` bytes in one piece, or queue them; True if it has begun to wait for the transport."""
        if self._outbox is not None:
            self._outbox.put(frames)
            return False
        if size <= PORTION and self._connection.unsent() <= HIGH_WATER:
            self._connection.write(frames[0] if len(frames) == 1 else b"".join(frames))
            return False
        self.queue(frames)
        return True

    def queue(self, frames: Sequence[bytes]) -> None:
        """Keep references to frames, which others may wait for, too."""
        if self._outbox is None:
            self._outbox = Outbox(self._ledger, self._connection.update)
        self._outbox.put(frames)

    def queue_entry(self, entry: Entry, size: int) -> bool:
        """Keep an entry whose frame has `size` bytes behind what waits; False if nothing does, and nothing was done."""
        if self._outbox is None:
            return False
        self._outbox.put_entry(entry, size)
        return True

    def write_portion(self) -> None:
        """Write some of what waits, and the close once nothing does."""
        if self._outbox is None:
            return
        data = self._outbox.take()
        self.written += len(data)
        self._connection.write(data)
        if not self._outbox.size:
            self._outbox = None
            if self._last is not None:
                self._connection.end(self._last)

    def cut(self) -> None:
        """Drop what waits, but the rest of a frame that has begun."""
        if self._outbox is not None:
            self._outbox.cut()
            if not self._outbox.size:
                self._outbox = None

    def end(self, close: Close) -> None:
        """Write the close behind what waits. Nothing may be sent afterwards."""
        if self._outbox is None:
            self._connection.end(close)
        else:
            self._last = close

    def clear(self) -> None:
        """Drop everything: the peer is gone."""
        if self._outbox is not None:
            self._outbox.clear()
            self._outbox = None
