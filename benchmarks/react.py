"""`python -m benchmarks.react [ENGINE ...]`: script per frame of a React page that gets 1,000 updates a second.

The page in tests/react_page shows a list of 100 tasks. Each update sets the state of the list.
"""

import asyncio
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tests.support import react_page
from tests.support.browser import Bridge, launched
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.engines import ENGINES
from tests.support.running import Served

SECONDS = 10
BULK, PAUSE = 10, 0.01  # events in a delivery; seconds between two of them
COUNT = round(SECONDS / PAUSE) * BULK
# Sums the time of all callbacks between two frames. It runs before the scripts of the page.
METER = """<script>
let spent = 0;
const frame = window.requestAnimationFrame.bind(window);
const timed = (callback) => typeof callback !== 'function' ? callback : function (...values) {
  const start = performance.now();
  try { return callback.apply(this, values); } finally { spent += performance.now() - start; }
};
for (const name of ['setTimeout', 'requestAnimationFrame', 'queueMicrotask']) {
  const original = window[name];
  window[name] = (callback, ...values) => original.call(window, timed(callback), ...values);
}
for (const { prototype } of [WebSocket, MessagePort, BroadcastChannel]) {
  const { get, set } = Object.getOwnPropertyDescriptor(prototype, 'onmessage');
  Object.defineProperty(prototype, 'onmessage', { get, set(callback) { set.call(this, timed(callback)); } });
}
window.meter = () => {
  window.spentPerFrame = [];
  const next = () => { spentPerFrame.push(spent); spent = 0; frame(next); };
  spent = 0;
  frame(next);
};
</script>"""
SHOWN = "n => new Promise((done) => (function look() { seen.length < n ? frame(look) : done(); })())"


class Site(Served):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return web.get("/", self._page), web.static("/", self.folder)

    async def _page(self, _: web.Request) -> web.Response:
        text = (self.folder / "index.html").read_text(encoding="utf-8").replace("<meta", f"{METER}<meta", 1)
        isolated = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
        return web.Response(text=text, content_type="text/html", headers=isolated)  # so its clock is precise


async def feed(bridge: Bridge, user: str) -> float:
    """Publish for `SECONDS`; return the rate that was reached."""
    loop = asyncio.get_running_loop()
    start, count = loop.time(), 0
    async with bridge.http() as http:
        while (due := start + count / BULK * PAUSE) < start + SECONDS:
            await asyncio.sleep(due - loop.time())
            body = bulk_of(*[cloud_event({"user_id": user, "n": count + n}) for n in range(BULK)])
            async with http.post(f"{bridge.url}/events/task-updates", json=body) as response:
                assert response.status == 200
            count += BULK
    return count / (loop.time() - start)


async def measure(page: Any, bridge: Bridge, site: Site) -> str:
    user = uuid.uuid4().hex
    await page.goto(
        f"http://127.0.0.1:{site.port}/?{urlencode({'url': f'{bridge.url}/ws', 'userId': user, 'rows': 100})}"
    )
    await page.evaluate("client.ready().then(() => undefined)")
    await feed(bridge, user)  # until the engine has compiled everything
    await page.evaluate(SHOWN, COUNT)
    renders = await page.evaluate("() => { meter(); return renders; }")
    rate = await feed(bridge, user)
    await page.evaluate(SHOWN, 2 * COUNT)
    frames, rendered = await page.evaluate("[spentPerFrame, renders]")
    frames.sort()
    low, high = (frames[int(len(frames) * share)] for share in (0.5, 0.99))
    return (
        f"{rate:.0f} updates/s, {(rendered - renders) / SECONDS:.0f} renders/s, {len(frames) / SECONDS:.0f} frames/s, "
        f"script per frame: median {low:.1f}, 99 % {high:.1f}, most {frames[-1]:.1f} ms"
    )


async def main(engines: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = react_page.built(react_page.project(Path(folder) / "page"), "19", "production")
        async with Site(built) as site, Bridge(ALLOWED_ORIGINS=f"http://127.0.0.1:{site.port}") as bridge:
            for engine in engines:
                async with launched(engine=engine) as browser, await browser.new_context() as context:
                    print(f"{engine}: {await measure(await context.new_page(), bridge, site)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ENGINES))
