"""Tabs that open, close and freeze at random on an unreliable network: each tab gets each update once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

import pytest

from tests.support.proxy import Upgrades
from tests.support.scene import Scene
from tests.support.tab import Tab

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


class Walk:
    """A random walk. It is determined by `seed`, except for its timing."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._random = Random(seed)
        self._published = 0
        self.account: list[str] = []

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
        self._published += 1
        await self._scene.publish(self._published)

    async def step(self) -> None:
        network = [self.cut, self.hang_up, self.away, self.block]
        tabs = [self.come, self.leave, self.log_out, self.freeze, self.go_and_return]
        step = self._random.choice(network + tabs)
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

    async def come(self) -> None:
        if len(self._scene.tabs) < 4:
            await self._scene.open()

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
        await tab.page.goto(f"{self._scene.site.origin}/elsewhere")
        await self._while(0.5)
        await tab.page.go_back(wait_until="commit")
        await tab.until(lambda: tab.of_kind("shown"))
        assert all(shown["persisted"] for shown in tab.of_kind("shown"))

    async def block(self) -> None:
        self._scene.proxy.upgrades = self._random.choice(list(Upgrades))

    async def settle(self) -> None:
        """Inject one last fault, which the bridge notices as well; then wait until all tabs have the last update."""
        self._scene.proxy.upgrades = Upgrades.PASSED
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


@pytest.mark.parametrize("seed", range(2))
async def test_tabs_in_a_random_walk_get_each_update_once(natural: Scene, seed: int) -> None:
    await natural.start(HISTORY_SIZE="100000")
    for _ in range(3):
        await natural.opened()
    walk = Walk(natural, seed)
    async with walk.publishing():
        for _ in range(15):
            await walk.step()
    await walk.settle()
    await natural.has_sessions(1)
