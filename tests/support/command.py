"""The command line in its own process."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.running import DEADLINE, ROOT

LONGEST_LINE = 4_194_304  # bytes


@dataclass
class Command:
    """One run of `wsbridge`."""

    process: asyncio.subprocess.Process

    async def line(self) -> str:
        """The next line of its output; "" at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            return (await self.process.stdout.readline()).decode()

    async def note(self) -> str:
        """The next line on standard error; "" at the end."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            return (await self.process.stderr.readline()).decode()

    async def line_with(self, text: str) -> str:
        """The next line of its output that contains the text."""
        while line := await self.line():
            if text in line:
                return line
        raise AssertionError(f"it ended without {text!r}: {await self.note()}")

    async def ended(self) -> int:
        """Wait for the exit code. The rest of the output can still be read."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def environment(**settings: str) -> dict[str, str]:
    """An environment without this shell's variables, except those that Python and coverage need."""
    kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | settings


@contextlib.asynccontextmanager
async def command(*words: str, stdout: int | None = None, **settings: str) -> AsyncIterator[Command]:
    """Start `wsbridge` with these arguments and this environment; kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "wsbridge", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if stdout is None else stdout,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**settings),
        limit=LONGEST_LINE,
        # A shell ignores SIGINT in background jobs, and their child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        yield Command(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def finished(*words: str, **settings: str) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, output and notes. It may work for as long as any test."""
    async with command(*words, stdout=None, **settings) as run:
        out, notes = await run.process.communicate()
        assert run.process.returncode is not None
        return run.process.returncode, out.decode(), notes.decode()
