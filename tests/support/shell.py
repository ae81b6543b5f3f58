"""Runs other programs to their end, within a time."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.running import DEADLINE, ROOT


class Ended(NamedTuple):
    """What a program has left."""

    code: int
    output: str
    notes: str  # on standard error


async def run(*command: str | Path, within: float = DEADLINE, cwd: Path = ROOT, env: Mapping[str, str] = {}) -> Ended:
    """Run a program; `env` is added to the environment. AssertionError if it does not end within that many seconds."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within):
            output, notes = await process.communicate()
    except TimeoutError:
        raise AssertionError(f"{' '.join(map(str, command))} did not end within {within} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), notes.decode())


async def output(*command: str | Path, within: float = DEADLINE, cwd: Path = ROOT, env: Mapping[str, str] = {}) -> str:
    """Run a program; return its output. AssertionError if it fails."""
    ended = await run(*command, within=within, cwd=cwd, env=env)
    assert ended.code == 0, f"{' '.join(map(str, command))}\nfailed: {ended.output}{ended.notes}"
    return ended.output


async def typed(line: str, env: Mapping[str, str] = {}) -> str:
    """The output of a line that is typed into a shell. AssertionError if it fails."""
    return await output("sh", "-c", line, env=env)
