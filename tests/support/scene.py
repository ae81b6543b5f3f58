"""A user's tabs, a bridge, and between them a network that can fail: for tests of the browser client."""

import contextlib
import uuid
from typing import Any, Self

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.proxy import FaultyProxy
from tests.support.running import until_told
from tests.support.site import Site
from tests.support.tab import Tab

# isort: split

from playwright.async_api import BrowserContext


class Scene:
    """`async with Scene(context, bridge)`. Each has its own user, so scenes can share a bridge.

    Tabs of one context share storage, locks and channels.
    """

    def __init__(self, context: BrowserContext, bridge: Bridge) -> None:
        self.bridge = bridge  # the bridge to which events are posted
        self.context = context
        self.user = f"alice-{uuid.uuid4().hex[:8]}"
        self.proxy = FaultyProxy(bridge.port)
        self.site = Site(self.user)
        self.tabs: list[Tab] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            await self._stack.enter_async_context(self.proxy)
            await self._stack.enter_async_context(self.site)
            self._stack.push_async_callback(self._close)
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._stack.aclose()
        errors = [error for tab in self.tabs for error in tab.errors]
        if errors and kind is None:
            raise AssertionError(errors)

    async def start(self, **settings: str) -> Bridge:
        """Start another bridge and use it from now on."""
        settings = {"ALLOWED_ORIGINS": self.site.origin} | settings
        self.bridge = await self._stack.enter_async_context(Bridge(**settings))
        self.proxy.target = self.bridge.port
        return self.bridge

    async def open(self, *, with_token: bool = False, **options: Any) -> Tab:
        """Open a tab whose page connects; `options` are createClient's."""
        tab = await Tab.of(await self.context.new_page())
        self.tabs.append(tab)
        self.site.listeners.append(tab.hear)
        options = {"url": f"{self.proxy.url}/ws", "userId": self.user} | options
        await tab.page.goto(self.site.page(self.proxy.url, with_token=with_token, **options))
        return tab

    async def opened(self, **options: Any) -> Tab:
        """Open a tab and wait until it is connected."""
        tab = await self.open(**options)
        await tab.is_in("open")
        return tab

    async def publish(self, *numbers: int) -> None:
        """Publish an update for each number to this scene's user."""
        await self.bridge.publish(self.user, *numbers)

    async def _close(self) -> None:
        for tab in self.tabs:
            await tab.page.close()

    async def hurry(self) -> None:
        """Make waiting tabs try to reconnect within a second, as when a machine comes online."""
        for tab in self.tabs:
            await tab.page.evaluate("dispatchEvent(new Event('online'))")

    async def has_sessions(self, count: int, user: str = "") -> None:
        """Wait until the bridge has this many sessions of the user. It notices the end of a stream a second late."""

        async def counted() -> bool:
            return bool((await self.bridge.ask("/stats"))["users"].get(user or self.user, 0) == count)

        await until_told(counted)
