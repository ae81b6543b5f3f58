"""The npm package in a new project that Vite builds."""

import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp import web

from tests.release import packages
from tests.release.bridge import Installed
from tests.support.browser import launched  # before playwright: it skips the tests if that is not installed
from tests.support.running import ROOT, Served

# isort: split

from playwright.async_api import expect

pytestmark = [pytest.mark.usefixtures("built"), pytest.mark.asyncio(loop_scope="session")]

LOCKED = ROOT / "tests" / "react_page"  # its lock file has Vite
PAGE = """<!doctype html>
<title>new</title>
<script type="module">
import { createClient } from 'wsbridge-client';

const client = createClient({ url: new URLSearchParams(location.search).get('url'), userId: 'alice' });
client.on('state', ({ status }) => { document.title = status; });
client.on('task_update', ({ event }) => document.body.append(event.title));
client.connect();
</script>
"""


class Site(Served):
    """A folder of files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.static("/", self._folder)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(LOCKED / name, tmp_path)
    packages.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=tmp_path)
    packages.run("npm", "install", "--no-save", "--no-audit", "--no-fund", packages.tarball(), cwd=tmp_path)
    (tmp_path / "index.html").write_text(PAGE)
    packages.run(tmp_path / "node_modules" / ".bin" / "vite", "build", "--logLevel", "error", cwd=tmp_path)
    return Site(tmp_path / "dist")


async def test_npm_package_in_a_new_vite_project_shows_events(site: Site, bridge: Installed) -> None:
    async with launched() as browser, site:
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{site.port}/index.html?{urlencode({'url': f'{bridge.url}/ws'})}")
        await expect(page).to_have_title("open")
        bridge.publish("title=Buy bread")
        await expect(page.get_by_text("Buy bread")).to_be_visible()
