"""A bridge that runs from an installed wheel."""

from pathlib import Path
from typing import Self

from tests.e2e.process import Log, Process, settled
from tests.release.packages import run
from tests.support.valkey import free_port


class Installed:
    """`async with Installed(folder)`: the virtual environment's own `wsbridge serve`, in development mode."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "bin" / "wsbridge"
        self.log = Log(folder / "log")
        self.port = free_port()
        environment = {"PYTHONPATH": "", "WSBRIDGE_PORT": str(self.port)}
        self._process = Process([str(self._program), "serve"], self.log, environment)

    async def __aenter__(self) -> Self:
        await settled(self._listens)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, *words: str) -> None:
        run(self._program, "publish", "--url", self.url, "--user", "alice", "task.created", *words)

    async def _listens(self) -> bool:
        assert self._process.running, self.log.account
        return bool(self.log.of("server.started"))
