"""A bridge that is killed, drained, frozen and started again."""

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any, Self

import aiohttp

from tests.support.spawned import Spawned
from tests.support.valkey import free_port
from wsbridge.cli.verify.viewer import Broken

BUG = "the append fails"
# A background job cannot be ended from outside the process, and nothing outside of it causes an internal error. So each
# replica starts with a broadcaster that raises at its next event after a signal, and with appends one of which raises
# after another signal, when it has stored its events.
BREAKABLE = f"""
import signal
from wsbridge.broker.memory import MemoryBroker
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.sessions.bus import Bus

deliver_all, doomed, unlucky = Bus._deliver_all, [], []

def mortal(bus, *arguments):
    if doomed:
        raise RuntimeError("the broadcaster dies")
    return deliver_all(bus, *arguments)

def buggy(append):
    async def appended(*arguments):
        outcomes = await append(*arguments)
        if unlucky:
            unlucky.clear()
            raise RuntimeError("{BUG}")
        return outcomes
    return appended

Bus._deliver_all = mortal
for broker in (MemoryBroker, RedisBroker):
    broker.append = buggy(broker.append)
signal.signal(signal.SIGUSR1, lambda *_: doomed.append(True))
signal.signal(signal.SIGUSR2, lambda *_: unlucky.append(True))
"""


class Replica:
    """A bridge on one port, in one process after the other."""

    def __init__(self, http: aiohttp.ClientSession, name: str, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.lines: list[dict[str, Any]] = []  # of the logs of all its processes
        self._http = http
        self._name = name
        self._settings = settings | {"PORT": str(self.port)}
        self._process: Spawned | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self._process.end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await Spawned.start(self._http, broken=BREAKABLE, **self._settings)
        self._process.lines, lines = self.lines, self._process.lines
        self.lines += lines
        if not self._process.port:
            raise Broken(f"{self._name} did not start: {self._process.errors.decode()}")

    async def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self.check()
        await self._process.end()

    async def drain(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self._process is not None
        self.check()
        self._process.terminate()
        code = await self._process.code()
        if code:
            raise Broken(f"{self._name} was drained and exited with {code}: {self._process.errors.decode()}")

    async def lose_broadcaster(self) -> None:
        """End a background job, which ends the process; the log names the job."""
        assert self._process is not None
        self.check()
        before = len(self._process.of("job.failed"))
        self._process.process.send_signal(signal.SIGUSR1)
        code = await self._process.code()
        failed = [line["job"] for line in self._process.of("job.failed")[before:]]
        if code != 1 or failed != ["broadcast"]:
            raise Broken(f"{self._name} lost its broadcaster, exited with {code} and logged job.failed of {failed}")

    def fail_append(self) -> None:
        """Cause an internal error in one of the next appends."""
        assert self._process is not None
        self._process.process.send_signal(signal.SIGUSR2)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze the process inside the context; its connections stay open."""
        assert self._process is not None
        process = self._process.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Do not read its log inside the context: after a while the pipe is full."""
        assert self._process is not None
        process = self._process
        process.listening.clear()
        try:
            yield
        finally:
            process.listening.set()

    def check(self) -> None:
        """Check that the process runs and logged no internal error but those of `fail_append`."""
        assert self._process is not None
        if self._process.process.returncode is not None:
            raise Broken(f"{self._name} ended by itself: {self._process.errors.decode()}")
        wrong = [line for line in self.lines if line["event"] == "internal.error" and BUG not in line["exception"]]
        if wrong:
            raise Broken(f"{self._name} logged:\n{json.dumps(wrong[0], indent=1)}".replace("\\n", "\n"))
