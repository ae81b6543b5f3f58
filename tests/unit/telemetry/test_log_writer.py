"""The log writer with a stream that blocks, fails, or writes partial lines."""

import asyncio
import io
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.running import DEADLINE, until
from wsbridge.telemetry import log_writer
from wsbridge.telemetry.log_writer import FAILED, SLOW, LogWriter

LINE = b"x" * 1_023 + b"\n"


class Stream(io.RawIOBase):
    """Accepts as many bytes as the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = b""
        self.most = 1 << 30  # bytes in one call
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.calls = 0

    def write(self, data: object, /) -> int:
        assert self.free.wait(DEADLINE)
        self.calls += 1
        if self.error:
            raise self.error
        part = bytes(data)[: self.most]  # type: ignore[call-overload]  # a memoryview
        self.taken += part
        return len(part)


@contextmanager
def writing(stream: Any, max_bytes: int = 1 << 20) -> Iterator[tuple[LogWriter, Counter[str]]]:
    """A writer whose reports are lines of their own."""
    dropped: Counter[str] = Counter()
    with LogWriter(
        stream, dropped, lambda lines, why: writer.write(f"dropped {lines} {why}\n".encode()), max_bytes
    ) as writer:
        yield writer, dropped


async def test_log_writer_after_a_line_gathers_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "GATHER", DEADLINE)
    stream = Stream()
    with writing(stream) as (writer, _):
        writer.write(b"first\n")
        await until(lambda: stream.taken == b"first\n")
        for number in range(10):
            writer.write(b"%d\n" % number)
            await asyncio.sleep(0.001)  # time for a thread that does not gather
    assert stream.taken.endswith(b"9\n")
    assert stream.calls == 2  # the second at the end, for which the writer does not wait


def test_log_writer_writes_lines_in_order() -> None:
    stream = Stream()
    stream.most = 3
    with writing(stream) as (writer, dropped):
        for number in range(100):
            writer.write(b"%d\n" % number)
    assert stream.taken == b"".join(b"%d\n" % number for number in range(100))
    assert not dropped


@pytest.mark.fault("F1")
async def test_log_writer_with_a_blocked_stream_drops_counts_and_reports() -> None:
    stream = Stream()
    stream.free.clear()
    with writing(stream, max_bytes=10 * len(LINE)) as (writer, dropped):
        for _ in range(25):  # none of these calls waits, although the stream accepts nothing
            writer.write(LINE)
        assert dropped == {SLOW: 15}
        stream.free.set()
        await until(lambda: b"dropped 15 slow\n" in stream.taken)
        writer.write(LINE)
    assert stream.taken == 10 * LINE + b"dropped 15 slow\n" + LINE
    assert dropped == {SLOW: 15}


@pytest.mark.fault("F1")
async def test_log_writer_with_a_failing_stream_counts_lines_and_recovers() -> None:
    stream = Stream()
    stream.error = OSError("disk full")
    with writing(stream) as (writer, dropped):
        writer.write(b"lost\n")
        await until(lambda: dropped[FAILED] == 1)
        calls = stream.calls
        stream.error = None
        writer.write(b"back\n")
        await until(lambda: b"dropped" in stream.taken)
    assert calls == 1  # a failure is not reported by another line, which would fail too
    assert stream.taken == b"back\ndropped 1 failed\n"


async def test_log_writer_after_a_partial_line_starts_a_new_one() -> None:
    stream = Stream()
    stream.most = 2
    with writing(stream) as (writer, dropped):
        stream.free.clear()
        writer.write(b"torn\n")
        stream.free.set()
        await until(lambda: stream.taken == b"torn\n")
        original = stream.write

        def fails_after_one_part(data: object, /) -> int:
            stream.write = original  # type: ignore[method-assign]  # one call only
            written = original(data)
            stream.error = OSError("disk full")
            return written

        stream.write = fails_after_one_part  # type: ignore[method-assign]  # as above
        writer.write(b"half\n")
        await until(lambda: dropped[FAILED] == 1)
        stream.error = None
        writer.write(b"next\n")
        await until(lambda: b"next\n" in stream.taken)
    assert stream.taken.startswith(b"torn\nha\nnext\n")


def test_log_writer_exit_with_a_blocked_stream_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "CLOSE_TIMEOUT", 0.01)
    stream = Stream()
    stream.free.clear()
    with writing(stream) as (writer, dropped):
        writer.write(LINE)
    writer.write(LINE)
    assert dropped == {SLOW: 1}
    stream.free.set()


def test_log_writer_with_a_non_blocking_pipe_waits_until_it_can_write() -> None:
    reading, written = os.pipe()
    os.set_blocking(written, False)
    with os.fdopen(reading, "rb") as end, os.fdopen(written, "wb", buffering=0) as stream:
        with writing(stream, max_bytes=1 << 22) as (writer, dropped):
            for _ in range(200):
                writer.write(LINE)
            assert end.read(200 * len(LINE)) == 200 * LINE
        assert not dropped
