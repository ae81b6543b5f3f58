"""The page and the backend of examples/tasks-page, and the guide's apps on that backend, in React with Vite and in Vue.

The guide's test for Playwright tests one of these apps.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from tests.support.browser import (  # before playwright: it skips the tests if that is not installed
    DEADLINE,
    FLAGS,
    Bridge,
)
from tests.support.bundled import bundled
from tests.support.deliveries import cloud_event
from tests.support.engines import program
from tests.support.guide import USER, code, module
from tests.support.node_modules import installed
from tests.support.node_servers import copy_client, listening
from tests.support.proxy import FaultyProxy
from tests.support.running import ROOT, until_told
from tests.support.shell import output
from tests.support.valkey import free_port

# isort: split

from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, expect

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.engines("chromium", reason="the guide's code is run in one engine"),
]

EXAMPLE = ROOT / "examples" / "tasks-page"
MAIN = """
import { createElement, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import App from './App.tsx';
createRoot(document.querySelector('#root')).render(createElement(StrictMode, null, createElement(App)));
"""  # as in Vite's template
INDEX = '<!doctype html><div id="root"></div><script type="module" src="/src/main.js"></script>'
TOASTS, PENDING, QUERIES = "toasts", "pending", "queries"  # the folders of other apps in the same server


class Scene:
    """A bridge behind a network that can fail, and the example's backend, which serves a folder."""

    def __init__(self, bridge: Bridge, context: BrowserContext) -> None:
        self.proxy = FaultyProxy(bridge.port)
        self.context = context
        self.backend = free_port()
        self.bridge = bridge

    def adapt(self, text: str) -> str:
        """The code with the ports of the test."""
        return text.replace("localhost:8004", f"127.0.0.1:{self.proxy.port}").replace(
            "localhost:3000", f"127.0.0.1:{self.backend}"
        )

    @asynccontextmanager
    async def serving(self, folder: Path, **environ: str) -> AsyncIterator[None]:
        environ = {"PORT": str(self.backend), "BRIDGE": self.bridge.url, **environ}
        async with listening("node", EXAMPLE / "server.mjs", cwd=folder, **environ):
            yield

    async def open(self, port: int) -> Page:
        page = await self.context.new_page()
        await page.goto(f"http://127.0.0.1:{port}/")
        await expect(page.locator("[aria-busy]")).to_have_attribute("aria-busy", "false")
        return page


async def add(page: Page, title: str) -> None:
    await page.get_by_label("New task").fill(title)
    await page.get_by_role("button", name="Add").click()


def row(page: Page, title: str) -> Locator:
    """The item of the task, and not that which is the last of a list which the task is not in yet."""
    return page.get_by_role("listitem").filter(has_text=re.compile(f"^{re.escape(title)} "))


@pytest_asyncio.fixture(loop_scope="module")
async def scene(browser: Browser) -> AsyncIterator[Scene]:
    async with Bridge() as bridge, await browser.new_context() as context:
        scene = Scene(bridge, context)
        async with scene.proxy:
            yield scene


async def test_tasks_page_shows_changes_in_each_tab_and_after_an_outage(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(scene.adapt((EXAMPLE / "index.html").read_text("utf-8")), "utf-8")
    async with scene.serving(tmp_path):
        tabs = [await scene.open(scene.backend) for _ in range(2)]
        await add(tabs[0], "Buy milk")
        for tab in tabs:
            await expect(tab.get_by_role("listitem")).to_have_text(["Buy milk Done"])
        await scene.proxy.refuse()
        scene.proxy.cut()
        await add(tabs[1], "Buy bread")
        for tab in tabs:
            await expect(tab.get_by_role("status")).to_contain_text("Offline")
        await scene.proxy.listen()
        for tab in tabs:
            await expect(tab.get_by_role("listitem")).to_have_text(["Buy milk Done", "Buy bread Done"])
            await expect(tab.get_by_role("status")).to_be_empty()
        await tabs[0].get_by_role("button", name="Done").first.click()
        await expect(tabs[1].get_by_role("listitem")).to_have_text(["Buy bread Done"])
        later = await scene.open(scene.backend)
        await expect(later.get_by_role("listitem")).to_have_text(["Buy bread Done"])


async def test_tasks_backend_answers_a_repeated_request_as_the_first_and_adds_nothing(scene: Scene) -> None:
    url = f"http://127.0.0.1:{scene.backend}/api/tasks"
    async with scene.serving(EXAMPLE), scene.bridge.http() as http:

        async def ask(method: str, path: str = "", **task: str) -> Any:
            async with http.request(method, url + path, json=task) as response:
                assert response.status == 200
                return await response.json()

        first = await ask("POST", task_id="7", title="Buy milk")
        await ask("PATCH", "/7", title="Buy oats")
        assert await ask("POST", task_id="7", title="Buy milk") == first
        assert await ask("GET") == [{"task_id": "7", "title": "Buy oats"}]
        duplicate = 'wsbridge_events_received_total{outcome="duplicate"} 1'

        async def is_dropped() -> bool:
            async with http.get(f"{scene.bridge.url}/metrics") as response:
                return duplicate in await response.text()

        await until_told(is_dropped)


async def test_tasks_page_clears_itself_when_the_backend_refuses_its_user(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(scene.adapt((EXAMPLE / "index.html").read_text("utf-8")), "utf-8")
    async with scene.serving(tmp_path):
        tab = await scene.open(scene.backend)
        await add(tab, "Buy milk")
        await expect(tab.get_by_role("listitem")).to_have_text(["Buy milk Done"])
        answer = await scene.context.request.get(f"http://127.0.0.1:{scene.backend}/api/tasks?user=bob")
        assert answer.status == 403
        await tab.route("**/api/tasks?user=alice", lambda route: route.fulfill(status=401))
        await add(tab, "Buy bread")
        await expect(tab.get_by_role("status")).to_contain_text("log in again")
        await expect(tab.get_by_role("listitem")).to_have_count(0)
        await expect(tab.get_by_role("button", name="Add")).to_be_hidden()


def write_react(scene: Scene, app: Path) -> None:
    """The guide's React apps, in one folder for Vite."""
    modules = installed(ROOT / "tests" / "clients")
    five, react, query = "Five minutes with React", "React", "TanStack Query"
    (app / "node_modules").mkdir(parents=True)
    for each in modules.iterdir():
        (app / "node_modules" / each.name).symlink_to(each)
    copy_client(app)
    (app / "src").mkdir()
    files = {
        "index.html": INDEX,
        "package.json": '{"type": "module"}',
        "src/main.js": MAIN,
        "src/tasks.ts": code(five, "ts", 2),
        "src/App.tsx": code(five, "tsx"),
        "vite.config.ts": code(five, "ts"),
        f"{TOASTS}/src/main.js": MAIN.replace("import App", "import { App }"),
        f"{TOASTS}/src/App.tsx": code(react, "tsx"),
        f"{PENDING}/src/usePending.ts": code(react, "ts"),
        f"{PENDING}/src/Live.tsx": code(react, "tsx", 2),
        f"{PENDING}/src/TaskList.tsx": code(react, "tsx", 4),
        f"{QUERIES}/src/Live.tsx": code(query, "tsx"),
        f"{QUERIES}/src/TaskList.tsx": code(query, "tsx", 2),
    }
    for folder in (PENDING, QUERIES):
        files[f"{folder}/src/main.js"] = MAIN
        files[f"{folder}/src/App.tsx"] = code(react, "tsx", 3)
        files[f"{folder}/src/tasks.ts"] = files["src/tasks.ts"]
        files[f"{folder}/src/Notice.tsx"] = code(react, "tsx", 5)
    for folder in (TOASTS, PENDING, QUERIES):
        (app / folder / "src").mkdir(parents=True)
        files[f"{folder}/index.html"] = INDEX.replace("/src", "./src")
    for name, text in files.items():
        (app / name).write_text(scene.adapt(text), encoding="utf-8")


def write_vue(scene: Scene, folder: Path) -> None:
    """The guide's app in Vue with a login, bundled, for the backend to serve."""
    folder.mkdir()
    files = {
        "tasks.ts": code("Vue, Svelte, RxJS", "ts"),
        "vue.ts": code("Vue", "ts"),
        "usePending.ts": code("Vue", "ts", 2),
        "App.vue": code("Vue", "vue", 3).replace("'/ws'", f"'{scene.proxy.url}/ws'"),
        "TaskList.vue": code("Vue", "vue", 4),
        "main.js": "import { createApp } from 'vue';\nimport App from './App.vue';\ncreateApp(App).mount('#root');\n",
    }
    imports = {"imports": {"wsbridge-client": f"{scene.proxy.url}/client.js"}}
    text = f'<!doctype html><script type="importmap">{json.dumps(imports)}</script><div id="root"></div>'
    (folder / "index.html").write_text(text + module(bundled(folder, files)), encoding="utf-8")


@asynccontextmanager
async def vite(app: Path) -> AsyncIterator[int]:
    """The port of Vite's server."""
    port = free_port()
    program = app / "node_modules" / ".bin" / "vite"
    async with listening(program, "--host", "127.0.0.1", "--port", str(port), cwd=app):
        yield port


async def test_guide_react_app_in_vite_shows_its_own_changes_also_after_an_outage(scene: Scene, tmp_path: Path) -> None:
    app = tmp_path / "app"
    write_react(scene, app)
    write_vue(scene, tmp_path / "vue")
    async with scene.serving(tmp_path), vite(app) as port:
        tabs = [await scene.open(port) for _ in range(2)]
        await add(tabs[0], "Buy oats")
        for tab in tabs:
            await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats"])
        await expect(tabs[0].get_by_label("New task")).to_have_value("")  # React resets the form once the change shows
        await scene.proxy.refuse()
        scene.proxy.cut()
        await add(tabs[1], "Buy bread")
        await expect(tabs[0].get_by_role("main")).to_have_attribute("aria-busy", "true")
        await scene.proxy.listen()
        for tab in tabs:
            await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread"])
        for folder in (PENDING, QUERIES):
            await log_in_and_change(await scene.context.new_page(), f"http://127.0.0.1:{port}/{folder}/", tabs[0])
        vue = f"http://127.0.0.1:{scene.backend}/vue/index.html"
        await log_in_and_change(await scene.context.new_page(), vue, tabs[0])
        await play(app, scene.adapt(code("Testing your page", "ts")).replace("localhost:5173", f"127.0.0.1:{port}"))
        await show_toasts(scene, await scene.context.new_page(), port)
        await fail_to_add(scene, tabs[0])


@pytest.mark.parametrize("framework", ["react", "vue"])
async def test_guide_app_with_a_login_on_its_backend_follows_the_user_in_all_tabs(
    scene: Scene, tmp_path: Path, framework: str
) -> None:
    app = tmp_path / "app"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.serving(tmp_path, LOGIN="1"))
        if framework == "vue":
            write_vue(scene, app)
            url = f"http://127.0.0.1:{scene.backend}/app/index.html"
        else:
            write_react(scene, app)
            url = f"http://127.0.0.1:{await stack.enter_async_context(vite(app))}/{PENDING}/"
        tabs = first, second = await scene.context.new_page(), await scene.context.new_page()
        name = first.get_by_label("Name")

        async def show(*titles: str) -> None:
            for tab in tabs:
                await expect(tab.get_by_role("main")).to_have_attribute("aria-busy", "false")
                await expect(tab.get_by_role("listitem")).to_have_text([f"{title} Rename Done" for title in titles])

        await first.goto(url)
        await name.fill("alice")
        await name.press("Enter")
        await expect(first.get_by_role("main")).to_be_visible()  # before the other tab asks who is logged in
        await second.goto(url)
        await show()
        await add(first, "Buy milk")
        await show("Buy milk")
        await second.get_by_role("button", name="Rename").click()
        await show("Buy milk!")

        await scene.proxy.refuse()
        scene.proxy.cut()
        for tab in tabs:
            await expect(tab.get_by_text("Offline.")).to_be_visible()
        await scene.proxy.listen()
        await show("Buy milk!")
        for tab in tabs:
            await expect(tab.get_by_text("Offline.")).to_have_count(0)

        await first.route("**/logout", lambda route: route.fulfill(status=500))
        await first.get_by_role("button", name="Log out").click()
        for tab in tabs:
            await expect(tab.get_by_label("Name")).to_be_visible()
        await expect(first.get_by_role("alert")).to_have_text("This did not work. Please try again.")
        await first.unroute("**/logout")
        await first.get_by_role("button", name="Log out").click()
        await expect(first.get_by_role("alert")).to_be_empty()
        await expect(first.get_by_role("button", name="Log out")).to_have_count(0)

        await name.fill("bob")
        await name.press("Enter")
        await expect(first.get_by_role("main")).to_be_visible()
        await second.evaluate("dispatchEvent(new Event('focus'))")
        await show()
        await add(second, "A task of bob")
        await show("A task of bob")


class Sessions:
    """The routes of a login, and the tasks of each user, for one page. Changes of alice's tasks wait for `answer`."""

    def __init__(self) -> None:
        self.user = ""
        self.reachable = False
        self.answer = asyncio.Event()
        self.status = 0  # of the answer; 0: that of the backend
        self.sent: list[str] = []  # the methods of alice's changes

    async def route(self, route: Route) -> None:
        request = route.request
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        if not self.reachable:
            await route.abort()
        elif path == "/me":
            await route.fulfill(status=200 if self.user else 401, body=self.user)
        elif path in ("/login", "/logout"):
            self.user = parse_qs(request.post_data or "").get("name", [""])[0]
            await route.fulfill(status=204)
        elif query["user"] != [self.user]:
            await route.fulfill(status=403)
        elif self.user != USER:
            await route.fulfill(json=[{"task_id": "1", "title": f"A task of {self.user}"}])
        else:
            if request.method != "GET":
                self.sent.append(request.method)
                await self.answer.wait()
            await (route.fulfill(status=self.status) if self.status else route.continue_())


async def log_in_and_change(page: Page, url: str, tab: Page) -> None:
    """An app with a login shows its own changes at once, takes back those that fail, and nothing of another user.

    `tab` has another app, of alice.
    """
    sessions = Sessions()
    await page.route(re.compile(r"/(me|login|logout|api/tasks.*)$"), sessions.route)
    await page.goto(url)
    name, done = page.get_by_label("Name"), page.get_by_role("button", name="Done")

    async def shows(*titles: str) -> None:
        texts = [re.compile(f"^{title} (Rename )?Done$") for title in titles]
        await expect(page.get_by_role("listitem")).to_have_text(texts)

    await expect(page.get_by_text("The server is unreachable.")).to_be_visible()
    await expect(name).to_have_count(0)
    sessions.reachable = True
    await page.get_by_role("button", name="Try again").click()
    await name.fill(USER)
    await name.press("Enter")
    await shows("Buy oats", "Buy bread")

    sessions.status = 500
    await add(page, "Buy tea")
    await shows("Buy oats", "Buy bread", "Buy tea")
    sessions.answer.set()
    await expect(page.get_by_role("alert").last).to_contain_text("may not have been saved")
    await shows("Buy oats", "Buy bread")
    rename = page.get_by_role("button", name="Rename")
    if await rename.count():  # one of the apps has none
        async with page.expect_request(lambda request: request.method == "PATCH") as sent:
            await rename.first.click()
        assert (await sent.value).post_data_json == {"title": "Buy oats!"}
        await shows("Buy oats", "Buy bread")

    sessions.answer.clear()
    sessions.status = 0
    if await rename.count():
        await refuse_once(page)
        await change_twice(page, sessions, tab)
    await remove_before_it_is_saved(page, sessions, tab)
    await done.first.click()
    await add(page, "Buy oats")  # a new task, at the end
    await shows("Buy bread", "Buy oats")
    await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread"])
    sessions.answer.set()
    await expect(tab.get_by_role("listitem")).to_have_text(["Buy bread", "Buy oats"])
    await done.first.click()
    await add(page, "Buy bread")
    await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread"])
    await shows("Buy oats", "Buy bread")

    sessions.user = "bob"  # logged in by another tab
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await shows("A task of bob")
    await page.get_by_role("button", name="Log out").click()
    await expect(name).to_be_visible()
    assert sessions.user == ""
    await page.close()


async def refuse_once(page: Page) -> None:
    """A page whose client was closed by a refused request connects again, and loads, if the user is still logged in."""

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401)
        await page.unroute("**/api/tasks/*")

    await page.route("**/api/tasks/*", refuse)
    async with page.expect_request(lambda request: request.method == "GET" and "/api/tasks" in request.url):
        await page.get_by_role("button", name="Done").first.click()
    await expect(page.get_by_role("main")).to_have_attribute("aria-busy", "false")
    await expect(page.get_by_role("listitem")).to_have_text(["Buy oats Rename Done", "Buy bread Rename Done"])


async def change_twice(page: Page, sessions: Sessions, tab: Page) -> None:
    """A rename of a new task waits for the task, and does not bring it back if another tab has deleted it."""
    items = page.get_by_role("listitem")
    sessions.sent.clear()
    await add(page, "Buy tea")
    await row(page, "Buy tea").get_by_role("button", name="Rename").click()
    await expect(items.last).to_have_text("Buy tea! Rename Done")
    assert sessions.sent == ["POST"]
    sessions.answer.set()
    await expect(tab.get_by_role("listitem").last).to_have_text("Buy tea!")
    assert sessions.sent == ["POST", "PATCH"]

    sessions.answer.clear()
    async with page.expect_request(lambda request: request.method == "PATCH") as sent:
        await row(page, "Buy tea!").get_by_role("button", name="Rename").click()
    await expect(items.last).to_have_text("Buy tea!! Rename Done")
    await page.context.request.delete((await sent.value).url)  # by another tab
    await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread"])
    await expect(items).to_have_text(["Buy oats Rename Done", "Buy bread Rename Done"])
    sessions.answer.set()
    await expect(page.get_by_role("alert").last).to_contain_text("may not have been saved")
    sessions.answer.clear()


async def remove_before_it_is_saved(page: Page, sessions: Sessions, tab: Page) -> None:
    """The request that removes a new task is sent after the answer to the one that adds it."""
    sessions.sent.clear()
    await add(page, "Buy salt")
    await row(page, "Buy salt").get_by_role("button", name="Done").click()
    await expect(page.get_by_role("listitem")).to_have_count(2)
    assert sessions.sent == ["POST"]
    async with page.expect_response(lambda response: response.request.method == "DELETE" and response.ok):
        sessions.answer.set()
    await expect(tab.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread"])
    sessions.answer.clear()


async def show_toasts(scene: Scene, page: Page, port: int) -> None:
    """The app with toasts shows an event once that arrives again with the same id, as after a restart of the bridge."""
    await page.goto(f"http://127.0.0.1:{port}/{TOASTS}/")
    await expect(page.get_by_role("list")).to_have_attribute("title", re.compile("^open"))
    for source, title in ("a", "One"), ("b", "One"), ("a", "Two"):  # to the bridge, another source is another event
        task = {"event_type": "task.created", "user_id": "alice", "task_id": title, "title": title}
        event = cloud_event(task, id=title, source=source)
        async with scene.bridge.http() as http:
            await http.post(f"{scene.bridge.url}/events/task-updates", json=event)
    await expect(page.get_by_role("listitem")).to_have_text(["One", "Two"])


async def fail_to_add(scene: Scene, page: Page) -> None:
    """Neither a rejected `settled` nor a failed request makes React unmount the app."""
    await page.bring_to_front()  # a page behind another one reacts slowly
    async with scene.bridge.http() as http:
        await http.post(f"{scene.bridge.url}/users/alice/disconnect")
    await expect(page.get_by_role("main")).to_have_attribute("aria-busy", "true")
    await add(page, "Buy eggs")  # `settled` rejects at once, because the client is closed
    await expect(page.get_by_label("New task")).to_have_value("")
    await expect(page.get_by_role("alert")).to_be_empty()
    await page.route("**/api/tasks?*", lambda route: route.fulfill(status=500))
    await add(page, "Buy salt")
    await expect(page.get_by_role("alert")).to_have_text("The task may not have been saved.")
    await expect(page.get_by_role("listitem")).to_have_text(["Buy oats", "Buy bread", "Buy milk", "One", "Two"])


async def play(app: Path, test: str) -> None:
    """Run a test in Playwright for Node."""
    (app / "outage.spec.ts").write_text(test, encoding="utf-8")
    launch = {"executablePath": program("chromium"), "args": FLAGS.split()}
    config = {"use": {"launchOptions": launch}, "reporter": "line", "timeout": DEADLINE * 1000}
    (app / "playwright.config.ts").write_text(f"export default {json.dumps(config)};", encoding="utf-8")
    command = (app / "node_modules" / ".bin" / "playwright", "test")
    assert "1 passed" in await output(*command, within=4 * DEADLINE, cwd=app)
