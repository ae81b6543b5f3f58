"""The file of the client in a page: at its immutable URL as in the guide, and made of the sources.

The other tests load `/client.js`, which is minified if `make client` has built it, as in CI.
"""

import re
from collections.abc import Sequence

import pytest
from aiohttp import web

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.guide import code, module
from tests.support.running import ROOT, Served
from wsbridge.web.client_bundle import bundle

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
    block = code("Getting the client", "html").replace("http://localhost:8004", service.url)
    block = block.replace("client.0123456789abcdef.js", description["url"])
    block = block.replace("sha384-…", integrity or description["integrity"])
    async with Site(f"<!doctype html>{block}{IMPORT}") as site, await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{site.port}/")
        found = await page.wait_for_function("window.loaded")
        assert re.search(loaded, str(await found.json_value()))


async def test_bundle_of_the_sources_connects_in_a_page(browser: Browser, service: Bridge) -> None:
    text = bundle(ROOT / "client" / "src", "client")
    connect = f"window.client = createClient({{ url: '{service.url}/ws', userId: 'sources' }});\nclient.connect();"
    async with Site(f"<!doctype html>{module(text + connect)}") as site, await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{site.port}/")
        await page.wait_for_function("client.state.status === 'open'")
