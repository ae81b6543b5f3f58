"""The demo page in a real browser on a real bridge."""

import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.deliveries import cloud_event
from tests.support.running import ROOT
from tests.support.shell import run, typed
from tests.support.valkey import free_port

# isort: split

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Error, Locator, Page, expect

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.engines("chromium", "firefox", reason="WebDriver has no locators"),
]

HOSTILE = "</script><img src=x onerror=\"window.ran = 'yes'\"><b>it's</b>"
ALICE, BOB = "alice", "bob"


@dataclass
class Demo:
    """The open page with its errors and warnings. Tabs are numbered: 0 and 1 are alice's, 2 is bob's."""

    page: Page
    complaints: list[str] = field(default_factory=list)  # console errors and warnings
    errors: list[str] = field(default_factory=list)  # uncaught exceptions

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)

    def _error(self, error: Error) -> None:
        if "ws://" not in str(error):  # Firefox calls a WebSocket that is refused an error as well
            self.errors.append(str(error))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def tab(self, number: int) -> Locator:
        return self.page.locator("article.tab").nth(number)

    def browser(self, user: str) -> Locator:
        return self.page.locator(f".browser[data-user={user}]")

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def network(self, user: str, mode: str) -> None:
        await self.page.get_by_role("radiogroup", name=f"Network of {user}").get_by_role("radio", name=mode).check()

    async def is_done(self, *steps: int) -> None:
        """Wait until exactly these steps, from 0, are ticked off."""
        done = [str(number in steps).lower() for number in range(4)]
        await expect(self.page.locator("#steps li")).to_have_count(4)
        for number, value in enumerate(done):
            await expect(self.page.locator("#steps li").nth(number)).to_have_attribute("data-done", value)

    def edge(self, user: str) -> Locator:
        return self.page.locator(f"#chain .edge[data-user={user}]")

    async def open_tabs(self, *numbers: int) -> None:
        for number in numbers:
            await expect(self.tab(number).locator(".badge")).to_have_text("open")

    async def publish(self, user: str, title: str, event_type: str = "task.created") -> None:
        await self.page.get_by_role("combobox", name="User", exact=True).select_option(user)
        await self.page.get_by_role("combobox", name="Event", exact=True).select_option(event_type)
        await self.page.get_by_role("textbox", name="Title", exact=True).fill(title)
        await self.press("Publish")
        await expect(self.page.locator("#answer")).to_contain_text("SUCCESS")

    async def shows(self, number: int, *titles: str) -> None:
        """Check that it shows exactly these, the newest first."""
        await expect(self.tab(number).locator(".tasks .title")).to_have_text(list(reversed(titles)))

    async def marks(self, number: int, *titles: str) -> None:
        """Check that it marks exactly these as late."""
        late = self.tab(number).locator(".tasks li:has(.late:visible) .title")
        await expect(late).to_have_text(list(reversed(titles)))

    async def link(self, user: str, text: str) -> None:
        await expect(self.browser(user).locator(".line .badge")).to_have_text(text)

    async def wire(self, user: str) -> list[str]:
        """The messages on this user's WebSockets, verbatim. They are folded."""
        return await self.browser(user).locator(".log .in pre").all_text_contents()

    async def frames(self, user: str, kind: str) -> list[Any]:
        frames = [json.loads(text) for text in await self.wire(user)]
        return [frame for frame in frames if frame["type"] == kind]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Bridge]:
    async with Bridge() as bridge:
        yield bridge


@pytest_asyncio.fixture(loop_scope="module")
async def bridge(started: Bridge) -> Bridge:
    """One process for all tests. If a test failed during a restart, the next one starts it again."""
    if not started.running:
        await started.start()
    return started


@pytest_asyncio.fixture(loop_scope="module")
async def demo(browser: Browser, bridge: Bridge) -> AsyncIterator[Demo]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        demo = Demo(await context.new_page())
        demo.watch()
        await demo.page.goto(bridge.url)
        await demo.open_tabs(0, 1, 2)
        yield demo
    finally:
        await context.close()


async def test_demo_update_reaches_both_tabs_of_its_user_over_one_socket(demo: Demo) -> None:
    await demo.publish(ALICE, "Buy milk")
    await demo.shows(0, "Buy milk")
    await demo.shows(1, "Buy milk")
    await expect(demo.page.locator("#answer")).to_contain_text("reached 2 tabs of alice")
    await demo.publish(BOB, "Mow the lawn")  # a wrong event for bob would arrive before this one
    await demo.shows(2, "Mow the lawn")

    for user, title in ((ALICE, "Buy milk"), (BOB, "Mow the lawn")):
        connected, update = map(json.loads, await demo.wire(user))
        assert (connected["type"], update["type"], update["event"]["title"]) == ("connected", "task_update", title)
    await demo.link(ALICE, "1 WebSocket for 2 tabs")
    await demo.link(BOB, "1 WebSocket")
    await expect(demo.tab(0).locator(".why")).to_have_text("Has the WebSocket.")
    await expect(demo.tab(1).locator(".why")).to_have_text("Through the WebSocket of tab 1.")
    await expect(demo.page.locator("#bridge")).to_have_text("healthy · 2 connections of 2 users")
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_task_is_changed_and_completed_by_its_id(demo: Demo) -> None:
    await demo.publish(ALICE, "Buy milk")
    await demo.shows(1, "Buy milk")
    await demo.publish(ALICE, "Buy oat milk", "task.updated")
    await demo.shows(1, "Buy oat milk")
    await demo.tab(0).get_by_role("checkbox").click()  # through the bridge, so the other tab shows it
    await expect(demo.tab(1).get_by_role("checkbox")).to_be_checked()
    await expect(demo.tab(0).get_by_role("checkbox")).to_be_checked()
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_curl_command_publishes_as_the_form_does(demo: Demo) -> None:
    await demo.page.get_by_role("textbox", name="Title", exact=True).fill(HOSTILE)
    line = await demo.page.locator("#curl").inner_text()
    assert HOSTILE.replace("'", "'\\''").replace('"', '\\"') in line
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the line was compared, not run")
    assert json.loads(await typed(line)) == {"status": "SUCCESS"}
    await demo.shows(0, HOSTILE)


@pytest.mark.fault("A3", "A5")
async def test_demo_command_publishes_to_this_bridge(demo: Demo, bridge: Bridge) -> None:
    assert (await demo.page.locator("#listen").inner_text()).endswith(f" --url ws://127.0.0.1:{bridge.port}/ws")
    line = await demo.page.locator("#command").inner_text()
    assert line.startswith("wsbridge publish ")
    line = line.replace("wsbridge", f"{shlex.quote(sys.executable)} -m wsbridge", 1)
    ended = await run("sh", "-c", line)
    assert ended == (0, "SUCCESS\n", "wsbridge: alice has 1 connection to this replica\n")
    await demo.shows(0, "Buy milk")
    await demo.shows(1, "Buy milk")


async def test_demo_title_with_html_is_shown_as_text(demo: Demo) -> None:
    await demo.publish(ALICE, HOSTILE)
    await demo.shows(0, HOSTILE)
    await demo.shows(1, HOSTILE)
    assert json.loads((await demo.wire(ALICE))[-1])["event"]["title"] == HOSTILE
    await demo.publish(ALICE, "Afterwards", "task.updated")  # the menu held the title as well
    await demo.shows(0, "Afterwards")
    assert await demo.page.locator("img").count() == 0
    assert await demo.page.evaluate("window.ran") is None
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_connection_that_a_flaky_network_cuts_resumes_at_its_position(demo: Demo) -> None:
    await demo.publish(ALICE, "Before")
    await demo.shows(1, "Before")
    position = await demo.tab(0).locator(".position").inner_text()
    await demo.network(ALICE, "flaky")
    await expect(demo.browser(ALICE).locator(".log")).to_contain_text("WebSocket closed, 1006")
    await demo.network(ALICE, "online")
    for number in (0, 1):
        await expect(demo.tab(number).locator(".news")).to_have_text("Resumed: nothing was missed.")
    await expect(demo.browser(ALICE).locator(".address")).to_contain_text(f"last_event_id={position}")
    await demo.publish(ALICE, "After")
    for number in (0, 1):
        await demo.shows(number, "Before", "After")
        await demo.marks(number)
    first, *later = [frame.get("recovered") for frame in await demo.frames(ALICE, "connected")]
    assert (first, set(later)) == (None, {True})
    assert len(await demo.frames(BOB, "connected")) == 1
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_event_published_while_offline_arrives_late_and_once(demo: Demo) -> None:
    await demo.publish(ALICE, "Before")
    await demo.shows(1, "Before")
    await demo.network(ALICE, "offline")
    await demo.link(ALICE, "offline")
    await expect(demo.tab(1).locator(".badge")).to_have_text(re.compile(r"retry \d in \d+ s"))
    await demo.publish(ALICE, "One")
    await expect(demo.page.locator("#answer")).to_contain_text("alice has no connection now")
    await demo.publish(ALICE, "Two")
    await demo.publish(BOB, "Meanwhile")
    await demo.shows(2, "Meanwhile")
    await demo.shows(0, "Before")

    await demo.network(ALICE, "online")
    for number in (0, 1):
        await expect(demo.tab(number).locator(".news")).to_have_text("Resumed: 2 updates arrived late.")
    await demo.publish(ALICE, "After")
    for number in (0, 1):
        await demo.shows(number, "Before", "One", "Two", "After")
        await demo.marks(number, "One", "Two")
        await expect(demo.tab(number).locator(".gap")).to_be_hidden()
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_with_blocked_websockets_uses_a_stream(demo: Demo) -> None:
    await demo.network(ALICE, "no WebSockets")
    await demo.link(ALICE, "1 event stream for 2 tabs")
    await demo.open_tabs(0, 1)
    await expect(demo.tab(0).locator(".why")).to_have_text(re.compile("^An event stream, because WebSockets failed"))
    await expect(demo.tab(1).locator(".why")).to_have_text("Through the event stream of tab 1.")
    await demo.publish(ALICE, "Streamed")
    await demo.shows(0, "Streamed")
    await demo.shows(1, "Streamed")
    await expect(demo.browser(ALICE).locator(".log")).to_contain_text("event: task_update")
    await expect(demo.edge(ALICE)).to_have_attribute("data-state", "sse")
    await demo.is_done(0, 3)
    await demo.link(BOB, "1 WebSocket")
    address = demo.browser(ALICE).locator(".address")
    failed = demo.browser(ALICE).locator(".log b", has_text="WebSocket failed")
    await expect(failed).to_have_count(3)
    await expect(address).to_have_text(re.compile("^http://.*/sse"))
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_tab_that_disconnects_leaves_the_connection_to_the_other(demo: Demo) -> None:
    await demo.press("Disconnect alice, tab 1")
    await expect(demo.tab(0).locator(".badge")).to_have_text("closed")
    await expect(demo.tab(1).locator(".why")).to_have_text("Has the WebSocket.")
    await demo.link(ALICE, "1 WebSocket for 1 tab")
    await demo.publish(ALICE, "Missed")
    await demo.shows(1, "Missed")
    await expect(demo.page.locator("#answer")).to_contain_text("reached 1 tab of alice")
    await demo.shows(0)
    await demo.press("Connect alice, tab 1")
    await demo.shows(0, "Missed")
    await expect(demo.tab(0).locator(".why")).to_have_text("Through the WebSocket of tab 2.")
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_second_page_shares_the_connection(demo: Demo, bridge: Bridge) -> None:
    other = Demo(await demo.page.context.new_page())
    other.watch()
    await other.page.goto(bridge.url)
    await other.open_tabs(0, 1, 2)
    await expect(other.tab(0).locator(".why")).to_have_text("Through a tab of another page.")
    await other.link(ALICE, "shared with another page")
    await other.publish(ALICE, "For both pages")
    await other.shows(1, "For both pages")
    await demo.shows(1, "For both pages")
    await expect(demo.page.locator("#bridge")).to_have_text("healthy · 2 connections of 2 users")

    await other.network(ALICE, "offline")  # both pages share the simulated network
    for page in (demo, other):
        await page.link(ALICE, "offline")
    third = Demo(await demo.page.context.new_page())
    third.watch()
    await third.page.goto(bridge.url)
    await third.link(ALICE, "offline")
    await demo.network(ALICE, "online")
    for page in (demo, other, third):
        await page.open_tabs(0, 1)
    assert (other.complaints, other.errors) == ([], [])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
async def test_demo_after_a_restart_of_the_bridge_shows_a_gap_and_continues(
    demo: Demo, bridge: Bridge, how: signal.Signals
) -> None:
    await demo.publish(ALICE, "Before")
    await demo.shows(1, "Before")
    await bridge.stop(how)
    await bridge.start()  # its history was in memory
    await demo.open_tabs(0, 1, 2)
    for number in range(3):
        await expect(demo.tab(number).locator(".gap")).to_contain_text("Gap (reset)")
    await demo.publish(ALICE, "Still here")
    for number in (0, 1):
        await demo.shows(number, "Before", "Still here")
        await demo.tab(number).get_by_role("button", name="Dismiss").click()
        await expect(demo.tab(number).locator(".gap")).to_be_hidden()
    assert demo.errors == []  # the console reports refused connections, which are not errors of the page


async def test_demo_session_ended_by_an_operator_ends_all_tabs(demo: Demo, bridge: Bridge) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{bridge.url}/users/alice/disconnect") as response:
        assert response.status == 202
    for number in (0, 1):
        await expect(demo.tab(number).locator(".badge")).to_have_text("closed 4509")
        why = demo.tab(number).locator(".why")
        await expect(why).to_have_text("4509 force_disconnect: an operator ended the session. Does not reconnect.")
    await demo.open_tabs(2)
    await demo.press("Connect alice, tab 2")  # a person may reconnect
    await demo.open_tabs(1)


async def test_demo_page_on_an_internal_port_works(browser: Browser) -> None:
    internal = free_port()
    async with Bridge(INTERNAL_PORT=str(internal)) as bridge, await browser.new_context() as context:
        demo = Demo(await context.new_page())
        demo.watch()
        await demo.page.goto(f"http://127.0.0.1:{internal}")
        await demo.open_tabs(0, 1, 2)
        await expect(demo.browser(ALICE).locator(".address")).to_contain_text(f"ws://127.0.0.1:{bridge.port}/ws")
        await demo.network(ALICE, "no WebSockets")
        await demo.link(ALICE, "1 event stream for 2 tabs")
        await demo.publish(ALICE, "From elsewhere")
        await demo.shows(1, "From elsewhere")
        assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_describes_every_close_code() -> None:
    page = (ROOT / "wsbridge" / "web" / "static" / "demo" / "tab.js").read_text(encoding="utf-8")
    (table,) = re.findall(r"const MEANING = \{(.*?)\};", page, re.DOTALL)
    closes = json.loads((ROOT / "tests" / "vectors" / "closes.json").read_text(encoding="utf-8"))["closes"]
    assert {str(close["code"]) for close in closes} <= set(re.findall(r"(\d{4}): '", table))


async def test_demo_does_not_scroll_sideways(demo: Demo) -> None:
    await demo.publish(ALICE, "Verylongwordwithoutanybreak" * 8)
    await expect(demo.tab(1).locator(".tasks label")).to_have_count(1)
    await expect(demo.page.locator("#chain .dot")).to_have_count(0)
    for width in (390, 320, 641, 801, 1001, 1280, 2560):
        await demo.page.set_viewport_size({"width": width, "height": 844})
        wider = (
            "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth).map(node => node.id || node.className)"
        )
        parts = demo.page.locator("html, body, .browser, .tab, .log, .tasks, #steps, #chain, #next")
        assert await parts.evaluate_all(wider) == [], width


async def test_demo_loads_nothing_from_other_hosts(demo: Demo, bridge: Bridge) -> None:
    asked: list[str] = []
    demo.page.on("request", lambda request: asked.append(request.url))
    await demo.page.reload()
    await demo.open_tabs(0, 1, 2)
    assert f"{bridge.url}/client.js" in asked
    assert [url for url in asked if not url.startswith((bridge.url, "data:"))] == []


async def test_demo_story_ticks_each_step_off_when_it_has_happened(demo: Demo) -> None:
    await demo.is_done()
    await demo.press("Publish for alice")
    await demo.is_done(0)
    await demo.press("Unplug alice")
    await expect(demo.edge(ALICE)).to_have_attribute("data-state", "broken")
    await demo.press("Publish the first")
    await expect(demo.edge(ALICE)).to_contain_text("1 event waits")
    await demo.is_done(0)
    await demo.press("Publish the second")
    await expect(demo.edge(ALICE)).to_contain_text("2 events wait")
    await demo.is_done(0, 1)
    await demo.press("Plug alice in")
    await demo.is_done(0, 1, 2)
    await expect(demo.edge(ALICE)).not_to_contain_text("wait")
    await demo.marks(0, "Call the dentist", "Book the night train")
    await expect(demo.page.get_by_text("That is the promise")).to_be_hidden()
    await demo.press("Block WebSockets")
    await demo.press("Publish for alice")
    await demo.is_done(0, 1, 2, 3)
    await expect(demo.page.get_by_text("That is the promise")).to_be_visible()
    await expect(demo.page.locator("#steps button:visible")).to_have_count(0)
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_story_ticks_nothing_off_for_bob_or_for_a_gap(demo: Demo, bridge: Bridge) -> None:
    await demo.publish(BOB, "Mow the lawn")
    await demo.shows(2, "Mow the lawn")
    await demo.is_done()
    await demo.network(ALICE, "offline")
    for title in ("One", "Two"):
        await demo.publish(ALICE, title)
    await demo.is_done(1)
    await bridge.stop(signal.SIGKILL)
    await bridge.start()  # its history was in memory, so both are lost
    await demo.network(ALICE, "online")
    await expect(demo.tab(0).locator(".gap")).to_contain_text("Gap (reset)")
    await demo.is_done()
    assert demo.errors == []


async def test_demo_picture_lets_an_event_of_another_publisher_travel_to_each_tab(demo: Demo, bridge: Bridge) -> None:
    await expect(demo.page.locator("#chain .dot")).to_have_count(0)  # those of the connections that have opened
    await demo.page.evaluate(
        """() => {
            window.dots = [];
            const added = (all) => all.flatMap(({addedNodes}) => [...addedNodes]);
            const seen = (all) => dots.push(...added(all).map(({dataset}) => dataset.user));
            new MutationObserver(seen).observe(document.getElementById('chain'), {childList: true});
        }"""
    )
    event = {"event_type": "task.created", "user_id": ALICE, "task_id": "1", "title": "From elsewhere"}
    async with aiohttp.ClientSession() as http, http.post(f"{bridge.url}/events/task-updates", json=event) as response:
        assert response.status == 200
    await demo.shows(1, "From elsewhere")
    await demo.page.wait_for_function("dots.length >= 3")
    assert await demo.page.evaluate("dots") == [None, "alice", "alice"]
    await expect(demo.page.locator("#chain .dot")).to_have_count(0)  # each ends by itself
    assert (demo.complaints, demo.errors) == ([], [])


async def test_demo_wire_says_what_a_message_means_and_unfolds_to_the_message(demo: Demo) -> None:
    await demo.publish(ALICE, "Buy milk")
    row = demo.browser(ALICE).locator(".log details", has_text="task_update").first
    await expect(row.locator("summary")).to_contain_text("task_update task.created “Buy milk” at")
    await expect(row.locator("pre")).to_be_hidden()
    await row.locator("summary").click()
    await expect(row.locator("pre")).to_be_visible()


async def test_demo_names_commands_and_a_page_for_this_bridge(demo: Demo, bridge: Bridge) -> None:
    page = await demo.page.locator("#page").inner_text()
    opened = await demo.page.context.new_page()
    await opened.route(f"{bridge.url}/copied", lambda route: route.fulfill(body=page, content_type="text/html"))
    await opened.goto(f"{bridge.url}/copied")
    await expect(demo.page.locator("#bridge")).to_contain_text("3 connections")
    await demo.publish(ALICE, "Copied")
    await expect(opened.locator("body")).to_contain_text("Copied")


async def test_demo_of_a_bridge_with_other_topics_publishes_to_its_first(browser: Browser) -> None:
    """The form, both commands and the copied page have that topic and its message type; the tabs show all topics."""
    async with Bridge(TOPICS="orders=order_update,audit=audit") as bridge, await browser.new_context() as context:
        demo = Demo(await context.new_page())
        demo.watch()
        await demo.page.goto(bridge.url)
        await demo.open_tabs(0, 1, 2)
        await demo.publish(ALICE, "Buy milk")
        await demo.shows(0, "Buy milk")
        await expect(demo.page.locator("#command")).to_contain_text(f"--topic orders --url {bridge.url}")
        curl = await demo.page.locator("#curl").inner_text()
        assert curl.startswith(f"curl {bridge.url}/events/orders -H ")
        assert "client.on('order_update'," in await demo.page.locator("#page").inner_text()
        async with bridge.http() as http:
            task = {"event_type": "task.created", "user_id": BOB, "task_id": "1", "title": "Mow the lawn"}
            await http.post(f"{bridge.url}/events/audit", json=cloud_event(task))
        await demo.shows(2, "Mow the lawn")
        assert (demo.complaints, demo.errors) == ([], [])


@pytest.mark.engines("chromium", reason="axe judges the page, whatever engine shows it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_demo_has_no_violation_of_accessibility(
    browser: Browser, bridge: Bridge, scheme: Any, width: int
) -> None:
    """Axe's rules, at the start and at the end of the story."""
    async with await browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    ) as context:
        demo = Demo(await context.new_page())
        await demo.page.goto(bridge.url)
        await demo.open_tabs(0, 1, 2)
        assert await violations(demo.page) == []
        for button in ("Publish for alice", "Unplug alice", "Publish the first", "Publish the second"):
            await demo.press(button)
        await demo.is_done(0, 1)
        assert await violations(demo.page) == []
        for button in ("Plug alice in", "Block WebSockets", "Publish for alice"):
            await demo.press(button)
        await demo.is_done(0, 1, 2, 3)
        await demo.page.locator(".log details summary").first.click()
        assert await violations(demo.page) == []
        await expect(demo.page.locator("#chain .dot")).to_have_count(0)


async def violations(page: Page) -> list[str]:
    results = await Axe().run(page)
    return [
        f"{violation['id']}: {node['html']}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]


async def test_demo_shows_the_proof_on_the_first_screen_of_a_phone(browser: Browser, bridge: Bridge) -> None:
    async with await browser.new_context(viewport={"width": 390, "height": 844}) as context:
        demo = Demo(await context.new_page())
        await demo.page.goto(bridge.url)
        await demo.open_tabs(0, 1, 2)
        for button in ("Publish for alice", "Unplug alice", "Publish the first", "Publish the second", "Plug alice in"):
            await demo.press(button)
        await demo.is_done(0, 1, 2)
        for number in (0, 1):
            await expect(demo.tab(number).locator(".late").first).to_be_in_viewport()
        assert await demo.page.evaluate("scrollY") == 0
