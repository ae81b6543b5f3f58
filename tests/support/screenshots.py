"""Makes the pictures of the demo page and of the console in docs/: `make screenshots`.

Drawn in Inter and JetBrains Mono if those are installed (Debian: fonts-inter, fonts-jetbrains-mono).
"""

import asyncio
import io
import time
from itertools import pairwise, product

from PIL import Image

from tests.support import console_pictures
from tests.support.browser import Bridge, launched
from tests.support.running import ROOT

# isort: split

from playwright.async_api import Browser, Page, expect

FONTS = ":root { --sans: Inter, system-ui; --mono: 'JetBrains Mono', monospace; }"
SIZES = {"desktop": (1280, 800, 1), "phone": (390, 844, 1.5)}  # in CSS pixels; the third is the scale
SCHEMES = ("light", "dark")
BUTTONS = ("Publish for alice", "Unplug alice", "Publish the first", "Publish the second", "Plug alice in")
READING = 1.4  # seconds between two buttons in the animated picture
SHRUNK = (960, 600)  # pixels of it


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def opened(browser: Browser, url: str, size: str, scheme: str, *, still: bool) -> Page:
    """A page with all connections open."""
    width, height, scale = SIZES[size]
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce" if still else "no-preference",
    )
    await page.goto(url)
    await page.add_style_tag(content=FONTS)
    await expect(page.locator(".tab .badge")).to_have_text(["open"] * 3)
    return page


async def done(page: Page, steps: int) -> None:
    await expect(page.locator("#steps [data-done=true]")).to_have_count(steps)


async def picture(browser: Browser, url: str, size: str, scheme: str) -> None:
    """The end of the third step: alice's tabs have got two updates late."""
    page = await opened(browser, url, size, scheme, still=True)
    for button in BUTTONS:
        await press(page, button)
    await done(page, 3)
    await expect(page.locator(".line .badge")).to_have_text(["1 WebSocket for 2 tabs", "1 WebSocket"])
    await page.mouse.move(0, 0)
    await expect(page.locator("#bridge")).to_have_text("healthy · 2 connections of 2 users")
    await page.screenshot(path=ROOT / "docs" / f"demo-{size}-{scheme}.png", animations="disabled")
    await page.close()


async def animated(browser: Browser, url: str) -> None:
    """The story from its first to its third step, as README shows it."""
    page = await opened(browser, url, "desktop", "light", still=False)
    frames: list[tuple[float, bytes]] = []

    async def record() -> None:
        while True:
            frames.append((time.monotonic(), await page.screenshot()))

    async with asyncio.TaskGroup() as group:
        recorder = group.create_task(record())
        for button in BUTTONS:
            await asyncio.sleep(READING)  # the time to read what the picture shows
            await press(page, button)
        await done(page, 3)
        await asyncio.sleep(2 * READING)  # the last state is shown for longer
        recorder.cancel()
    first, *later = (Image.open(io.BytesIO(png)).resize(SHRUNK, Image.Resampling.LANCZOS) for _, png in frames)
    shown = [round(1000 * (after - before)) for (before, _), (after, _) in pairwise(frames)]
    first.save(
        ROOT / "docs" / "demo.webp",
        save_all=True,
        append_images=later,
        duration=[*shown, 3000],
        loop=0,
        quality=60,
        method=6,
    )
    await page.close()


async def main() -> None:
    async with Bridge(LOG_LEVEL="warning") as bridge, launched() as browser:
        for size, scheme in product(SIZES, SCHEMES):
            await picture(browser, bridge.url, size, scheme)
        await animated(browser, bridge.url)
    async with console_pictures.staged() as url, launched() as browser:
        await asyncio.gather(
            *(console_pictures.take(browser, url, size, scheme) for size, scheme in product(SIZES, SCHEMES))
        )


if __name__ == "__main__":
    asyncio.run(main())
