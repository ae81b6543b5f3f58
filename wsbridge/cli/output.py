"""Writes messages to a terminal, in colour, or to a pipe, one line each."""

import asyncio
import os
import stat
from collections.abc import Callable, Coroutine, Mapping
from typing import TextIO

from wsbridge.cli.formatting import is_colourful, one_line, pretty


def shower(stream: TextIO, environ: Mapping[str, str]) -> Callable[[bytes], None]:
    """A function that writes a message and flushes."""
    if not stream.isatty():
        return lambda message: _write(stream, one_line(message))
    colours = is_colourful(stream, environ)
    return lambda message: _write(
        stream, pretty(message.decode(errors="replace"), colours=colours).encode(stream.encoding, "replace") + b"\n"
    )


def _write(stream: TextIO, line: bytes) -> None:
    stream.buffer.write(line)
    stream.flush()


async def while_read(stream: TextIO, work: Coroutine[None, None, None]) -> None:
    """Run `work`, but end at once when the reader of the stream has exited, as with `| head -1`.

    Without it the command would end only at the next message, which may be hours later. Raises `BrokenPipeError` if the
    reader has exited.
    """
    loop, output = asyncio.get_running_loop(), stream.fileno()
    task, unread = loop.create_task(work), False  # not in the background: it ends with this function

    def end() -> None:
        nonlocal unread
        unread = True
        task.cancel()

    is_pipe = stat.S_ISFIFO(os.fstat(output).st_mode)
    if is_pipe:  # the writing end of a pipe becomes readable when its reader has exited
        loop.add_reader(output, end)
    try:
        await task
    except asyncio.CancelledError:
        if unread:
            raise BrokenPipeError from None
        raise
    finally:
        if is_pipe:
            loop.remove_reader(output)
