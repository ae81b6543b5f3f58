"""Makes the pictures of the demo page and of the console in docs/: `make screenshots`.

Drawn in Inter and JetBrains Mono if those are installed (Debian: fonts-inter, fonts-jetbrains-mono).
"""

import asyncio
from itertools import product

from tests.support import console_pictures
from tests.support.browser import Bridge, launched
from tests.support.running import ROOT

# isort: split

from playwright.async_api import Browser, Page, expect

FONTS = ":root { --sans: Inter, system-ui; --mono: 'JetBrains Mono', monospace; }"
SIZES = {"desktop": (1280, 800, 1), "phone": (390, 844, 1.5)}  # in CSS pixels; the third is the scale
SCHEMES = ("light", "dark")
AWAY = ("Call the dentist", "Book the night train")  # the updates that alice gets after she is plugged in again


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def publish(page: Page, user: str, title: str) -> None:
    await page.get_by_role("combobox", name="User", exact=True).select_option(user)
    await page.get_by_role("textbox", name="Title", exact=True).fill(title)
    await press(page, "Publish")
    await expect(page.locator("#answer")).to_contain_text("SUCCESS")


async def play(page: Page) -> None:
    """Unplug alice for two updates."""
    await expect(page.locator(".tab .badge")).to_have_text(["open"] * 3)
    await publish(page, "bob", "Mow the lawn")
    await publish(page, "alice", "Buy milk")
    await expect(page.locator(".tasks .title", has_text="Buy milk")).to_have_count(2)
    await press(page, "Unplug: alice")
    for title in AWAY:
        await publish(page, "alice", title)
    await press(page, "Plug in: alice")
    await expect(page.locator(".late:visible")).to_have_count(4)  # in each of two tabs
    await publish(page, "alice", "Water the plants")
    await expect(page.locator(".tasks .title", has_text="Water the plants")).to_have_count(2)


async def picture(browser: Browser, url: str, size: str, scheme: str) -> None:
    width, height, scale = SIZES[size]
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    await page.goto(url)
    await page.add_style_tag(content=FONTS)
    await play(page)
    await expect(page.locator(".line .badge")).to_have_text(["1 WebSocket for 2 tabs", "1 WebSocket"])
    await page.mouse.move(0, 0)
    await expect(page.locator("#bridge")).to_have_text("healthy · 2 connections of 2 users")
    if size == "phone":
        await page.locator(".browser").first.evaluate("node => node.scrollIntoView()")
    await page.screenshot(path=ROOT / "docs" / f"demo-{size}-{scheme}.png", animations="disabled")
    await page.close()


async def main() -> None:
    async with Bridge(LOG_LEVEL="warning") as bridge, launched() as browser:
        for size, scheme in product(SIZES, SCHEMES):
            await picture(browser, bridge.url, size, scheme)
    async with console_pictures.staged() as url, launched() as browser:
        await asyncio.gather(
            *(console_pictures.take(browser, url, size, scheme) for size, scheme in product(SIZES, SCHEMES))
        )


if __name__ == "__main__":
    asyncio.run(main())
