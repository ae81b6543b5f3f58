"""Makes the pictures of the console in docs/: two replicas with some traffic. `make screenshots` runs it."""

import asyncio
import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.support.browser import Bridge
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.running import ROOT
from tests.support.valkey import Valkey

# isort: split

from playwright.async_api import Browser, expect

FONTS = (
    ":root { --sans: Inter, system-ui; --mono: 'JetBrains Mono', monospace; }"  # as in the pictures of the demo page
)
SIZES = {"desktop": (1280, 1240, 1.0), "phone": (390, 844, 1.5)}  # in CSS pixels; the third is the scale
SECONDS = 40.0  # of traffic before the first picture, which fill a third of each chart
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "olivia")
AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.1 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/146.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
)


class Traffic:
    """Clients and publishers of two bridges."""

    def __init__(self, *bridges: Bridge) -> None:
        self._bridges = bridges
        self._random = random.Random(7)

    async def client(self, http: aiohttp.ClientSession, number: int) -> None:
        """Read until the bridge ends the connection, or for a while."""
        bridge, agent = self._bridges[number % 2], {"User-Agent": AGENTS[number % 3]}
        url = f"{bridge.url}/ws?user_id={USERS[number % len(USERS)]}"
        async with http.ws_connect(url, headers=agent) as ws, asyncio.timeout(None if number % 9 else 12 + number):
            async for _ in ws:
                pass

    async def publish(self, http: aiohttp.ClientSession) -> None:
        for number in itertools.count(1):
            await self.post(http, number, self._random.choice(USERS), f"order-{4_600 + number}")
            await asyncio.sleep(self._random.expovariate(25))

    async def post(self, http: aiohttp.ClientSession, number: int, user: str, event_id: str) -> None:
        data = {"title": "Order shipped"} | ({} if number % 97 == 0 else {"user_id": user})
        ago = self._random.gauss(9, 2)
        metadata = {"__partition": str(number % 3), "__offset": str(number), "__timestamp": str(_ms() - round(ago))}
        body = bulk_of(cloud_event(data, id=event_id), metadata=metadata)
        async with http.post(f"{self._bridges[number % 2].url}/events/task-updates", json=body) as response:
            assert response.status == 200


def _ms() -> int:
    return int(time.time() * 1_000)


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[str]:
    """Two replicas with traffic; the URL of the first."""
    with tempfile.TemporaryDirectory() as folder:
        async with Valkey(Path(folder)) as valkey:
            settings = {"REDIS_URL": valkey.url, "LOG_LEVEL": "error", "PING_INTERVAL": "5"}
            async with Bridge(**settings) as one, Bridge(**settings) as other, aiohttp.ClientSession() as http:
                traffic = Traffic(one, other)
                work = [asyncio.create_task(traffic.client(http, number)) for number in range(40)]
                work.append(asyncio.create_task(traffic.publish(http)))
                yield one.url
                for task in work:
                    task.cancel()
                await asyncio.wait(work)


async def take(browser: Browser, url: str, size: str, scheme: str) -> None:
    """Take one picture once the charts have filled."""
    width, height, scale = SIZES[size]
    page = await browser.new_page(
        bypass_csp=True,  # for the fonts
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    await page.goto(f"{url}/console")
    await page.add_style_tag(content=FONTS)
    await expect(page.locator("#replicas li")).to_have_count(2)
    await asyncio.sleep(SECONDS)
    await page.locator("#lines li", has_text="stored").first.get_by_role("button", name="Why?").click()
    await expect(page.locator(".verdict")).to_be_visible()
    await page.evaluate("scrollTo(0, 0)")
    await page.screenshot(path=ROOT / "docs" / f"console-{size}-{scheme}.png", animations="disabled")
    await page.close()
