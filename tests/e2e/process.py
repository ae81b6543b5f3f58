"""Programs that run beside the tests. Their output is in files, and none outlives the tests."""

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

PATIENCE = 90.0  # seconds that anything may take on a busy machine before it counts as broken
PAUSE = 0.05  # seconds between two looks
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


async def settled(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for it; the test fails if it does not come."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - it is anything, not what could set an event
            await asyncio.sleep(PAUSE)


def _die_with_parent() -> None:
    """Whatever becomes of who started it: a kill -9 leaves no time to tidy up."""
    if hasattr(_libc, "prctl"):  # on Linux
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Log:
    """What programs have printed into one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._records: list[dict[str, Any]] = []
        self._read = 0

    @property
    def lines(self) -> list[str]:
        """So far, without the last one as long as it has no end."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            fresh, end, _ = file.read().rpartition(b"\n")
        self._read += len(fresh + end)
        lines = fresh.decode(errors="replace").split("\n") if end else []
        self._lines += lines
        self._records += [json.loads(line) for line in lines if line.startswith("{")]
        return self._lines

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Those that are JSON with this event and these fields, as the bridge writes them."""
        _ = self.lines
        return [record for record in self._records if record.get("event") == event and fields.items() <= record.items()]

    @property
    def account(self) -> str:
        """What a failed test shows of it."""
        return "\n".join([f"{self.path.name}:", *self.lines[-20:]])


class Process:
    """Runs from its construction on; whoever makes one calls `kill`."""

    def __init__(self, command: Sequence[str], log: Log, environment: Mapping[str, str] | None = None) -> None:
        """`log` is added to; `environment` is added to this one's."""
        with log.path.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_inherited() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which end it
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def freeze(self) -> None:
        """It keeps its connections and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""

        async def has_ended() -> bool:
            return not self.running

        await settled(has_ended)
        return self._process.wait()

    def kill(self) -> None:
        """As `kill -9` does, frozen or not; again is no error."""
        self._process.kill()
        self._process.wait()


def _inherited() -> dict[str, str]:
    """Without what a shell may have set for another bridge or sidecar."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("WSBRIDGE_", "DAPR_", "APP_"))}
