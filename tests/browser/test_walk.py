"""Tabs that open, close and freeze at random on an unreliable network: each tab gets each update once.

`make walk` walks for longer.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.support.proxy import Upgrades
from tests.support.running import SECRET, token
from tests.support.scene import Scene
from tests.support.tab import Tab
from tests.support.valkey import DURABLE, Valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


STEPS = 15  # in a round, after which everything must have arrived
MINUTES = float(os.environ.get("WALK_MINUTES", "0"))  # 0 is one round
SHORT = 7  # seconds that a token lives: it is refreshed after five


class Walk:
    """A random walk. It is determined by `seed`, except for its timing."""

    def __init__(self, scene: Scene, engine: str, seed: int) -> None:
        self._scene = scene
        self._random = Random(seed)
        self._published = 0
        self._bridge_runs = asyncio.Lock()  # held by a publisher, and while the bridge restarts
        self._steps = [self.cut, self.hang_up, self.away, self.block, self.kill]
        self._steps += [self.come, self.leave, self.log_out, self.go_and_return]
        if engine == "chromium":  # only its DevTools freeze a page
            self._steps.append(self.freeze)
        self.account: list[str] = []

    async def round(self) -> None:
        """Open three tabs, take some steps, check what arrived and close the tabs."""
        self.account.clear()
        for _ in range(3):
            await self._scene.opened(with_token=True)
        async with self.publishing():
            for _ in range(STEPS):
                await self.step()
        await self.settle()
        await self._scene.has_sessions(1)
        while self._scene.tabs:
            await self._scene.tabs.pop().page.close()

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish one event after the other inside the context."""
        ending = False

        async def on_and_on() -> None:
            while not ending:
                await self.publish()
                await asyncio.sleep(0.03)  # the rate of a backend

        task = asyncio.create_task(on_and_on())
        try:
            yield
        finally:
            ending = True
            await task

    async def publish(self) -> None:
        async with self._bridge_runs:
            self._published += 1
            await self._scene.publish(self._published)

    async def step(self) -> None:
        step = self._random.choice(self._steps)
        self.account.append(step.__name__)
        await step()
        await self._while(0.5)  # the next fault finds the tabs in any state

    async def _while(self, most: float) -> None:
        """Wait for a random time of up to this many seconds."""
        await asyncio.sleep(self._random.uniform(0, most))

    async def cut(self) -> None:
        self._scene.proxy.cut()

    async def hang_up(self) -> None:
        self._scene.proxy.hang_up()

    async def away(self) -> None:
        await self._scene.proxy.refuse()
        self._scene.proxy.cut()
        await self._while(1)
        await self._scene.proxy.listen()

    async def kill(self) -> None:
        async with self._bridge_runs:
            await self._scene.bridge.stop()
            await self._scene.bridge.start()

    async def come(self) -> None:
        if len(self._scene.tabs) < 4:
            await self._scene.open(with_token=True)

    async def leave(self) -> None:
        if len(self._scene.tabs) > 2:
            tab = self._random.choice(self._scene.tabs)
            await self.check(tab)
            self._scene.tabs.remove(tab)
            await tab.page.close()

    async def log_out(self) -> None:
        tab = self._random.choice(self._scene.tabs)
        await tab.client("close()")
        await self._while(0.2)
        await tab.client("connect()")

    async def freeze(self) -> None:
        tab, other = self._random.sample(self._scene.tabs, 2)
        await other.page.bring_to_front()
        await tab.freeze()
        await self._while(0.5)
        await tab.thaw()

    async def go_and_return(self) -> None:
        tab = self._random.choice(self._scene.tabs)
        shown, loaded = len(tab.of_kind("shown")), len(tab.of_kind("loaded"))
        await tab.page.goto(f"{self._scene.site.origin}/elsewhere")
        await self._while(0.5)
        await tab.page.go_back(wait_until="commit")
        await tab.until(lambda: len(tab.of_kind("shown")) > shown)
        await tab.until(lambda: tab.of_kind("shown")[-1]["persisted"] or len(tab.of_kind("loaded")) > loaded)

    async def block(self) -> None:
        self._scene.proxy.upgrades = self._random.choice(list(Upgrades))

    async def settle(self) -> None:
        """Inject one last fault, which the bridge notices as well; then wait until all tabs have the last update."""
        self._scene.proxy.upgrades = Upgrades.PASSED
        for tab in self._scene.tabs:  # a page that has just loaded gets only what follows its first connection
            await tab.is_in("open")
        self._scene.proxy.cut()
        await self._scene.hurry()
        await self.publish()
        for tab in self._scene.tabs:
            await self._has_the_last(tab)
            await self.check(tab)

    async def _has_the_last(self, tab: Tab) -> None:
        await tab.until(lambda: tab.numbers[-1:] == [self._published])

    async def check(self, tab: Tab) -> None:
        """Check that each tab has every update since its first one, once and in order.

        The page itself is read, because a report that it sends while it unloads is lost.
        """
        numbers = await tab.page.evaluate("seen")
        first = numbers[0] if numbers else 0
        if numbers != list(range(first, first + len(numbers))) or tab.frames("gap"):
            raise AssertionError("\n".join([*self.account, str(numbers), *map(str, tab.told)]))


@pytest.mark.parametrize("seed", [0])
async def test_tabs_in_a_random_walk_get_each_update_once(
    natural: Scene, engine: str, seed: int, tmp_path: Path
) -> None:
    async def short(_: str) -> str:
        return token(natural.user, ttl=SHORT)

    natural.site.grant = short
    end = time.monotonic() + MINUTES * 60
    async with Valkey(tmp_path, **DURABLE) as valkey:
        await natural.start(HISTORY_SIZE="100000", REDIS_URL=valkey.url, JWT_SECRET=SECRET, JWT_LEEWAY="1")
        walk = Walk(natural, engine, seed)
        await walk.round()
        while time.monotonic() < end:
            await walk.round()
        await natural.bridge.stop()
