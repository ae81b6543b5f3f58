"""Runs the code of FRONTEND_INTEGRATION.md verbatim, in a real browser and on a real bridge.

client/test/guide.test.js has the parts that need no browser, test_tasks_page.py the React app.
"""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.browser import DEADLINE, Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.guide import USER, Site, code, module
from tests.support.running import ROOT, SECRET, until_told
from tests.support.shell import output

# isort: split

from playwright.async_api import Browser, BrowserContext, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

CLOSES = json.loads((ROOT / "tests" / "vectors" / "closes.json").read_text(encoding="utf-8"))
CLIENT = """
import { createClient } from 'wsbridge-client';
const client = window.client = createClient({ url: '/ws', userId: 'alice' });
"""
CONNECT = "client.connect();"


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with await browser.new_context() as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def site(service: Bridge, context: BrowserContext) -> AsyncIterator[Site]:
    async with Site(service, context) as site:
        yield site


async def test_guide_first_page_after_a_broken_connection_shows_updates(site: Site) -> None:
    page = await site.open(code("Five minutes", "html"))
    items = page.get_by_role("listitem")
    await site.connected()
    await site.publish("One")
    await expect(items).to_have_text(["One"])
    await site.publish_offline("Two", "Three")
    await expect(items).to_have_text(["One", "Two", "Three"])
    await page.get_by_label("online").uncheck()
    await site.publish("Four", "Five")
    await page.get_by_label("online").check()
    await expect(items).to_have_text(["One", "Two", "Three", "Four", "Five"])


async def looks(page: Page, expression: str, value: Any) -> None:
    """Wait until the page's element has this text."""
    await page.wait_for_function(
        f"(value) => JSON.stringify({expression}) === JSON.stringify(value)", arg=value, timeout=DEADLINE * 1000
    )


FIRST_LOAD = module(f"{code('First load', 'js')}\nwindow.look = () => [...tasks.keys()];\nwindow.client = client;")


async def test_guide_first_load_shows_each_update_once(site: Site) -> None:
    site.tasks = [{"task_id": "Old", "title": "Old"}]
    site.ready.clear()
    page = await site.open(FIRST_LOAD)
    await until_told(lambda: asyncio.sleep(0, site.loads))
    await page.evaluate("void (window.updates = 0, client.on('task_update', () => updates++))")
    await site.publish("New", "Old")  # published while the answer is on its way, which has only one of them
    await looks(page, "updates", 2)
    assert await page.evaluate("look()") == []
    site.ready.set()
    await looks(page, "look()", ["Old", "New"])
    await site.publish("Later")
    await looks(page, "look()", ["Old", "New", "Later"])
    await site.publish_offline("Last")
    await looks(page, "look()", ["Old", "New", "Later", "Last"])
    await site.publish("New", event_type="task.deleted")
    await looks(page, "look()", ["Old", "Later", "Last"])
    assert site.loads == 1


async def test_guide_first_load_in_another_users_session_closes_the_client(site: Site) -> None:
    site.user = "bob"
    page = await site.open(FIRST_LOAD)
    await looks(page, "client.state.status", "closed")
    assert await page.evaluate("look()") == []
    assert site.loads == 1


async def test_guide_after_a_gap_loads_the_state_again(context: BrowserContext) -> None:
    async with Bridge(HISTORY_SIZE="1") as bridge, Site(bridge, context) as site:
        page = await site.open(FIRST_LOAD)
        await until_told(lambda: asyncio.sleep(0, site.loads))
        site.tasks = [{"task_id": "Two", "title": "Two"}]
        await site.publish_offline("One", "Two")
        await looks(page, "look()", ["Two"])
        assert site.loads == 2


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WSBRIDGE_JWT_SECRET", SECRET)  # the guide's endpoint reads it
    return SECRET


async def test_guide_token_endpoint_and_getToken_fit_the_bridge(context: BrowserContext, secret: str) -> None:  # noqa: N802 - its name
    async with Bridge(JWT_SECRET=secret, ALLOWED_ORIGINS="*") as bridge, Site(bridge, context) as site:
        page = await site.open(module(code("Tokens", "js") + CONNECT + "window.client = client;"))
        await looks(page, "client.state.status", "open")
        site.user = None  # logged out: the page notices at its next connection
        site.proxy.cut()
        await looks(page, "[client.state.status, client.state.reason]", ["closed", "no_token"])


async def test_guide_notice_shows_a_lost_connection_and_each_problem_until_it_is_over(site: Site) -> None:
    page = await site.open(module(CLIENT + code("Offline", "js") + CONNECT))
    notice = page.get_by_role("status")
    await site.connected()
    await site.proxy.refuse()
    site.proxy.cut()
    await expect(notice).to_have_text(re.compile("^Offline"))
    await site.proxy.listen()
    await expect(notice).to_have_text("")
    await site.connected()
    async with site.bridge.http() as http:
        await http.post(f"{site.bridge.url}/users/{USER}/disconnect")
    await expect(notice).to_have_text("Live updates have stopped.")
    await page.evaluate("client.connect()")
    await expect(notice).to_have_text("")


async def test_guide_notice_of_a_client_whose_tokens_are_refused_asks_for_no_login(context: BrowserContext) -> None:
    async with Bridge(JWT_SECRET=SECRET, ALLOWED_ORIGINS="*") as bridge, Site(bridge, context) as site:
        page = await site.open(module(CLIENT + code("Offline", "js") + CONNECT))  # with no token
        await expect(page.get_by_role("status")).to_have_text("Live updates do not work. We are on it.")


def node_program(folder: Path, heading: str, port: int) -> tuple[str | Path, ...]:
    """The command that runs the code under this heading in Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "wsbridge-client").symlink_to(ROOT / "client")
    program = folder / "program.mjs"
    program.write_text(code(heading, "js").replace("localhost:8004", f"127.0.0.1:{port}"), encoding="utf-8")
    return node, "--experimental-websocket", "--no-warnings", program  # Node 20 needs the flag


async def test_guide_asynchronous_handlers_run_one_after_the_other(site: Site) -> None:
    store = """
      window.stored = [];
      const store = async ({ title }) => { await fetch('/api/tasks'); stored.push(title); };
    """
    page = await site.open(module(CLIENT + store + code("Order and duplicates", "js") + CONNECT))
    await site.connected()
    site.ready.clear()
    await site.publish("One", "Two")
    await until_told(lambda: asyncio.sleep(0, site.loads))
    assert site.loads == 1  # the second handler waits for the first
    site.ready.set()
    await looks(page, "stored", ["One", "Two"])


async def test_guide_test_for_node_passes(site: Site, tmp_path: Path) -> None:
    program = node_program(tmp_path, "Testing your page", site.bridge.port)
    assert "pass 1" in await output(*program)


async def test_guide_code_for_node_prints_updates(site: Site, tmp_path: Path) -> None:
    process = await create_subprocess_exec(*node_program(tmp_path, "Node", site.proxy.port), stdout=PIPE)
    assert process.stdout
    try:
        await site.connected()
        await site.publish("One")
        assert await asyncio.wait_for(process.stdout.readline(), DEADLINE) == b"One\n"
        await site.publish_offline("Two")
        assert await asyncio.wait_for(process.stdout.readline(), DEADLINE) == b"Two\n"
    finally:
        process.kill()
        await process.communicate()


RAW = code("A page, by hand", "js")
FOLLOW = """
window.updates = []; window.gaps = []; window.ends = []; window.asked = [];
async function getToken(reason) {
  asked.push(reason);
  return withTokens && (await fetch('/token', { method: 'POST' })).text();
}
follow(`${bridge.replace('http', 'ws')}/ws`, {
  userId: 'alice',
  getToken,
  onUpdate: ({ event }) => updates.push(event.title),
  onGap: ({ reason }) => gaps.push(reason),
  onEnd: (code, reason) => ends.push([code, reason]),
});
"""


async def raw(site: Site, *, with_tokens: bool = False) -> Page:
    """A page without the client."""
    given = f"const bridge = 'http://localhost:8004', withTokens = {json.dumps(with_tokens)};"
    return await site.open(module(RAW + given + FOLLOW))


async def test_guide_without_the_client_gets_each_update_once(site: Site) -> None:
    page = await raw(site)
    await site.connected()
    await site.publish("One")
    await looks(page, "updates", ["One"])
    await site.publish_offline("Two", "Three")
    await looks(page, "updates", ["One", "Two", "Three"])
    await site.publish_offline()
    await site.connected()
    await site.publish("Four")
    await looks(page, "updates", ["One", "Two", "Three", "Four"])
    async with site.bridge.http() as http:
        await http.post(f"{site.bridge.url}/users/{USER}/disconnect")
    await looks(page, "ends", [[4509, "force_disconnect"]])
    assert await page.evaluate("gaps") == []


async def test_guide_without_the_client_reports_a_gap(context: BrowserContext) -> None:
    async with Bridge(HISTORY_SIZE="1") as bridge, Site(bridge, context) as site:
        page = await raw(site)
        await site.connected()
        await site.publish_offline("One", "Two")
        await looks(page, "gaps", ["trimmed"])
        await site.publish("Three")
        await looks(page, "updates", ["Three"])


async def test_guide_without_the_client_fetches_another_token(context: BrowserContext, secret: str) -> None:
    settings = {"JWT_SECRET": secret, "ALLOWED_ORIGINS": "*"}
    async with Bridge(**settings) as bridge, Site(bridge, context) as site:
        page = await raw(site, with_tokens=True)
        await site.connected()
        assert await page.evaluate("asked") == ["connect"]
    async with Bridge(**settings, JWT_AUDIENCE="bridge") as bridge, Site(bridge, context) as site:
        page = await raw(site, with_tokens=True)  # its tokens do not name that audience
        await looks(page, "asked.slice(0, 3)", ["connect", "token_invalid", "token_invalid"])


# Sockets and a clock that the test controls, for each follower.
FAKES = """
window.sockets = [];
window.WebSocket = class {
  closed = false;
  sent = [];
  constructor(url) { this.query = new URL(url).searchParams; sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text).type); }
  close() { this.closed = true; }
  say(message) { this.onmessage({ data: JSON.stringify(message) }); }
};
window.of = (user) => sockets.filter(({ query }) => query.get('user_id') === user);
window.connected = (last_event_id) => ({ type: 'connected', last_event_id, ping_interval_ms: 25000 });
window.update = (id) => ({ type: 'task_update', event: {}, id });
window.heard = [];
const hear = ({ id }) => heard.push(id);
window.start = (userId) => follow('ws://bridge/ws', { userId, onUpdate: hear, onGap: hear });
"""


@pytest_asyncio.fixture(loop_scope="module")
async def faked(site: Site) -> Page:
    """A page with the guide's code and those sockets and clock."""
    page = await site.open(module(f"{RAW}{FAKES}"))
    await page.clock.install(time=0)
    await page.clock.pause_at(1_000_000)  # otherwise the clock runs by itself
    return page


async def test_guide_without_the_client_obeys_each_close_code(faked: Page) -> None:
    closes = [*CLOSES["closes"], *CLOSES["any_code"]]
    await faked.evaluate("closes => closes.forEach((_, n) => start(`${n}`))", closes)
    await faked.evaluate(
        """closes => closes.forEach(({ code, reason = '' }, n) => {
          const [socket] = of(`${n}`);
          socket.say(connected('a:0'));
          socket.onclose({ code, reason });
        })""",
        closes,
    )
    count = "closes => closes.map((_, n) => of(`${n}`).length)"
    hurried = [close.get("client") in ("token", "resume") for close in closes]
    await faked.clock.run_for(1)
    assert await faked.evaluate(count, closes) == [2 if at_once else 1 for at_once in hurried]
    await faked.evaluate("closes => closes.forEach((close, n) => of(`${n}`)[1]?.onclose(close))", closes)
    await faked.clock.run_for(1)  # refused again: now it waits
    assert await faked.evaluate(count, closes) == [2 if at_once else 1 for at_once in hurried]
    await faked.clock.run_for(500)
    assert await faked.evaluate(count, closes) == [
        1 + close["reconnect"] + at_once for close, at_once in zip(closes, hurried, strict=True)
    ]


async def test_guide_without_the_client_stays_connected_during_a_goodbye(faked: Page) -> None:
    goodbye = {"type": "goodbye", "code": 1012, "reconnect": True, "reconnect_after_ms": 300, "close_after_ms": 20_000}
    await faked.evaluate("void start('u')")
    await faked.evaluate("bye => [connected('a:8'), update('a:9'), bye].forEach((it) => sockets[0].say(it))", goodbye)
    await faked.clock.run_for(300)
    assert await faked.evaluate("sockets.map(({ query, closed }) => [query.get('last_event_id'), closed])") == [
        ["", False],
        ["a:9", False],
    ]
    await faked.evaluate("sockets[0].say(update('a:10'))")
    await faked.evaluate("[connected('a:9'), update('a:10'), update('a:11')].forEach((it) => sockets[1].say(it))")
    await faked.evaluate("sockets[0].onclose({ code: 1012, reason: 'shutdown' })")
    await faked.clock.run_for(60_000)
    assert await faked.evaluate("heard") == ["a:9", "a:10", "a:11"]
    assert await faked.evaluate("sockets[0].closed") is True


async def test_guide_without_the_client_reconnects_after_silence_forever(faked: Page) -> None:
    await faked.evaluate("void start('u')")
    await faked.evaluate("sockets[0].say(connected('a:0'))")
    await faked.clock.run_for(25_000)
    assert await faked.evaluate("[sockets[0].sent, sockets[0].closed]") == [["ping"], False]
    await faked.evaluate("sockets[0].say({ type: 'pong' })")
    await faked.clock.run_for(34_999)  # it sends one more ping, which is not answered
    assert await faked.evaluate("[sockets[0].sent, sockets[0].closed]") == [["ping", "ping"], False]
    await faked.clock.run_for(501)
    assert await faked.evaluate("[sockets[0].closed, sockets.length]") == [True, 2]
    for tries in range(3, 13):  # each connection is silent for 10 s, and the next one follows within 20 s
        await faked.clock.run_for(30_000)
        assert await faked.evaluate("sockets.length") >= tries
    assert await faked.evaluate("sockets.slice(0, -1).every(({ closed }) => closed)")
