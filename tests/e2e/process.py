"""Runs programs beside the tests. Their output goes to files, and none outlives the tests."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.running import ROOT
from wsbridge.cli.chain import process

PATIENCE = 90.0  # seconds that any step may take on a busy machine
PAUSE = 0.05  # seconds between two checks


async def settled(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for the condition; the test fails if it does not become true."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the condition is any function, so no event can be set
            await asyncio.sleep(PAUSE)


class Log:
    """The output of programs in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._records: list[dict[str, Any]] = []
        self._read = 0

    @property
    def lines(self) -> list[str]:
        """The lines so far, without an incomplete last one."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            fresh, end, _ = file.read().rpartition(b"\n")
        self._read += len(fresh + end)
        lines = fresh.decode(errors="replace").split("\n") if end else []
        self._lines += lines
        self._records += [json.loads(line) for line in lines if line.startswith("{")]
        return self._lines

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines that are JSON with this event and these fields, as the bridge logs them."""
        _ = self.lines
        return [record for record in self._records if record.get("event") == event and fields.items() <= record.items()]

    @property
    def account(self) -> str:
        """The part that a failed test shows."""
        return "\n".join([f"{self.path.name}:", *self.lines[-20:]])


class Process(process.Process):
    """A process of the tests, which can also be frozen."""

    def __init__(self, command: Sequence[str], log: Log, environment: Mapping[str, str] | None = None) -> None:
        """`log` is appended to; `environment` is added to this process's own."""
        super().__init__(command, log.path, environment, ROOT)

    def freeze(self) -> None:
        """Freeze the process: its connections stay open."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""

        async def has_ended() -> bool:
            return not self.running

        await settled(has_ended)
        return self.wait()
