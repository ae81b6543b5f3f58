"""The console in a real browser on a real bridge."""

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from tests.support.browser import DEADLINE, Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.running import ADMIN_TOKEN, ROOT, SECRET, token
from tests.support.valkey import Valkey

# isort: split

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.engines("chromium", "firefox", reason="WebDriver has no locators"),
]

VIEWER = "what only viewers know"
HOSTILE = "<img src=x onerror=\"window.ran = 'yes'\"><b>it's</b>"


@dataclass
class Console:
    """The open page with its errors and warnings, and the clients of the bridge."""

    page: Page
    bridge: Bridge
    http: aiohttp.ClientSession
    complaints: list[str] = field(default_factory=list)  # console errors, warnings and uncaught exceptions
    sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)  # their ids

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    async def sign_in(self, secret: str) -> None:
        await self.page.goto(f"{self.bridge.url}/console")
        await self.page.get_by_label("Token").fill(secret)
        await self.page.get_by_role("button", name="Sign in").click()

    async def is_live(self) -> None:
        """Wait until the tail shows what is published from now on."""
        await expect(self.page.locator("#tail-hint")).to_have_text("live")

    async def connect(self, user: str) -> aiohttp.ClientWebSocketResponse:
        ws = await self.http.ws_connect(f"{self.bridge.url}/ws", params={"token": token(user)})
        self.sockets.append(ws)
        self.sessions.append((await ws.receive_json(timeout=DEADLINE))["session_id"])
        return ws

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button).click()

    def row(self, user: str) -> Locator:
        return self.page.locator(".row:visible", has=self.page.locator(".user", has_text=user))

    def line(self, text: str) -> Locator:
        return self.page.locator("#lines li", has_text=text).first


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge() -> AsyncIterator[Bridge]:
    async with Bridge(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER) as bridge:
        yield bridge


@pytest_asyncio.fixture(loop_scope="module")
async def console(browser: Browser, bridge: Bridge) -> AsyncIterator[Console]:
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    async with aiohttp.ClientSession() as http:
        console = Console(await context.new_page(), bridge, http)
        console.watch()
        yield console
        for ws in console.sockets:
            await ws.close()
    await context.close()


async def is_ended(ws: aiohttp.ClientWebSocketResponse) -> None:
    await ws.receive(DEADLINE)  # a goodbye
    assert (await ws.receive(DEADLINE)).data == 4509
    await ws.close()


async def test_console_shows_connections_and_ends_one_or_all_of_a_user(console: Console) -> None:
    ws, other = await console.connect("alice"), await console.connect("alice")
    await console.connect("bob")
    await console.sign_in(ADMIN_TOKEN)
    await expect(console.page.locator("#role")).to_have_text("read-write")
    await expect(console.page.locator("#health")).to_have_text("healthy · 3 connections")
    await expect(console.row("alice").first).to_contain_text("127.0.0.1")
    await console.page.get_by_label("Search connections").fill("ALIC")
    await expect(console.page.locator(".row:visible")).to_have_count(2)
    await console.page.get_by_label("Search connections").fill(console.sessions[0])
    await expect(console.page.locator(".row:visible")).to_have_count(1)
    await console.row("alice").click()
    await console.press("End this connection")
    await is_ended(ws)
    await expect(console.row("alice")).to_have_count(0)
    await console.page.get_by_label("Search connections").fill("alice")
    await expect(console.row("alice")).to_have_count(1)
    await console.row("alice").click()
    await console.press("End all of alice (1 connection)")
    await is_ended(other)
    await expect(console.row("alice")).to_have_count(0)
    await expect(console.page.locator("#closes")).to_contain_text("4509 force_disconnect")
    assert console.complaints == []


async def test_console_publishes_and_explains_an_event(console: Console) -> None:
    ws = await console.connect("carol")
    await console.sign_in(ADMIN_TOKEN)
    await expect(console.row("carol")).to_have_count(1)
    form = console.page.locator("#publish")
    await form.get_by_label("User").fill("carol")
    await form.get_by_label("Data").fill('{"title": "A test"}')
    await form.get_by_role("button").click()
    await expect(console.page.locator("#published")).to_contain_text("SUCCESS")
    assert (await ws.receive_json(timeout=DEADLINE))["event"] == {"title": "A test", "user_id": "carol"}
    await expect(console.page.locator(".verdict")).to_contain_text("delivered to 1 of 1 connection")
    await expect(console.page.locator(".line-map b")).to_have_text(
        ["opened", "resumed", "received", "relayed", "written"]
    )
    assert console.complaints == []


async def test_console_tail_masks_the_data_until_it_is_asked_for(console: Console) -> None:
    await console.sign_in(ADMIN_TOKEN)
    await console.is_live()
    await console.bridge.publish("dave", 4711)
    line = console.line("dave")
    await expect(line).to_contain_text("stored")
    assert "4711" not in await console.page.content()
    await line.get_by_role("button", name="Data").click()
    await expect(line.locator(".data")).to_contain_text("4711")
    await line.get_by_role("button", name="Mask").click()
    await expect(line.locator(".data")).to_be_hidden()
    assert "4711" not in await console.page.content()
    await line.get_by_role("button", name="Why?").click()
    await expect(console.page.locator(".verdict")).to_contain_text("the user has not connected since")
    assert console.complaints == []


async def test_console_tail_is_filtered_and_paused(console: Console) -> None:
    await console.sign_in(ADMIN_TOKEN)
    await console.is_live()
    async with console.page.expect_request(lambda request: "user=erin" in request.url):
        await console.page.locator("#filters").get_by_label("User").fill("erin")
    await console.is_live()
    for user in ("frank", "erin"):
        await console.bridge.publish(user, 1)
    await expect(console.line("erin")).to_be_visible()
    await expect(console.page.locator("#lines li")).to_have_count(1)
    await console.page.get_by_role("button", name="Pause").click()
    await console.bridge.publish("erin", 2)
    async with console.page.expect_request(lambda request: "user=erin" in request.url):
        await console.page.get_by_role("button", name="Go on").click()
    await console.is_live()
    await console.bridge.publish("erin", 3)
    await expect(console.page.locator("#lines li")).to_have_count(2)
    assert console.complaints == []


async def test_console_shows_hostile_texts_as_text(console: Console) -> None:
    agent = {"User-Agent": HOSTILE}
    async with console.http.ws_connect(f"{console.bridge.url}/ws", params={"token": token(HOSTILE)}, headers=agent):
        await console.sign_in(ADMIN_TOKEN)
        await console.is_live()
        await expect(console.row(HOSTILE).locator(".agent")).to_have_text(HOSTILE)
        form = console.page.locator("#publish")
        await form.get_by_label("User").fill(HOSTILE)
        await form.get_by_label("Data").fill(json.dumps({"title": HOSTILE}))
        await form.get_by_role("button").click()
        await expect(console.page.locator(".verdict")).to_contain_text("delivered to 1 of 1 connection")
        line = console.line(HOSTILE)
        await line.get_by_role("button", name="Data").click()
        await expect(line.locator(".data")).to_contain_text(HOSTILE.split('"', maxsplit=1)[0])
        await console.row(HOSTILE).click()
        await expect(console.page.locator("#details h2")).to_have_text(f"Connection of {HOSTILE}")
        assert await console.page.locator("img, b b").count() == 0
        assert await console.page.evaluate("window.ran") is None
    assert console.complaints == []


@pytest.mark.parametrize("user", [".", "..", "%2e%2e", "a/../b"])
async def test_console_takes_a_user_whose_id_url_parsers_change(console: Console, user: str) -> None:
    ws = await console.connect(user)
    await console.sign_in(ADMIN_TOKEN)
    await console.is_live()
    form = console.page.locator("#publish")
    await form.get_by_label("User").fill(user)
    await form.get_by_role("button").click()
    await expect(console.page.locator(".verdict")).to_contain_text("delivered to 1 of 1 connection")
    await ws.receive(DEADLINE)
    await console.page.get_by_label("Search connections").fill(console.sessions[0])
    await expect(console.page.locator(".row:visible")).to_have_count(1)
    await console.page.locator(".row:visible").click()
    await console.press("End this connection")
    await is_ended(ws)
    assert console.complaints == []


async def test_console_of_a_viewer_offers_nothing_that_changes_something(console: Console) -> None:
    await console.connect("grace")
    await console.sign_in(VIEWER)
    await console.is_live()
    await expect(console.page.locator("#role")).to_have_text("read-only")
    await expect(console.page.locator("#publish button")).to_be_disabled()
    await console.bridge.publish("grace", 1)
    await expect(console.line("grace").get_by_role("button")).to_have_text(["Why?"])
    await console.line("grace").get_by_role("button").click()
    await expect(console.page.locator(".verdict")).to_contain_text("delivered to 1 of 1 connection")
    await console.row("grace").click()
    for button in await console.page.locator("#details .danger").all():
        await expect(button).to_be_hidden()
    assert console.complaints == []


async def test_console_with_a_token_that_no_header_can_have_says_so(console: Console) -> None:
    await console.sign_in("a t\u00f6ken \u2603")
    await expect(console.page.get_by_role("alert")).to_contain_text("ASCII only")
    await console.page.get_by_label("Token").fill(f"\u00a0{ADMIN_TOKEN} ")  # as it is copied from a terminal
    await console.press("Sign in")
    await expect(console.page.locator("#replicas li")).to_have_count(1)
    assert console.complaints == []


async def test_console_with_a_page_of_a_proxy_as_answer_shows_it_as_text(console: Console) -> None:
    body = f"<h1>502</h1>{HOSTILE}" + "x" * 10_000
    await console.page.route("**/user/events?*", lambda route: route.fulfill(status=502, body=body))
    await console.sign_in(ADMIN_TOKEN)
    await console.is_live()
    form = console.page.locator("#why")
    await form.get_by_label("User").fill("alice")
    await form.get_by_label("Event id").fill("e1")
    await form.get_by_role("button").click()
    shown = console.page.locator("#answer .problem")
    await expect(shown).to_contain_text(f"The answer 502 is not the bridge's. <h1>502</h1>{HOSTILE}")
    assert len(await shown.text_content() or "") < 300
    assert await console.page.evaluate("window.ran") is None


async def test_console_with_a_wrong_token_says_so_and_asks_again(console: Console) -> None:
    await console.sign_in("not the token at all")
    await expect(console.page.get_by_role("alert")).to_contain_text("WSBRIDGE_ADMIN_TOKEN")
    await expect(console.page.locator("#console")).to_be_hidden()
    await console.page.get_by_label("Token").fill(ADMIN_TOKEN)
    await console.page.get_by_role("button", name="Sign in").click()
    await expect(console.page.locator("#replicas li")).to_have_count(1)
    await console.page.get_by_role("button", name="Sign out").click()
    await expect(console.page.locator("#login")).to_be_visible()
    await expect(console.page.locator("#lines li")).to_have_count(0)
    storage = await console.page.evaluate(
        "JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])"
    )
    assert storage == '[{},{},""]'


async def test_console_of_one_replica_shows_both_and_one_that_is_frozen(browser: Browser, tmp_path: Path) -> None:
    async with (
        Valkey(tmp_path) as valkey,
        Bridge(REDIS_URL=valkey.url) as one,
        Bridge(REDIS_URL=valkey.url) as other,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{other.url}/ws?user_id=heidi"),
    ):
        console = Console(await browser.new_page(), one, http)
        console.watch()
        await console.page.goto(f"{one.url}/console")  # in development mode it needs no token
        await expect(console.page.locator("#replicas .badge")).to_have_text(["healthy", "healthy"])
        await expect(console.row("heidi").locator(".replica")).to_contain_text("-")
        await console.is_live()
        await other.publish("heidi", 1)
        await expect(console.line("heidi")).to_be_visible()
        await console.line("heidi").get_by_role("button", name="Why?").click()
        await expect(console.page.locator(".verdict")).to_contain_text("delivered to 1 of 1 connection")
        other.send(signal.SIGSTOP)
        await expect(console.page.locator("#replicas .badge", has_text="no answer")).to_have_count(1)
        await expect(console.page.locator("#health")).to_contain_text("1 replica without an answer")
        other.send(signal.SIGCONT)
        await expect(console.page.locator("#replicas .badge")).to_have_text(["healthy", "healthy"])
        await expect(console.row("heidi")).to_have_count(1)
        await other.stop()
        await expect(console.page.locator("#replicas .badge")).to_have_text(["healthy"])
        await expect(console.row("heidi")).to_have_count(0)
        assert console.complaints == []
        await console.page.close()


async def test_console_with_thousands_of_connections_has_few_rows_in_the_page(console: Console) -> None:
    url = f"{console.bridge.url}/console/stream?show=numbers"
    async with console.bridge.http() as http, http.get(url) as response:
        hello, numbers, replicas = [await response.content.readline() for _ in range(3)]
    rows = [
        [f"s{n}", f"e:{n}", n % 7, None, f"user-{n:04}", "websocket", 1.79e9 + n, "192.0.2.1", "agent"]
        for n in range(5_000)
    ]
    table = {"type": "connections", "replica": json.loads(numbers)["replica"], "reset": True, "opened": rows}
    line = json.dumps(table | {"changed": [], "closed": [], "left_out": 0}).encode() + b"\n"
    body = b"".join((hello, numbers, line, replicas))
    await console.page.route("**/console/stream?show=numbers*", lambda route: route.fulfill(body=body))
    await console.sign_in(ADMIN_TOKEN)
    hint = console.page.locator("#connections-hint")
    await expect(hint).to_have_text("5,000 connections")
    await console.page.locator("#columns").get_by_role("button", name="User").click()
    await expect(console.row("user-0000")).to_be_visible()
    assert await console.page.locator(".row").count() < 40
    await console.page.locator("#viewport").evaluate("node => { node.scrollTop = node.scrollHeight }")
    await expect(console.row("user-4999")).to_be_visible()
    await expect(console.row("user-0000")).to_have_count(0)
    await console.page.get_by_label("Search connections").fill("USER-4321")
    await expect(hint).to_have_text("1 of 5,000 connections")
    await expect(console.page.locator(".row:visible")).to_have_count(1)


@pytest.mark.parametrize("width", [320, 768, 1920])
async def test_console_fits_the_width(console: Console, width: int) -> None:
    await console.connect("a-user-with-quite-a-long-name@" + "example" * 9)
    await console.page.set_viewport_size({"width": width, "height": 800})
    await console.sign_in(ADMIN_TOKEN)
    await console.is_live()
    await console.bridge.publish("x" * 200, 1)
    await expect(console.line("x" * 200)).to_be_visible()
    assert await console.page.evaluate("document.documentElement.scrollWidth") <= width


async def test_console_page_sends_its_requests_to_the_bridge_only(console: Console) -> None:
    urls: list[str] = []
    console.page.on("request", lambda request: urls.append(request.url))
    await console.sign_in(ADMIN_TOKEN)
    await expect(console.page.locator("#replicas li")).to_have_count(1)
    assert {url.partition("/console")[0] for url in urls if not url.startswith("data:")} == {console.bridge.url}
    assert not any(quote(ADMIN_TOKEN) in url or ADMIN_TOKEN in url for url in urls)


TOTALS = """async (source) => {
  const { createTotals, quantile } = await import(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  const totals = createTotals(), found = [];
  const numbers = (replica, at, uptime, events, counts) => totals.take({
    replica, at, uptime, cpu: uptime / 4, connections: 2, users: 1, closes: { a: 1 }, deliveries: 0, sent_bytes: 0,
    events: { stored: events, dropped: 1 }, unsent_bytes: 0, latency: { socket: { bounds: [1, 2], counts } },
    queue: { entries: 5, bytes: 0, max_entries: 10, max_bytes: 10 },
  });
  const finish = (answered, silent) => {
    totals.finish({ answered, silent });
    const { connections, events, cpu, fullness, closes, latency } = totals.history.at(-1);
    found.push([connections, events, cpu, fullness, closes.a ?? 0, latency.socket?.median ?? null]);
  };
  numbers('one', 100, 10, 50, [0, 0, 0]);
  numbers('two', 200, 10, 50, [0, 0, 0]);
  finish(['one', 'two'], []);
  numbers('one', 102, 12, 70, [4, 0, 0]);
  numbers('two', 201, 11, 55, [0, 4, 0]);
  finish(['one', 'two'], []);
  numbers('one', 103, 13, 70, [4, 0, 0]);
  finish(['one'], ['two']);
  numbers('one', 104, 1, 7, [1, 0, 0]);
  finish(['one'], []);
  const asked = [[[0, 0, 0], 0.5], [[4, 0, 0], 0.25], [[2, 2, 0], 0.75], [[1, 0, 9], 0.99]];
  return { found, quantiles: asked.map(([counts, share]) => quantile([1, 2], counts, share)) };
}"""


async def test_console_sums_replicas_and_makes_rates_of_counters(browser: Browser) -> None:
    source = ROOT / "wsbridge" / "web" / "static" / "console" / "totals.js"
    page = await browser.new_page()
    result = await page.evaluate(TOTALS, source.read_text(encoding="utf-8"))
    await page.close()
    assert result["quantiles"] == [None, 0.25, 1.5, 2]
    assert result["found"] == [
        [4, 0, 0, 0.5, 2, None],  # the first look has no rates
        [4, 15, 0.25, 0.5, 2, 1],  # 10 a second and 5 a second
        [2, 0, 0.25, 0.5, 1, 1],  # one is silent
        [2, 0, 0, 0.5, 1, 1],  # the other one has gone, and this one was restarted
    ]
