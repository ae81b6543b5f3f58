"""A program beside this one. Its output goes to a file, and it does not outlive this process."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_FOREIGN = ("WSBRIDGE_", "DAPR_", "APP_")  # of another bridge or sidecar
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Let the kernel kill the program when its parent ends, even after a kill -9 of the parent."""
    if hasattr(_libc, "prctl"):  # on Linux
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A process, which runs from its construction on. The caller must call `kill`."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        """`output` is appended to; `environment` is added to this process's own; `directory` is where it runs."""
        self._output = output
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        with output.open("ab") as stdout:
            self._process = subprocess.Popen(  # noqa: S603 - the commands are this package's own
                command,
                cwd=directory,
                env=inherited | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach this process only, which ends the others
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def end(self) -> str:
        """How it ended."""
        code = self.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def wait(self) -> int:
        """Wait for its end; return the exit code, or the negative number of the signal that killed it."""
        return self._process.wait()

    def wait_until(self, deadline: float) -> None:
        """Wait for its end, until this time of `time.monotonic()` at the latest."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill as `kill -9` does, even if frozen. May be called again."""
        self._process.kill()
        self.wait()

    def last_lines(self, count: int = 20) -> list[str]:
        """The end of its output."""
        return self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
