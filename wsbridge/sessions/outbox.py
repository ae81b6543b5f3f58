"""The unsent messages of one peer: references to shared frames and entries, which are written in portions."""

from collections import deque
from collections.abc import Callable, Iterable

from wsbridge.core.events import Entry

PORTION = 65_536  # bytes that are written to a transport at once
HIGH_WATER = 16_384  # bytes in a transport's write buffer; above this, nothing more is written


class Ledger:
    """The unsent bytes of all peers. An object that waits for several peers counts once."""

    __slots__ = ("_holders", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._holders: dict[int, int] = {}  # id → number of holders, each of which keeps the object alive

    def hold(self, data: bytes) -> None:
        holders = self._holders.get(id(data), 0)
        if not holders:
            self.bytes += len(data)
        self._holders[id(data)] = holders + 1

    def release(self, data: bytes) -> None:
        holders = self._holders[id(data)] - 1
        if holders:
            self._holders[id(data)] = holders
        else:
            del self._holders[id(data)]
            self.bytes -= len(data)


class Outbox:
    """Frames of one connection, in order. `size` is in bytes.

    An entry becomes a frame only when it is taken. Users who get the same event share its data, but each has a frame
    with its own position.

    `SlowConsumers` bounds it, by ending sessions whose peers read too slowly.
    """

    __slots__ = ("_begun", "_ledger", "_update", "_waiting", "size")

    def __init__(self, ledger: Ledger, update: Callable[[Entry], bytes]) -> None:
        self._ledger = ledger
        self._update = update  # makes the frame of an entry
        self._waiting: deque[tuple[bytes | Entry, int]] = deque()  # with the size of the frame
        self._begun = 0  # bytes of the first frame that are already taken
        self.size = 0

    def put(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self.append(frame, len(frame))

    def append(self, item: bytes | Entry, size: int) -> None:
        """Keep a frame, or an entry whose frame has `size` bytes."""
        self._ledger.hold(_held(item))
        self._waiting.append((item, size))
        self.size += size

    def take(self, limit: int = PORTION) -> bytes | memoryview:
        """The next bytes, at most `limit`: joined whole frames, or a part of a larger frame."""
        waiting = self._waiting
        if self._begun or waiting[0][1] > limit:
            return self._piece(limit)
        taken, size = list[bytes](), 0
        while waiting and size + waiting[0][1] <= limit:
            item, frame_size = waiting.popleft()
            size += frame_size
            taken.append(self._frame(item))
            self._ledger.release(_held(item))
        self.size -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def cut(self) -> None:
        """Drop all frames except one that is partly sent: its rest must be sent before anything else."""
        kept = 1 if self._begun else 0
        while len(self._waiting) > kept:
            item, size = self._waiting.pop()
            self._ledger.release(_held(item))
            self.size -= size

    def clear(self) -> None:
        self._begun = 0
        self.cut()
        self.size = 0

    def _piece(self, limit: int) -> memoryview:
        item, size = self._waiting[0]
        frame = self._frame(item)
        if frame is not item:  # all parts must be of the same object
            self._ledger.hold(frame)
            self._ledger.release(_held(item))
            self._waiting[0] = frame, size
        piece = memoryview(frame)[self._begun : self._begun + limit]
        self._begun += len(piece)
        self.size -= len(piece)
        if self._begun == len(frame):
            self._begun = 0
            self._waiting.popleft()
            self._ledger.release(frame)
        return piece

    def _frame(self, item: bytes | Entry) -> bytes:
        return item if isinstance(item, bytes) else self._update(item)


def _held(item: bytes | Entry) -> bytes:
    """The bytes of the item that other outboxes may share."""
    return item if isinstance(item, bytes) else item.data
