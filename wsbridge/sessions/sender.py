"""Writes frames to one connection: at once if the peer keeps up, otherwise in portions as its buffer drains."""

from collections.abc import Sequence

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry
from wsbridge.sessions.connection import Connection
from wsbridge.sessions.outbox import PORTION, Ledger, Outbox
from wsbridge.sessions.replay import Replay
from wsbridge.sessions.run import Run
from wsbridge.telemetry.metrics import Metrics


class Sender:
    """The only writer of frames to its connection.

    Frames are collected until `flush`. Those that the connection cannot take wait in an outbox. `SlowConsumers`
    bounds them by ending sessions of slow peers.
    """

    __slots__ = (
        "_close", "_connection", "_gathered", "_ledger", "_metrics", "_outbox", "_replay", "messages", "written",
    )  # fmt: skip

    def __init__(self, connection: Connection, ledger: Ledger, metrics: Metrics) -> None:
        self._connection = connection
        self._ledger = ledger
        self._metrics = metrics
        self._gathered: list[bytes] | None = None  # since the last flush
        self._outbox: Outbox | None = None  # only while frames wait for the peer
        self._replay: Replay | None = None  # only while there are missed or held entries
        self._close: Close | None = None  # written once the outbox is empty
        self.messages = 0  # written to the connection or put into the outbox
        self.written = 0  # bytes that were moved from the outbox to the connection

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait for the connection to drain."""
        return self._outbox is not None

    @property
    def is_replaying(self) -> bool:
        """Whether a replay was begun and not ended."""
        return self._replay is not None and self._replay.has_begun

    @property
    def has_replayed(self) -> bool:
        """Whether all of the replay is written, so that it must be ended."""
        return self._outbox is None and self._replay is not None and self._replay.has_begun and self._replay.is_done

    @property
    def has_any(self) -> bool:
        """Whether anything waits: frames, missed entries or held ones."""
        return self._outbox is not None or self._replay is not None

    @property
    def waiting(self) -> int:
        """Bytes of the frames and held entries that wait."""
        held = self._replay.held_bytes if self._replay is not None else 0
        return held + (self._outbox.size if self._outbox is not None else 0)

    def add(self, frame: bytes, *, first: bool = False) -> None:
        """Collect a frame for the next flush, after the others or before them."""
        if self._gathered is None:
            self._gathered = [frame]
        else:
            self._gathered.insert(0 if first else len(self._gathered), frame)

    def add_entry(self, entry: Entry, frame: bytes) -> None:
        """Collect an entry's frame. While others wait, keep the entry instead, because sessions share its data."""
        if self._gathered is not None:
            self._gathered.append(frame)
        elif self._outbox is None:
            self._gathered = [frame]
        else:
            self._outbox.append(entry, len(frame))
            self._count(1, len(frame))

    def flush(self) -> bool:
        """Write the collected frames at once. Return True if they now wait for the peer, and none did before."""
        gathered = self._gathered
        if gathered is None:
            return False
        self._gathered = None
        size = len(gathered[0]) if len(gathered) == 1 else sum(map(len, gathered))
        self._count(len(gathered), size)
        return self.send(gathered, size)

    def send_run(self, run: Run) -> bool:
        """Send entries, or keep them while frames wait. The result is that of `flush`."""
        connection, data = self._connection, run.data
        if self._outbox is None and self._gathered is None and len(data) <= PORTION and not connection.is_paused:
            self.messages += len(run.frames)  # not `_count`: this runs for each event and session
            self._metrics.sent += len(run.frames)
            self._metrics.sent_bytes += len(data)
            connection.write(data)
            return False
        for entry, frame in zip(run.entries, run.frames, strict=True):
            self.add_entry(entry, frame)
        return self.flush()

    def send(self, frames: Sequence[bytes], size: int) -> bool:
        """Send frames of `size` bytes that are not counted as messages; the result is that of `flush`."""
        if self._outbox is not None:
            self._outbox.put(frames)
            return False
        if size <= PORTION and not self._connection.is_paused:
            self._connection.write(frames[0] if len(frames) == 1 else b"".join(frames))
            return False
        self._queue(frames)
        return True

    def hold(self, entry: Entry, size: int) -> None:
        """Keep a published entry, whose frame has `size` bytes, until the missed ones are written."""
        self._own_replay().hold(entry, size)

    def begin_replay(self, missed: Sequence[Entry]) -> None:
        """Let `write_portion` write the missed entries whenever no other frames wait."""
        self._own_replay().begin(missed)

    def end_replay(self) -> None:
        """Forget that a replay was begun; held entries stay."""
        if self._replay is not None and not self._replay.end():
            self._replay = None

    def take_held(self) -> list[Entry]:
        """Return the held entries and stop holding them."""
        replay, self._replay = self._replay, None
        return replay.take_held() if replay is not None else []

    def write_portion(self) -> int:
        """Write some waiting frames, then the close. Return the offset of the last missed entry in them, or 0."""
        offset = 0
        if self._outbox is None and self._replay is not None and self._replay.has_begun:
            frames, offset = self._replay.take(self._connection.update)
            self._count(len(frames), sum(map(len, frames)))
            self._queue(frames)
        if self._outbox is None:
            return offset
        data = self._outbox.take()
        self.written += len(data)
        self._connection.write(data)
        if not self._outbox.size:
            self._outbox = None
            if self._close is not None:
                self._connection.send_close(self._close)
        return offset

    def send_close(self, close: Close, *, cut: bool) -> None:
        """Write the close after all waiting frames, or if `cut` after the partly sent one. Nothing is sent after it."""
        self._forget()
        if cut and self._outbox is not None:
            self._outbox.cut()
            if not self._outbox.size:
                self._outbox = None
        if self._outbox is None:
            self._connection.send_close(close)
        else:
            self._close = close

    def clear(self) -> None:
        """Drop everything, because the peer is lost."""
        self._forget()
        if self._outbox is not None:
            self._outbox.clear()
            self._outbox = None

    def _forget(self) -> None:
        """Drop everything that is not in the outbox yet."""
        self._gathered = None
        if self._replay is not None:
            self._replay.clear()
            self._replay = None

    def _own_replay(self) -> Replay:
        if self._replay is None:
            self._replay = Replay(self._ledger)
        return self._replay

    def _queue(self, frames: Sequence[bytes]) -> None:
        if self._outbox is None:
            self._outbox = Outbox(self._ledger, self._connection.update)
        self._outbox.put(frames)

    def _count(self, messages: int, size: int) -> None:
        self.messages += messages
        self._metrics.wrote(messages, size)
