"""A user's tabs, a bridge, and between them a network that can go wrong: what tests of the browser client play in."""

import contextlib
import uuid
from typing import Any, Self

from tests.browser import Bridge  # before playwright: it skips where that is not installed
from tests.proxy import FaultyProxy
from tests.site import Site
from tests.tab import Tab
from tests.valkey import free_port

# isort: split

from playwright.async_api import Browser, BrowserContext


class Scene:
    """`async with Scene(browser, bridge)`; a user of its own, so that it may share the bridge with others."""

    def __init__(self, browser: Browser, bridge: Bridge) -> None:
        self.bridge = bridge  # which events are posted to
        self.user = f"alice-{uuid.uuid4().hex[:8]}"
        self.proxy = FaultyProxy(bridge.port)
        self.site = Site(free_port(), self.user)
        self.tabs: list[Tab] = []
        self._browser = browser
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            await self._stack.enter_async_context(self.proxy)
            await self._stack.enter_async_context(self.site)
            self.context = await self.profile()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._stack.aclose()
        if kind is None:
            assert [tab.errors for tab in self.tabs if tab.errors] == []

    async def profile(self) -> BrowserContext:
        """Shares no storage, locks or channels with the others, as another browser."""
        context = await self._browser.new_context()
        self._stack.push_async_callback(context.close)
        return context

    async def start(self, **settings: str) -> Bridge:
        """Another bridge, to be used from now on instead."""
        settings = {"ALLOWED_ORIGINS": self.site.origin} | settings
        self.bridge = await self._stack.enter_async_context(Bridge(**settings))
        self.proxy.target = self.bridge.port
        return self.bridge

    async def open(self, context: BrowserContext | None = None, *, with_token: bool = False, **options: Any) -> Tab:
        """A tab whose page connects; `options` are createClient's."""
        tab = await Tab.of(await (context or self.context).new_page())
        self.tabs.append(tab)
        options = {"url": f"{self.proxy.url}/ws", "userId": self.user} | options
        await tab.page.goto(self.site.page(self.proxy.url, with_token=with_token, **options))
        return tab

    async def opened(self, context: BrowserContext | None = None, *, with_token: bool = False, **options: Any) -> Tab:
        """The same, and connected."""
        tab = await self.open(context, with_token=with_token, **options)
        await tab.is_in("open")
        return tab

    async def publish(self, *numbers: int) -> None:
        """An update for each number, to this scene's user."""
        await self.bridge.publish(self.user, *numbers)

    async def sessions(self) -> int:
        """How many this scene's user has on the bridge."""
        return int((await self.bridge.ask("/stats"))["users"].get(self.user, 0))
