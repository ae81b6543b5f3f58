"""Runs programs beside the tests. Their output goes to files, and none outlives the tests."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.running import ROOT

PATIENCE = 90.0  # seconds that any step may take on a busy machine
PAUSE = 0.05  # seconds between two checks
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


async def settled(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for the condition; the test fails if it does not become true."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the condition is any function, so no event can be set
            await asyncio.sleep(PAUSE)


def _die_with_parent() -> None:
    """Let the kernel kill the program when its parent ends, even after a kill -9 of the parent."""
    if hasattr(_libc, "prctl"):  # on Linux
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


class Process:
    """A process, which runs from its construction on. The caller must call `kill`."""

    def __init__(self, command: Sequence[str], log: Log, environment: Mapping[str, str] | None = None) -> None:
        """`log` is appended to; `environment` is added to this process's own."""
        with log.path.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_inherited() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach the tests only, which end it
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def freeze(self) -> None:
        """Freeze the process: its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""

        async def has_ended() -> bool:
            return not self.running

        await settled(has_ended)
        return self._process.wait()

    def kill(self) -> None:
        """Kill as `kill -9` does, even if frozen. May be called again."""
        self._process.kill()
        self._process.wait()


def _inherited() -> dict[str, str]:
    """The environment without variables for another bridge or sidecar."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("WSBRIDGE_", "DAPR_", "APP_"))}
