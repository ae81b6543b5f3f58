"""Where messages are printed, and that the command ends when its output is closed."""

import asyncio
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.running import DEADLINE
from wsbridge.cli.listen import shower, while_read

UPDATE = b'{"type":"task_update","event":{"title":"Bu\xc3\xbc\\u001b"},\n"id":"k3:42"}'


@contextmanager
def opened(ends: tuple[int, int]) -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and a stream into it."""
    read, write = ends
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        try:
            yield read, stream
        finally:
            os.close(read)


def line_of(read: int) -> str:
    """A whole line. A terminal may pass it on in parts."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(read, 9999)
    return line.decode()


def test_shower_to_a_pipe_writes_bytes_at_once() -> None:
    with opened(os.pipe()) as (read, stream):
        shower(stream, {})(UPDATE)
        assert os.read(read, 9999) == UPDATE.replace(b"\n", b" ") + b"\n"


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_shower_to_a_terminal_writes_text(term: str) -> None:
    with opened(pty.openpty()) as (read, stream):
        shower(stream, {"TERM": term})(UPDATE)
        shown = line_of(read)
        shower(stream, {"TERM": term})(b"\xff")
        assert line_of(read) == "\ufffd\r\n"
    assert '"Buü\\u001b"' in shown
    assert ("\x1b[36mtask_update" in shown) is (term == "xterm")


async def forever(started: asyncio.Event) -> None:
    started.set()
    await asyncio.Event().wait()


async def test_while_read_without_a_reader_raises() -> None:
    read, write = os.pipe()
    started = asyncio.Event()
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        task = asyncio.create_task(while_read(stream, forever(started)))
        async with asyncio.timeout(DEADLINE):
            await started.wait()
            assert not task.done()
            os.close(read)
            with pytest.raises(BrokenPipeError):
                await task


async def test_while_read_ends_with_its_work(tmp_path: Path) -> None:
    async def fail() -> None:
        raise LookupError

    with opened(os.pipe()) as (_, pipe), (tmp_path / "out").open("w") as file:
        for stream in (pipe, file):
            await while_read(stream, asyncio.sleep(0))
            with pytest.raises(LookupError):
                await while_read(stream, fail())


async def test_while_read_cancelled_cancels_its_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await forever(started)
        finally:
            ended.set()

    started = asyncio.Event()
    with opened(os.pipe()) as (_, stream):
        task = asyncio.create_task(while_read(stream, work()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended.is_set()
