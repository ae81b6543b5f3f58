"""The demo page in front of several bridges. A bridge serves it on its internal port, for its own sockets."""

from tests.e2e.chain import Chain
from tests.support.browser import launched  # before playwright: it skips the tests if that is not installed

# isort: split

from playwright.async_api import Page, Route

__all__ = ["launched", "open_demo"]


async def open_demo(page: Page, chain: Chain) -> None:
    """Open the page with its connections going through the proxy."""
    bridge = chain.bridges[0]
    status, served = await bridge.internal.get("/")
    found = f'<meta name="wsbridge-port" content="{bridge.port}">'
    assert (status, found in served) == (200, True)

    async def fulfil(route: Route) -> None:
        await route.fulfill(body=served.replace(found, found.replace(str(bridge.port), "")), content_type="text/html")

    await page.route(f"{chain.proxy.url}/", fulfil)
    await page.goto(chain.proxy.url)
