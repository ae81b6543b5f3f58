"""A bridge in its own process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.support.clocks import WallClock
from tests.support.running import DEADLINE, ROOT, Reachable, until, variables


class Spawned(Reachable):
    """A bridge in its own process, started as by an operator."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        super().__init__(0, http)
        self.process = process
        self.lines: list[dict[str, Any]] = []  # of its log
        self.errors = b""
        self.listening = asyncio.Event()  # while it is cleared, the log is not read, so its pipe fills up
        self.listening.set()
        self._readers = [asyncio.create_task(self._read_log()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def start(
        cls,
        http: aiohttp.ClientSession,
        clock: WallClock | None = None,
        /,
        *,
        descriptors: str = "",
        broken: str = "",
        **settings: str,
    ) -> "Spawned":
        """Run a bridge until the end of the test or its own end; then `code` and `errors` have the reason.

        `descriptors` limits how many it may open; `broken` is Python that breaks a part of it before it serves.
        """
        program = (
            ("-c", f"{broken}\nfrom wsbridge.cli.main import main\nmain(['serve'])")
            if broken
            else ("-m", "wsbridge", "serve")
        )
        limited = ("sh", "-c", 'ulimit -n "$0"; exec "$@"', descriptors) if descriptors else ()
        rest = {name: value for name, value in os.environ.items() if not name.startswith("WSBRIDGE_")}
        environ = rest | {"WSBRIDGE_PORT": "0"} | variables(settings) | (clock.environment if clock else {})
        process = await asyncio.create_subprocess_exec(
            *limited, sys.executable, *program, cwd=ROOT, env=environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        spawned = cls(process, http)
        spawned.app_token, spawned.admin_token = environ.get("APP_API_TOKEN"), environ.get("WSBRIDGE_ADMIN_TOKEN")
        try:
            await until(lambda: spawned.of("server.started") or process.returncode is not None)
        except BaseException:  # no fixture has it yet
            await spawned.end()
            raise
        spawned.port = next((line["ports"][0] for line in spawned.of("server.started")), 0)
        return spawned

    @property
    def pid(self) -> int:
        return self.process.pid

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event, so far."""
        return [line for line in self.lines if line["event"] == event]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def code(self) -> int:
        """Wait for the end; return the exit code."""
        async with asyncio.timeout(2 * DEADLINE):
            await asyncio.gather(*self._readers)
            return await self.process.wait()

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.code()

    async def _read_log(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.endswith(b"\n"):  # the last line of a process that was killed may be half of one
                self.lines.append(json.loads(line))
            await self.listening.wait()

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = await self.process.stderr.read()


Spawn = Callable[..., Awaitable[Spawned]]
