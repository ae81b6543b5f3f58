"""Starts the parts of the chain, notices when one ends, and ends them all."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsbridge.cli.chain.process import Process

PATIENCE = 120.0  # seconds until a part must be ready
PAUSE = 0.1  # seconds between two checks
GRACE = 10.0  # seconds that all parts have to end by themselves


class Part(NamedTuple):
    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = {}


class Stopped(Exception):  # noqa: N818 - not an error
    """A signal has asked for the end."""


class PartFailed(Exception):  # noqa: N818 - what happened
    """A part ended or did not become ready. The text is one line; `lines` are the last ones of its log."""

    def __init__(self, text: str, lines: Sequence[str]) -> None:
        super().__init__(text)
        self.lines = lines


class Supervisor:
    """The running parts. The caller must call `end`."""

    def __init__(self, directory: Path, stopping: threading.Event) -> None:
        """Logs are written to the directory. `stopping` is set by a signal."""
        self._directory = directory
        self._stopping = stopping
        self._processes: dict[str, Process] = {}

    def start(self, *parts: Part) -> None:
        """Start the parts at the same time and wait until each is ready."""
        for part in parts:
            self._processes[part.name] = Process(part.command, self._directory / f"{part.name}.log", part.environment)
        for part in parts:
            self.until(part.is_ready, part.name)

    def finish(self, name: str, command: Sequence[str]) -> None:
        """Run a command to its end, which must be a success."""
        process = Process(command, self._directory / f"{name}.log")
        try:
            while process.running:
                self._check()
                self._pause()
        finally:
            process.kill()
        if process.wait() != 0:
            raise PartFailed(f"{name} {process.end}", process.last_lines())

    def until(self, condition: Callable[[], bool], name: str) -> None:
        """Wait for a condition that depends on the part of this name."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise PartFailed(f"{name} is not ready after {PATIENCE:g} s", self._processes[name].last_lines())
            self._pause()

    def hold(self) -> None:
        """Wait for a signal or for the end of a part, which raise `Stopped` and `PartFailed`."""
        while True:
            self._pause()
            self._check()

    def end(self) -> None:
        """End all parts."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + GRACE
        for process in self._processes.values():
            process.wait_until(deadline)
            process.kill()

    def _check(self) -> None:
        for name, process in self._processes.items():
            if not process.running:
                raise PartFailed(f"{name} {process.end}", process.last_lines())

    def _pause(self) -> None:
        if self._stopping.wait(PAUSE):
            raise Stopped
