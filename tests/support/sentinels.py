"""A primary of Redis and its replica behind a sentinel, all real servers."""

import contextlib
from pathlib import Path
from typing import Self

from tests.support.valkey import Valkey, is_linked, settled


class Sentinels:
    """A primary, its replica, and one sentinel, which may promote it alone: `async with Sentinels(tmp_path)`."""

    def __init__(self, directory: Path, **config: str) -> None:
        self._directory = directory
        self._config = config
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            start = self._stack.enter_async_context
            self.primary = await start(Valkey(self._directory, **self._config))
            self.replica = await start(
                Valkey(self._directory, **self._config, replicaof=f"127.0.0.1 {self.primary.port}")
            )
            await settled(lambda: is_linked(self.replica))
            self.sentinel = await start(_Sentinel(self._directory, self.primary))
            await settled(self._knows_the_replica)
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel.address}/mymaster"

    async def fail_over(self) -> None:
        """Kill the primary; return once the replica has taken over. `replica.restart()` restarts the old one."""
        await self.primary.kill()
        await settled(self._is_promoted)
        self.primary, self.replica = self.replica, self.primary

    async def _knows_the_replica(self) -> bool:
        return bool(await self.sentinel.ask("SENTINEL", "REPLICAS", "mymaster"))

    async def _is_promoted(self) -> bool:
        _, port = await self.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return int(port) == self.replica.port and await _leads(self.replica)


class _Sentinel(Valkey):
    """A sentinel. It writes its findings to its own configuration file."""

    def __init__(self, directory: Path, primary: Valkey) -> None:
        super().__init__(directory)
        (self.directory / "sentinel.conf").write_text(
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n"
        )

    def _arguments(self) -> list[str]:
        return ["sentinel.conf", "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]


async def _leads(node: Valkey) -> bool:
    return bool((await node.info())["role"] == "master")
