"""A Redis cluster of real servers."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Self

from redis.crc import key_slot

from tests.support.valkey import SLOTS, Valkey, is_linked, settled


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


async def _name(node: Valkey) -> str:
    """The name of this node in the tables of other nodes."""
    return str((await node.ask("CLUSTER", "MYID")).decode())
