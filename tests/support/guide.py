"""The code of the guide and the pages that continue it, and a site that uses it."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Self

from aiohttp import web

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.deliveries import cloud_event
from tests.support.proxy import FaultyProxy
from tests.support.running import ROOT, Served, until_told

# isort: split

from playwright.async_api import BrowserContext, Page

DOCUMENTS = ("FRONTEND_INTEGRATION.md", "docs/frameworks.md", "docs/clients.md")
GUIDE = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
USER = "alice"  # the user in the guide's code


def code(heading: str, language: str, number: int = 1) -> str:
    """The first code block of this language under a heading, or a later one."""
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(found) >= number, (heading, language)
    return str(found[number - 1])


def module(text: str) -> str:
    return f'<script type="module">\n{text}\n</script>'


class Site(Served):
    """A site with the endpoints that the guide's code calls and the code itself as a page.

    Its bridge is behind a network that can fail.
    """

    def __init__(self, bridge: Bridge, context: BrowserContext) -> None:
        self.bridge = bridge
        self.context = context
        self.proxy = FaultyProxy(bridge.port)  # between the page and the bridge
        self.user: str | None = USER  # who is logged in
        self.tasks: list[dict[str, Any]] = []  # the state that `load` fetches
        self.loads = 0  # number of requests for it
        self.ready = asyncio.Event()  # the answers wait until this is set
        self.ready.set()
        self.errors: list[str] = []  # uncaught exceptions of its pages
        self._html = ""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/", self._page),
            web.get("/api/tasks", self._tasks),
            web.post("/token", self._token()),
        )

    async def __aenter__(self) -> Self:
        await self.proxy.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self.proxy.__aexit__()
        assert self.errors == [], self.errors

    async def open(self, body: str) -> Page:
        """Open a page with this body, in which `import` finds the client."""
        imports = {"imports": {"wsbridge-client": f"{self.proxy.url}/client.js"}}
        body = body.replace("http://localhost:8004", self.proxy.url)
        body = body.replace("url: '/ws'", f"url: '{self.proxy.url}/ws'")
        self._html = f'<!doctype html><script type="importmap">{json.dumps(imports)}</script>{body}'
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        response = await page.goto(f"http://127.0.0.1:{self.port}/")
        assert response
        assert response.ok
        return page

    async def connected(self) -> None:
        """Wait until the bridge has a session of the page."""

        async def told() -> object:
            return (await self.bridge.ask("/stats"))["users"].get(USER)

        await until_told(told)

    async def publish(self, *titles: str, event_type: str = "task.created") -> None:
        """Publish a task for each title."""
        for title in titles:
            task = {"event_type": event_type, "user_id": USER, "task_id": title, "title": title}
            async with self.bridge.http() as http:
                url = f"{self.bridge.url}/events/task-updates"
                async with http.post(url, json=cloud_event(task)) as response:
                    assert await response.json() == {"status": "SUCCESS"}

    async def publish_offline(self, *titles: str) -> None:
        """Publish while the page has no connection."""
        await self.proxy.refuse()
        self.proxy.cut()
        await self.publish(*titles)
        await self.proxy.listen()

    def _token(self) -> Callable[[web.Request], Any]:
        names: dict[str, Any] = {"who_is_logged_in": lambda _: self.user}
        exec(code("Tokens", "python"), names)
        return names["token"]  # type: ignore[no-any-return] # the guide's code has no types that mypy sees

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._html, content_type="text/html")

    async def _tasks(self, request: web.Request) -> web.Response:
        self.loads += 1
        if request.query.get("user") not in (None, self.user):
            raise web.HTTPForbidden
        tasks = list(self.tasks)
        await self.ready.wait()
        return web.json_response(tasks)
