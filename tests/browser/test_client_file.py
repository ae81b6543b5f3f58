"""The immutable file of the client, in a page that names its hash as the guide does."""

import re
from collections.abc import Sequence

import pytest
from aiohttp import web

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.guide import code, module
from tests.support.running import Served

# isort: split

from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

IMPORT = module("""
import('wsbridge-client').then(({ createClient }) => typeof createClient, String).then((it) => (window.loaded = it));
""")


class Site(Served):
    """A site with one page."""

    def __init__(self, html: str) -> None:
        self._html = html

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/", self._page),)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._html, content_type="text/html")


@pytest.mark.parametrize(("integrity", "loaded"), [(None, "^function$"), (f"sha384-{'A' * 64}", "^TypeError")])
async def test_page_with_an_import_map_checks_the_integrity(
    browser: Browser, service: Bridge, integrity: str | None, loaded: str
) -> None:
    description = await service.ask("/client.json")
    block = code("Getting it", "html").replace("http://localhost:8004", service.url)
    block = block.replace("client.0123456789abcdef.js", description["url"])
    block = block.replace("sha384-…", integrity or description["integrity"])
    async with Site(f"<!doctype html>{block}{IMPORT}") as site, await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{site.port}/")
        found = await page.wait_for_function("window.loaded")
        assert re.search(loaded, str(await found.json_value()))
