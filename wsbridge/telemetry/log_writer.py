"""Writes log lines in a separate thread, so that a blocked pipe does not block the event loop."""

import contextlib
import select
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import BinaryIO, Self

MAX_BYTES = 4_194_304  # of waiting lines; when it is reached, new lines are dropped and counted
GATHER = 0.02  # seconds after a write in which lines gather: to wake the thread takes longer than to make a line
CLOSE_TIMEOUT = 1.0  # seconds that `__exit__` waits for the last lines
SLOW, FAILED = "slow", "failed"  # reasons of dropped lines: the reader is too slow, or the stream fails


class LogWriter:
    """A bounded buffer of lines in front of a binary stream.

    Dropped lines are passed to `report` later, with the reason.

    Writes to the raw stream, because the interpreter aborts at its exit if a thread holds the lock of a buffered one.
    """

    def __init__(
        self, stream: BinaryIO, dropped: Counter[str], report: Callable[[int, str], None], max_bytes: int = MAX_BYTES
    ) -> None:
        self._stream = getattr(stream, "raw", stream)
        self._dropped = dropped
        self._report = report
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._untold: Counter[str] = Counter()
        self._is_torn = False  # the last line was written in part
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(CLOSE_TIMEOUT)

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def write(self, line: bytes) -> None:
        """Append a line to the buffer, or drop it. Never waits for the stream."""
        with self._changed:
            if self._closed.is_set() or self._size + len(line) > self._max_bytes:
                self._drop(SLOW, 1)
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()

    def _drop(self, why: str, lines: int) -> None:
        self._dropped[why] += lines
        self._untold[why] += lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed.is_set())
                if not self._lines:
                    return
                lines, self._lines = self._lines, deque()
            self._write_all(lines)
            self._closed.wait(GATHER)

    def _write_all(self, lines: deque[bytes]) -> None:
        data = b"".join(lines)
        is_written = self._put(b"\n" + data if self._is_torn else data)
        untold: Counter[str] = Counter()
        with self._changed:
            self._size -= len(data)  # bytes count until they are written
            if is_written:  # a report of a failure could not be written either
                untold, self._untold = self._untold, untold
            else:
                self._drop(FAILED, len(lines))
        for why, count in untold.items():
            self._report(count, why)

    def _put(self, data: bytes) -> bool:
        """Write all bytes. Returns False if the stream fails; a later call may succeed, for example on a full disk."""
        view = memoryview(data)
        try:
            while view:
                written = self._stream.write(view)
                if written is None:  # the descriptor is non-blocking
                    select.select([], [self._stream], [])
                    continue
                view = view[written:]
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._is_torn = len(view) < len(data) or self._is_torn
            return False
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
        self._is_torn = False
        return True
