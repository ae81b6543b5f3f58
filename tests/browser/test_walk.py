"""Tabs that open, close and freeze at random on an unreliable network: each tab gets each update of its user once.

`make walk` walks for longer, and expects that a tab is never without updates for more than five seconds.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from tests.support.browser import DEADLINE
from tests.support.proxy import Upgrades
from tests.support.running import SECRET, token
from tests.support.scene import Scene
from tests.support.tab import Tab
from tests.support.valkey import DURABLE, Valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


STEPS = 15  # in a round, after which everything must have arrived
MINUTES = float(os.environ.get("WALK_MINUTES", "0"))  # 0 is one round
SEED = int(os.environ.get("WALK_SEED", "0"))
SHORT = 7  # seconds that a token lives: it is refreshed after five
LIT = 5 if MINUTES else DEADLINE  # seconds within which a tab gets an update; only `make walk` measures times
PATIENT = 4  # failed tries in a row after which a client waits for long, so as not to overload a bridge


class Walk:
    """A random walk. It is determined by its seed, except for its timing."""

    def __init__(self, scene: Scene, engine: str, seed: int) -> None:
        self._scene = scene
        self._random = Random(seed)
        self._users = (scene.user, f"{scene.user}-b")
        self._published = 0  # to each of them
        self._bridge_runs = asyncio.Lock()  # held by a publisher, and while the bridge restarts
        self._granting = asyncio.Event()  # whether there are tokens
        self._granting.set()
        self._stalled_until = 0.0
        self._steps = [self.cut, self.hang_up, self.away, self.block, self.kill, self.restart, self.expire]
        self._steps += [self.come, self.leave, self.log_out, self.log_out_everywhere, self.switch_user]
        self._steps += [self.go_and_return, self.stall, self.calm, self.calm]
        scene.site.grant = self._grant
        if engine == "chromium":  # only its DevTools freeze a page
            self._steps.append(self.freeze)
        self.account: list[str] = []

    async def round(self) -> None:
        """Open three tabs, take some steps, check what arrived and close the tabs."""
        self.account.clear()
        try:
            for _ in range(3):
                await self._scene.opened(with_token=True)
            async with self.publishing():
                for _ in range(STEPS):
                    await self.step()
            await self.settle()
        except AssertionError as error:
            error.add_note(" ".join(self.account))
            raise
        users = [await tab.page.evaluate("user") for tab in self._scene.tabs]
        for user in self._users:
            await self._scene.has_sessions(int(user in users), user)
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
            for user in self._users:
                await self._scene.bridge.publish(user, self._published)

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

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        async with self._bridge_runs:
            await self._scene.bridge.stop(how)
            await self._scene.bridge.start()

    async def restart(self) -> None:
        await self.kill(signal.SIGTERM)

    async def _grant(self, _: str, user: str) -> str:
        if not self._granting.is_set():
            raise web.HTTPServiceUnavailable
        return token(user, ttl=SHORT)

    async def expire(self) -> None:
        """Grant no tokens for a while, in which those of the tabs may expire."""
        self._granting.clear()
        asyncio.get_running_loop().call_later(self._random.uniform(0, SHORT + 2), self._granting.set)

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

    async def log_out_everywhere(self) -> None:
        tab = self._random.choice(self._scene.tabs)
        user = await tab.page.evaluate("user")
        tabs = [tab for tab in self._scene.tabs if await tab.page.evaluate("user") == user]
        await tab.client("close({ everywhere: true })")
        for one in tabs:
            await one.is_in("closed")
        await self._while(0.2)
        for one in tabs:
            await one.client("connect()")

    async def switch_user(self) -> None:
        tab = self._random.choice(self._scene.tabs)
        await self.check(tab)
        one, other = self._users
        user = other if await tab.page.evaluate("user") == one else one
        await tab.page.evaluate("user => { client.close(); logIn(user); }", user)

    def _leader(self) -> Tab:
        """A tab that has a connection, or any if none has."""
        tabs = [tab for tab in self._scene.tabs if tab.state.get("transport") in ("websocket", "sse")]
        return self._random.choice(tabs or self._scene.tabs)

    async def stall(self) -> None:
        """Let a script of the leader run for seconds, in which the page does nothing else."""
        tab, seconds = self._leader(), self._random.uniform(0, 6)
        self._stalled_until = max(self._stalled_until, time.monotonic() + seconds)
        script = "ms => void setTimeout(() => { const end = Date.now() + ms; while (Date.now() < end); })"
        await tab.page.evaluate(script, seconds * 1000)

    async def calm(self) -> None:
        """Wait until each tab has what is published now, whatever the network does to WebSockets."""
        await self._granting.wait()
        await asyncio.sleep(self._stalled_until - time.monotonic())  # tabs may share a process
        for tab in self._scene.tabs:
            if tab.state.get("attempt", 0) >= PATIENT:
                await tab.client("connect()")
        await asyncio.gather(*(self._has(tab, self._published, LIT) for tab in self._scene.tabs))

    async def freeze(self) -> None:
        tab = self._leader()
        other = self._random.choice([one for one in self._scene.tabs if one is not tab])
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
        await self._granting.wait()
        for tab in self._scene.tabs:  # a page that has just loaded gets only what follows its first connection
            await tab.is_in("open")
        self._scene.proxy.cut()
        await self._scene.hurry()
        await self.publish()
        for tab in self._scene.tabs:
            await self._has(tab, self._published, DEADLINE)
            await self.check(tab)

    async def _has(self, tab: Tab, number: int, within: float) -> None:
        """Wait at most `within` seconds until the tab has the update with this number."""
        await tab.until(lambda: tab.numbers[-1:] >= [number], within)

    async def check(self, tab: Tab) -> None:
        """Check that the tab has every update since its first one, once and in order.

        The page itself is read, because a report that it sends while it unloads is lost.
        """
        numbers = await tab.page.evaluate("seen")
        first = numbers[0] if numbers else 0
        if numbers != list(range(first, first + len(numbers))) or tab.frames("gap") or tab.errors:
            raise AssertionError("\n".join([str(numbers), *map(str, tab.told)]))


async def test_tabs_in_a_random_walk_get_each_update_once(natural: Scene, engine: str, tmp_path: Path) -> None:
    end = time.monotonic() + MINUTES * 60
    async with Valkey(tmp_path, **DURABLE) as valkey:
        await natural.start(HISTORY_SIZE="100000", REDIS_URL=valkey.url, JWT_SECRET=SECRET, JWT_LEEWAY="1")
        walk = Walk(natural, engine, SEED)
        await walk.round()
        while time.monotonic() < end:
            await walk.round()
        await natural.bridge.stop()
