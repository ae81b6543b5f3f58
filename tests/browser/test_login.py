"""The example of a login: its page with each of its servers, started by the commands of its README."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from asyncio.subprocess import create_subprocess_shell
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.running import DEADLINE, ROOT, SECRET, until_told
from tests.support.valkey import free_port

# isort: split

from playwright.async_api import Browser, BrowserContext, Page, Route, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

FOLDER = ROOT / "examples" / "login"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"^\| (\w+) \| `(\w+ [\w.]+)` \|", README, re.MULTILINE))
PROGRAMS = {"Python": sys.executable, "Node": "node", "Java": "java"}


@contextlib.asynccontextmanager
async def serving(language: str, **environ: str) -> AsyncIterator[None]:
    """The server in this language, once it answers."""
    program, _, file = COMMANDS[language].partition(" ")
    if shutil.which("javac" if language == "Java" else PROGRAMS[language]) is None:
        pytest.skip(f"{program} is not installed, or has no compiler")
    command = f"exec {PROGRAMS[language]} {file}"
    process = await create_subprocess_shell(command, cwd=FOLDER, env=os.environ | environ)
    try:
        async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as http:

            async def told() -> bool:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with http.get(f"http://127.0.0.1:{environ['PORT']}/me") as response:
                        return response.status == 401
                assert process.returncode is None
                return False

            await until_told(told)
        yield
    finally:
        process.kill()
        await process.wait()


async def break_off_a_login(port: int) -> None:
    """A server that does not survive this fails the rest of the test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nname=")
    await writer.drain()
    writer.write_eof()
    async with asyncio.timeout(DEADLINE):
        await reader.read()
    writer.close()


async def log_in(page: Page, name: str) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Log in").click()
    await live(page, name)


async def live(page: Page, name: str) -> None:
    await expect(page.locator("#user")).to_have_text(name)
    await expect(page.locator("#status")).to_have_text("open")


async def publish(bridge: Bridge, user: str, title: str) -> None:
    task = {"event_type": "task.created", "user_id": user, "task_id": title, "title": title}
    async with bridge.http() as http, http.post(f"{bridge.url}/events/task-updates", json=task) as response:
        assert await response.json() == {"status": "SUCCESS"}


@pytest.mark.parametrize("language", PROGRAMS)
async def test_page_follows_login_logout_and_switch_of_the_user_in_all_tabs(browser: Browser, language: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        Bridge(JWT_SECRET=SECRET, ALLOWED_ORIGINS=url) as bridge,
        serving(language, PORT=str(port), BRIDGE=bridge.url, WSBRIDGE_JWT_SECRET=SECRET),
        await browser.new_context() as context,
    ):
        await break_off_a_login(port)
        first = await context.new_page()
        await first.goto(url)
        await log_in(first, "alice")
        second = await context.new_page()
        await second.goto(url)
        await live(second, "alice")

        await publish(bridge, "alice", "For alice")
        for page in (first, second):
            await expect(page.locator("li")).to_have_text(["A task of alice", "For alice"])

        await first.get_by_role("button", name="Log out").click()
        for page in (first, second):
            await expect(page.locator("#session")).to_be_hidden()

        async def nobody() -> bool:
            return not (await bridge.ask("/stats"))["users"]

        await until_told(nobody)
        await log_in(first, "bob")
        await publish(bridge, "alice", "While bob is here")
        await publish(bridge, "bob", "For bob")
        await expect(first.locator("li")).to_have_text(["A task of bob", "For bob"])
        await second.evaluate("dispatchEvent(new Event('focus'))")
        await live(second, "bob")

        await log_in(second, "alice")  # without a logout
        await expect(first.locator("#session")).to_be_hidden()
        await first.evaluate("dispatchEvent(new Event('focus'))")
        await live(first, "alice")
        await publish(bridge, "alice", "For alice again")
        for page in (first, second):
            await expect(page.locator("li")).to_have_text(["A task of alice", "For alice again"])

        await context.request.post(f"{url}/login", form={"name": "bob"})  # both tabs are still alice's
        async with bridge.http() as http:
            await http.post(f"{bridge.url}/users/alice/disconnect")
        for page in (first, second):
            await live(page, "bob")
            await expect(page.locator("li")).to_have_text(["A task of bob"])


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(browser: Browser) -> AsyncIterator[tuple[BrowserContext, Page, Page]]:
    """Two tabs of alice, and their context."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        Bridge(JWT_SECRET=SECRET, ALLOWED_ORIGINS=url) as bridge,
        serving("Python", PORT=str(port), BRIDGE=bridge.url, WSBRIDGE_JWT_SECRET=SECRET),
        await browser.new_context() as context,
    ):
        pages = first, second = await context.new_page(), await context.new_page()
        for page in pages:
            await page.goto(url)
        await log_in(first, "alice")
        await second.reload()
        await live(second, "alice")
        yield context, first, second


async def test_focus_during_a_logout_asks_for_the_user_only_after_it(
    tabs: tuple[BrowserContext, Page, Page],
) -> None:
    context, *pages = tabs
    asked: list[str] = []
    logging_out, answer = asyncio.Event(), asyncio.Event()

    async def slow(route: Route) -> None:
        logging_out.set()
        await answer.wait()
        asked.append("/logout")
        await route.continue_()

    async def user(route: Route) -> None:
        asked.append("/me")
        await route.continue_()

    await context.route("**/logout", slow)
    await context.route("**/me", user)
    await pages[0].get_by_role("button", name="Log out").click()
    await asyncio.wait_for(logging_out.wait(), DEADLINE)
    for page in pages:
        await expect(page.locator("#session")).to_be_hidden()
        await page.evaluate("dispatchEvent(new Event('focus'))")
    waiting = "async () => (await navigator.locks.query()).pending.filter(({ name }) => name === 'session').length"
    assert await pages[0].evaluate(waiting) == 2
    answer.set()

    async def told() -> bool:
        return asked == ["/logout", "/me", "/me"]

    await until_told(told)
    for page in pages:
        await expect(page.get_by_label("Name")).to_be_visible()
        await expect(page.get_by_role("button", name="Log out")).to_be_hidden()
        await expect(page.locator("#session")).to_be_hidden()


@pytest.mark.parametrize("failure", ["500", "unreachable"])
async def test_page_whose_logout_fails_says_so_and_offers_it_again(
    tabs: tuple[BrowserContext, Page, Page], failure: str
) -> None:
    context, first, second = tabs
    errors: list[str] = []
    first.on("pageerror", lambda error: errors.append(str(error)))
    await context.route(
        "**/logout", lambda route: route.abort() if failure == "unreachable" else route.fulfill(status=500)
    )
    logout = first.get_by_role("button", name="Log out")
    await logout.click()
    await expect(first.get_by_role("alert")).to_contain_text("The logout failed")
    await expect(first.locator("#session")).to_be_hidden()
    await second.evaluate("dispatchEvent(new Event('focus'))")
    await live(second, "alice")  # the session continues

    await context.unroute("**/logout")
    await logout.click()
    await expect(first.get_by_role("alert")).to_be_empty()
    await expect(logout).to_be_hidden()
    await expect(second.locator("#session")).to_be_hidden()  # closed once more
    assert errors == []


async def test_page_whose_request_was_refused_connects_again_while_the_user_is_logged_in(
    tabs: tuple[BrowserContext, Page, Page],
) -> None:
    _, page, _ = tabs
    await page.route("**/tasks?*", lambda route: route.fulfill(status=401), times=1)
    await page.reload()
    await expect(page.locator("#tasks li")).to_have_text("A task of alice")  # of the second load
    await live(page, "alice")
