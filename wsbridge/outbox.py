"""What one peer has not been sent yet: references to shared frames, taken in portions."""

from collections import deque
from collections.abc import Iterable

PORTION = 65_536  # bytes that are handed to a transport at once
HIGH_WATER = 16_384  # bytes in a transport's buffer above which nothing more is handed to it


class Ledger:
    """Bytes that wait for all peers together. An object that many of them wait for is counted once."""

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

    Bounded from outside: see `Backlog`, which ends sessions whose peers do not take what waits for them.
    """

    __slots__ = ("_begun", "_frames", "_ledger", "size")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._frames: deque[bytes] = deque()
        self._begun = 0  # bytes of the first frame that were taken already
        self.size = 0

    def put(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._ledger.hold(frame)
            self._frames.append(frame)
            self.size += len(frame)

    def take(self, limit: int = PORTION) -> bytes | memoryview:
        """The next bytes, at most `limit`: whole frames joined, or a piece of a frame that is larger."""
        frames = self._frames
        if self._begun or len(frames[0]) > limit:
            return self._piece(limit)
        taken, size = [], 0
        while frames and size + len(frames[0]) <= limit:
            size += len(frames[0])
            taken.append(frames.popleft())
            self._ledger.release(taken[-1])
        self.size -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def cut(self) -> None:
        """Drop all frames but one that was begun, without whose rest nothing more can be sent."""
        kept = 1 if self._begun else 0
        while len(self._frames) > kept:
            frame = self._frames.pop()
            self._ledger.release(frame)
            self.size -= len(frame)

    def clear(self) -> None:
        self._begun = 0
        self.cut()
        self.size = 0

    def _piece(self, limit: int) -> memoryview:
        frame = self._frames[0]
        piece = memoryview(frame)[self._begun : self._begun + limit]
        self._begun += len(piece)
        self.size -= len(piece)
        if self._begun == len(frame):
            self._begun = 0
            self._ledger.release(self._frames.popleft())
        return piece
