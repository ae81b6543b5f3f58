"""The client where there is no page of its own: in workers, in a sandboxed frame and in a frame of another site."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.running import Served, until_told
from tests.support.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

FOLLOW = """
const { bridge, user } = Object.fromEntries(new URLSearchParams(location.search));
async function follow(hear) {
  const { createClient } = await import(`${bridge}/client.js`);
  const client = createClient({ url: `${bridge}/ws`, userId: user });
  client.on('task_update', ({ event }) => hear(event.n));
  client.connect();
}
"""
WORKER = """
const ports = [];
self.onconnect = (event) => ports.push(event.ports[0]);
follow((n) => self.postMessage ? postMessage(n) : ports.forEach((port) => port.postMessage(n)));
"""
FRAME = f"<!doctype html><script type='module'>{FOLLOW} follow((n) => parent.postMessage(n, '*'));</script>"
PAGE = """<!doctype html><title>A page around it</title><script>
window.heard = [];
const hear = ({ data }) => heard.push(data);
function frame(origin, sandbox) {
  addEventListener('message', hear);
  const element = document.createElement('iframe');
  if (sandbox) element.sandbox = sandbox;
  element.src = `${origin}/frame${location.search}`;
  addEventListener('DOMContentLoaded', () => document.body.append(element));
}
const start = {
  worker: () => (new Worker(`/worker.js${location.search}`, { type: 'module' }).onmessage = hear),
  sharedWorker: () => (new SharedWorker(`/worker.js${location.search}`, { type: 'module' }).port.onmessage = hear),
  sandboxedFrame: () => frame('', 'allow-scripts'),
  crossSiteFrame: () => frame(location.origin.replace('127.0.0.1', 'localhost')),
};
start[location.pathname.slice(1)]();
</script><body>"""


class Around(Served):
    """A site with a page for each context."""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/worker.js", self._script),
            web.get("/frame", self._frame),
            web.get("/{context}", self._page),
        )

    def page(self, context: str, scene: Scene) -> str:
        query = urlencode({"bridge": scene.proxy.url, "user": scene.user})
        return f"http://127.0.0.1:{self.port}/{context}?{query}"

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(text=FOLLOW + WORKER, content_type="text/javascript")

    async def _frame(self, _: web.Request) -> web.Response:
        return web.Response(text=FRAME, content_type="text/html")

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")


@pytest_asyncio.fixture(loop_scope="module")
async def around() -> AsyncIterator[Around]:
    async with Around() as around:
        yield around


async def heard(page: Any, *numbers: int) -> None:
    """Wait until the page has heard exactly these."""

    async def all_of_them() -> bool:
        return bool(len(await page.evaluate("heard")) >= len(numbers))

    await until_told(all_of_them)
    assert await page.evaluate("heard") == list(numbers)


@pytest.mark.parametrize("context", ["worker", "sharedWorker", "sandboxedFrame", "crossSiteFrame"])
async def test_client_in_another_context_resumes(scene: Scene, around: Around, context: str) -> None:
    page = await scene.context.new_page()
    await page.goto(around.page(context, scene))
    await scene.has_sessions(1)
    await scene.publish(1)
    await heard(page, 1)
    scene.proxy.cut()
    await scene.publish(2)
    await heard(page, 1, 2)
    await page.close()


async def test_client_in_a_shared_worker_serves_two_pages(scene: Scene, around: Around) -> None:
    pages = [await scene.context.new_page() for _ in range(2)]
    for page in pages:
        await page.goto(around.page("sharedWorker", scene))
    await scene.has_sessions(1)
    await scene.publish(1)
    for page in pages:
        await heard(page, 1)
    await scene.has_sessions(1)
    for page in pages:
        await page.close()
