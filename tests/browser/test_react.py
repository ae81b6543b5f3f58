"""The client's adapters for React and TanStack Query, in a page built by Vite, in StrictMode, in a real browser."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support import react_page
from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.running import Served

# isort: split

from playwright.async_api import Browser, ConsoleMessage, Page, WebSocket, expect

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.engines("chromium", reason="only its DevTools report WebSockets"),
]

REACTS = ("19", "18")
BURST = 1_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return react_page.project(tmp_path_factory.mktemp("react") / "page")


class Site(Served):
    """The built page, and the number of tasks that it fetches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.fetches = 0

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return web.get("/count", self._count), web.static("/", self.folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/index.html"

    async def _count(self, _: web.Request) -> web.Response:
        self.fetches += 1
        return web.json_response(self.count)


class Scene:
    """The page of a new user."""

    def __init__(self, page: Page, bridge: Bridge, site: Site) -> None:
        self.page = page
        self.bridge = bridge
        self.site = site
        self.user = uuid.uuid4().hex
        self.sockets: list[WebSocket] = []
        self.complaints: list[str] = []  # warnings of React and the browser

    async def open(self) -> None:
        self.page.on("websocket", lambda socket: self.sockets.append(socket))  # noqa: PLW0108 - Playwright marks it
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        await self.go()

    async def go(self, **more: str) -> None:
        """Load the page with these parameters."""
        query = {"url": f"{self.bridge.url}/ws", "userId": self.user} | more
        await self.page.goto(f"{self.site.url}?{urlencode(query)}")
        await self.shows("status", "open")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    async def shows(self, what: str, text: str) -> None:
        await expect(self.page.locator(f"#{what}")).to_have_text(text)

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def publish(self, *numbers: int) -> None:
        """Publish as one bulk."""
        self.site.count += len(numbers)
        body = bulk_of(*[cloud_event({"user_id": self.user, "n": n}) for n in numbers])
        url = f"{self.bridge.url}/events/task-updates"
        async with self.bridge.http() as http, http.post(url, json=body) as response:
            assert {each["status"] for each in (await response.json())["statuses"]} == {"SUCCESS"}

    async def saw(self, *pairs: tuple[int, int]) -> None:
        """Wait for these calls of the handler: the event's `n`, and the number of the render."""
        await self.page.wait_for_function("count => window.seen.length >= count", arg=len(pairs))
        assert [tuple(pair) for pair in await self.page.evaluate("window.seen")] == list(pairs)

    async def closed(self) -> None:
        """Wait until the client is closed and its first socket has ended."""
        await self.page.wait_for_function("window.client.state.status === 'closed'")
        if not self.sockets[0].is_closed():
            await self.sockets[0].wait_for_event("close")

    async def sessions(self) -> Any:
        """The number of the user's sessions on the bridge."""
        return (await self.bridge.ask("/stats"))["users"].get(self.user, 0)


@pytest.fixture(scope="module", params=REACTS)
def built(project: Path, request: pytest.FixtureRequest) -> Path:
    """The page, built with each supported version of React."""
    return react_page.built(project, request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(built: Path) -> AsyncIterator[Site]:
    async with Site(built) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def scene(site: Site, service: Bridge, browser: Browser) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(await browser.new_page(), service, site)
        stack.push_async_callback(scene.page.close)
        await scene.open()
        yield scene
        assert scene.complaints == []


async def test_react_page_has_the_version_and_strict_mode(scene: Scene) -> None:
    """The right version of React, and effects run twice: StrictMode in a development build."""
    await expect(scene.page.get_by_text(f"React {scene.site.folder.name[-2:]}.")).to_be_visible()
    assert await scene.page.evaluate("window.effects") == 2


async def test_react_strict_mode_connects_once_and_shows_the_state(scene: Scene) -> None:
    await scene.shows("transport", "websocket")
    assert (len(scene.sockets), await scene.sessions()) == (1, 1)
    assert "closed" not in await scene.page.evaluate("window.statuses")


async def test_react_use_event_gets_each_of_a_thousand_messages_in_a_bulk(scene: Scene) -> None:
    await scene.publish(*range(BURST))
    await scene.saw(*[(n, 1) for n in range(BURST)])


async def test_react_list_that_a_thousand_messages_change_renders_few_times(scene: Scene) -> None:
    """React renders once for all messages that arrive together, so a frame has little script (benchmarks/react.py)."""
    await scene.go(rows="10")
    before = await scene.page.evaluate("renders")
    await scene.publish(*range(BURST))
    await expect(scene.page.get_by_text(f"task 9: {BURST - 1}")).to_be_visible()
    assert await scene.page.evaluate("renders") - before < BURST / 10
    assert await scene.page.evaluate("seen.length") == BURST


async def test_react_query_cache_is_updated_with_few_fetches(scene: Scene) -> None:
    await scene.shows("latest", "none yet")
    before = scene.site.fetches
    await scene.publish(*range(BURST))
    await scene.shows("latest", str(BURST - 1))
    await scene.shows("count", str(scene.site.count))
    assert 1 <= scene.site.fetches - before < BURST / 50


async def test_react_use_event_calls_the_handler_of_the_latest_render(scene: Scene) -> None:
    await scene.publish(1)
    await scene.saw((1, 1))
    await scene.press("Render")
    await scene.shows("render", "2")
    await scene.publish(2)
    await scene.saw((1, 1), (2, 2))
    assert len(scene.sockets) == 1


async def test_react_provider_unmounted_closes_and_mounted_again_resumes(scene: Scene) -> None:
    await scene.publish(1)
    await scene.saw((1, 1))
    await scene.press("Unmount")
    await scene.closed()
    await scene.publish(2, 3)
    assert await scene.page.evaluate("window.seen.length") == 1
    await scene.press("Mount")
    await scene.saw((1, 1), (2, 1), (3, 1))
    assert (len(scene.sockets), await scene.sessions()) == (2, 1)


async def test_react_last_of_two_providers_closes_the_client(scene: Scene) -> None:
    await scene.press("Mount a second")
    await scene.press("Unmount")
    await expect(scene.page.get_by_role("button", name="Mount", exact=True)).to_be_visible()
    await scene.publish(1)
    await scene.page.wait_for_function("window.client.position.endsWith(':1')")
    await scene.press("Unmount the second")
    await scene.closed()
    assert len(scene.sockets) == 1


async def test_react_provider_with_another_client_replaces_the_first(scene: Scene) -> None:
    await scene.press("Switch user")
    await scene.closed()
    await scene.shows("status", "open")
    scene.user += "-other"
    await scene.publish(1)
    await scene.saw((1, 1))
    assert (len(scene.sockets), await scene.sessions()) == (2, 1)
