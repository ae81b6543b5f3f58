"""Injects the faults, one after the other, in an order that the seed decides."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.chaos.alerts import Alerts
from tests.chaos.lasting import LastingFaults
from tests.chaos.scene import Scene
from wsbridge.cli.verify.viewer import Broken

ALONE = ("replica killed", "replica drained", "broadcaster of a replica dead")  # faults without a Redis
RIGHTS = ("fcall", "get", "pexpire", "rpush", "set", "spublish", "ssubscribe", "zadd")  # commands that Redis may forbid


class Faults:
    """Injects one fault after the other: all kinds in a random order, then all in another order."""

    def __init__(self, scene: Scene, alerts: Alerts) -> None:
        self._scene = scene
        self._plan = scene.plan
        self._dice = scene.dice
        self._alerts = alerts
        self._backups: list[bytes] = []
        self._lasting = LastingFaults(scene).by_name()
        short: dict[str, Callable[[], Awaitable[None]]] = {
            "replica killed": self.kill,
            "replica drained": self.drain,
            "broadcaster of a replica dead": self.end_broadcaster,
            "replica frozen": self.pause,
            "Redis frozen": self.freeze,
            "replica killed while Redis is frozen": self.freeze_and_kill,
            "replica drained while Redis is frozen": self.freeze_and_drain,
            "pub/sub connections killed": self.cut_off,
            "all connections to Redis killed": self.cut_off_all,
            "Redis killed and restarted": self.restart,
            "Redis restored from an older snapshot": self.restore,
            "Redis wiped": self.wipe,
            "Redis without a right": self.forbid,
            "Redis behind a slow link": self.throttle,
            "Redis' clock set back": self.set_back,
        }
        self._short = {name: kind for name, kind in short.items() if scene.redis_if_any or name in ALONE}

    @property
    def _is_over(self) -> bool:
        return self._scene.seconds > self._plan.seconds

    async def run(self) -> None:
        self._scene.started = time.monotonic()
        if self._scene.redis_if_any:
            self._backups.append(await self._scene.valkey.snapshot())
        kinds = [name for name in (*self._short, *self._lasting) if self._plan.only in name]
        if not kinds:
            raise Broken(f"no fault has {self._plan.only!r} in its name")
        required = set(self._lasting) if self._plan.every_alert else set[str]()
        while not self._is_over or required:
            self._dice.shuffle(kinds)
            for kind in kinds:
                if not self._is_over or kind in required:
                    await self._inject(kind)
            required = set()

    async def _inject(self, kind: str) -> None:
        await asyncio.sleep(self._dice.uniform(0.2, 1) * self._plan.rest)
        self._scene.sidecars.tally[f"fault: {kind}"] += 1
        if kind in self._short:
            self._scene.note(kind)
            await self._short[kind]()
        else:
            await self._alerts.quiet(kind)
            self._scene.note(kind)
            async with self._lasting[kind]() as step:
                if fired := await self._alerts.fire(kind, step):
                    self._scene.say(f"{self._scene.seconds:6.1f} s    … {', '.join(sorted(fired))}")
                await asyncio.sleep(self._dice.uniform(0, 1) * self._plan.rest)
        for replica in self._scene.replicas:
            replica.check()

    async def kill(self) -> None:
        """`kill -9`, then a new process on the same port."""
        replica = self._scene.any_replica()
        async with self._scene.ending():
            await replica.kill()
            await asyncio.sleep(self._dice.uniform(0, 1.5))
            await replica.start()

    async def drain(self) -> None:
        """SIGTERM; once it has ended, a new process."""
        replica = self._scene.any_replica()
        async with self._scene.ending():
            await replica.drain()
            await replica.start()

    async def end_broadcaster(self) -> None:
        """End a background job; the process exits, and is started again."""
        replica = self._scene.any_replica()
        async with self._scene.ending():
            await replica.lose_broadcaster()
            await replica.start()

    async def pause(self) -> None:
        """Freeze the process, as when its machine is suspended.

        Afterwards it handles requests whose senders have given up.
        """
        with self._scene.any_replica().paused():
            await asyncio.sleep(self._dice.uniform(1, 4))

    async def freeze(self) -> None:
        async with self._scene.frozen(self._dice.uniform(2, 4)):
            pass

    async def freeze_and_kill(self) -> None:
        """Kill a replica while Redis is frozen; its successor starts before Redis continues."""
        async with self._scene.frozen(self._dice.uniform(2, 4)):
            await asyncio.sleep(self._dice.uniform(0, 2))
            await self.kill()

    async def freeze_and_drain(self) -> None:
        async with self._scene.frozen(self._dice.uniform(2, 4)):
            await self.drain()

    async def cut_off(self) -> None:
        for _ in range(self._dice.randrange(1, 4)):
            await self._scene.valkey.kill_subscribers()
            await asyncio.sleep(self._dice.uniform(0, 1))

    async def cut_off_all(self) -> None:
        """Cut all connections to Redis: some commands were executed, but nobody got the reply."""
        for _ in range(self._dice.randrange(1, 4)):
            await self._scene.valkey.kill_subscribers()
            await self._scene.valkey.ask("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(self._dice.uniform(0, 1))

    async def restart(self) -> None:
        """Restart Redis with all data that it had acknowledged."""
        await self._scene.valkey.kill()
        await asyncio.sleep(self._dice.choice([0, 0.5, 4]))
        await self._scene.valkey.restart()

    async def restore(self) -> None:
        """Restore a snapshot: of some seconds ago, from before another loss, or from the start."""
        self._backups.append(await self._scene.valkey.snapshot())
        await asyncio.sleep(self._dice.uniform(1, 3))
        async with self._scene.losing():
            await self._scene.valkey.restore(self._dice.choice([self._backups[-1], self._dice.choice(self._backups)]))

    async def wipe(self) -> None:
        self._backups.append(await self._scene.valkey.snapshot())
        async with self._scene.losing():
            await self._scene.valkey.wipe()
            if self._dice.random() < 0.5:
                await self._scene.valkey.ask("FUNCTION", "FLUSH")

    async def forbid(self) -> None:
        right = self._dice.choice(RIGHTS)
        self._scene.note(f"  … {right}")
        await self._scene.valkey.ask("ACL", "SETUSER", "default", f"-{right}")
        await asyncio.sleep(self._dice.uniform(0.5, 4))
        await self._scene.valkey.ask("ACL", "SETUSER", "default", f"+{right}")

    async def throttle(self) -> None:
        link = self._scene.redis.link
        link.rate, link.delay = self._dice.choice([5e4, 2e5]), self._dice.choice([0, 0.05])
        await asyncio.sleep(self._dice.uniform(2, 4))
        link.rate = link.delay = 0

    async def set_back(self) -> None:
        """Set the clock back. It is never set ahead: keys would expire, and the oracle would not expect that gap."""
        clock = self._scene.redis.clock
        clock.set(clock.ahead - self._dice.choice([15, 60, 600, 10_800]))
