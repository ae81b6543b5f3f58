"""A tab of the browser, and the reports of its page about the client."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.browser import DEADLINE  # before playwright: it skips the tests if that is not installed

# isort: split

from playwright.async_api import Page


@dataclass
class Tab:
    """`told` has all reports in order, as (kind, value). It outlives the page and its reloads."""

    page: Page
    told: list[tuple[str, Any]] = field(default_factory=list)
    watcher: Callable[[str, Any], None] = lambda _kind, _value: None  # called with each report
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def of(cls, page: Page) -> "Tab":
        tab = cls(page)
        await page.expose_function("tell", tab.hear)
        return tab

    def hear(self, kind: str, value: Any) -> None:
        self.told.append((kind, value))
        self.watcher(kind, value)
        self._news.set()

    def of_kind(self, kind: str) -> list[Any]:
        return [value for told, value in self.told if told == kind]

    def frames(self, kind: str) -> list[Any]:
        """Those of a type."""
        return [message for message in self.of_kind("message") if message["type"] == kind]

    @property
    def numbers(self) -> list[int]:
        """The `n` of each update, in the order of arrival."""
        return [update["event"]["n"] for update in self.frames("task_update")]

    @property
    def errors(self) -> list[str]:
        """Its uncaught exceptions."""
        return self.of_kind("error")

    @property
    def sockets(self) -> int:
        """The WebSockets that it opened or tried to open."""
        return len(self.of_kind("opening"))

    @property
    def reasons(self) -> list[str]:
        """The reasons with which it asked for tokens."""
        return self.of_kind("asked")

    @property
    def states(self) -> list[str]:
        """The statuses, without repetitions."""
        statuses = [state["status"] for state in self.of_kind("state")]
        return [one for one, before in zip(statuses, ["", *statuses], strict=False) if one != before]

    @property
    def state(self) -> Any:
        """The last one."""
        return (self.of_kind("state") or [{"status": "idle"}])[-1]

    async def until(self, condition: Callable[[], object], within: float = DEADLINE) -> None:
        """Wait until a condition on the reports is true."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            account = "\n".join(f"{kind} {value}" for kind, value in self.told)
            raise AssertionError(f"it did not happen; this did:\n{account}\n{self.errors}") from None

    async def is_in(self, status: str, **fields: Any) -> None:
        """Wait for that state; None means a missing field."""
        wanted = {"status": status} | fields
        await self.until(lambda: all(self.state.get(name) == value for name, value in wanted.items()))

    async def hears(self, kind: str, count: int = 1) -> None:
        """Wait until it has this many frames of a type."""
        await self.until(lambda: len(self.frames(kind)) >= count)

    async def has(self, *numbers: int) -> None:
        """Wait until it has as many updates; they must be exactly these, once and in order."""
        await self.until(lambda: len(self.numbers) >= len(numbers))
        assert self.numbers == list(numbers)

    async def freeze(self) -> None:
        """Freeze the page as a browser does with a background tab: it gets no timers, no messages and no closes."""
        before = len(self.of_kind("frozen"))
        await self._lifecycle("frozen")
        await self.until(lambda: len(self.of_kind("frozen")) > before)

    async def thaw(self) -> None:
        await self._lifecycle("active")

    async def _lifecycle(self, state: str) -> None:
        devtools = await self.page.context.new_cdp_session(self.page)
        await devtools.send("Page.setWebLifecycleState", {"state": state})

    async def client(self, call: str) -> Any:
        """Evaluate `client.` and this text in the page."""
        return await self.page.evaluate(f"client.{call}")
