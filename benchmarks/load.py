"""Compiles the load generator, load.c, and controls it: a process pinned to LOAD_CORE."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.pinned import LOAD_CORE, spawn

HERE = Path(__file__).parent


class Answer(NamedTuple):
    """What the generator counted during one command. Latencies are microseconds."""

    events: int
    deliveries: int
    due: int
    wrong: int
    missing: int
    lost: int
    refused: int
    open: int
    pings: int
    reads: int
    seconds: float
    load_cpu: float
    p50: float
    p99: float
    max: float
    trouble: str

    @property
    def load_share(self) -> float:
        """The share of its core that the load generator used."""
        return self.load_cpu / self.seconds if self.seconds else 0.0


class MiscountError(Exception):
    """An event was lost, repeated, reordered, misrouted or refused: the run is void."""


def compiled(name: str, directory: Path) -> Path:
    """Compile a C file beside this module and return the path of the program."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("make bench compiles its load generator: install a C compiler (Debian's package gcc)")
    program = directory / name
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, HERE / f"{name}.c"], check=True)
    return program


class Load:
    """One generator process for one server."""

    def __init__(self, program: Path, port: int, options: dict[str, str], *, posts: int = 0) -> None:
        self._process = spawn([str(program)], LOAD_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.set({"port": str(port), "posts": str(posts or port), "patience": "60"} | options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def set(self, options: dict[str, str]) -> None:
        for name, text in options.items():
            escaped = text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
            self.tell(f"set {name} {escaped}")

    def tell(self, command: str) -> Answer:
        """Send a command and return its answer. Raises MiscountError unless exactly the expected events arrived."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise MiscountError(f"the load generator ended during {command!r}")
        counted: dict[str, Any] = json.loads(line)
        answer = Answer(**counted)
        bad = answer.wrong + answer.missing + answer.lost + answer.refused
        may_miss = command == "drop" or not answer.open
        if answer.trouble or (bad and not may_miss) or answer.deliveries != answer.due:
            raise MiscountError(f"{command!r}: {answer}")
        return answer
