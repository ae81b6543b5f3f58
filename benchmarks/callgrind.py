"""Runs a server under valgrind and counts the instructions that it executes."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support.running import ROOT
from tests.support.valkey import free_port

PATIENCE = 120.0  # seconds until the server listens: valgrind makes it about fifty times slower


class Counted:
    """`with Counted(command, environment, directory) as server`: counting begins with `start`."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self.port = free_port()
        self._files = directory / "callgrind.out"
        self._log = directory / "log"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("WSBRIDGE_")}
        options = ["--tool=callgrind", "--quiet", "--instr-atstart=no", f"--callgrind-out-file={self._files}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["valgrind", *options, *(word.format(port=self.port) for word in command)],
                cwd=ROOT,
                env=clean | environment | {"WSBRIDGE_PORT": str(self.port), "PYTHONHASHSEED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)  # between two looks: a start under valgrind takes seconds
        self.__exit__()
        raise SystemExit(f"the server does not listen under valgrind:\n{self._log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Count from now on."""
        self._tell("instrumentation", "on")
        self._tell("zero")

    def instructions(self, name: str) -> int:
        """Return the instructions since `start`. Writes NAME.callgrind, which callgrind_annotate shows by function."""
        self._tell("dump", name)
        self._tell("instrumentation", "off")
        newest = max(self._files.parent.glob("callgrind.out.*"), key=lambda path: path.stat().st_mtime_ns)
        target = newest.rename(self._files.with_name(f"{name}.callgrind"))
        found = re.search(r"^(?:summary|totals): (\d+)", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert found, target
        return int(found[1])

    def _tell(self, *command: str) -> None:
        subprocess.run(["vgdb", f"--pid={self._process.pid}", *command], check=True, capture_output=True)
