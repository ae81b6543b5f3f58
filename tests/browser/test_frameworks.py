"""Runs the code of docs/frameworks.md for Vue, Svelte, RxJS and Angular verbatim, with these frameworks, in a page."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.bundled import bundled
from tests.support.guide import USER, Site, code, module
from tests.support.running import until_told

# isort: split

from playwright.async_api import Browser, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

# Each entry shows the list and defines `leave`, which takes it away.
BEGIN = """
const main = document.querySelector('main');
const userId = 'alice';
"""
ENTRIES = {
    "Vue": """
import { createApp } from 'vue';
import App from './App.vue';
const app = createApp(App);
app.mount(main);
window.leave = () => app.unmount();
""",
    "Svelte": """
import { mount, unmount } from 'svelte';
import TaskList from './TaskList.svelte';
const app = mount(TaskList, { target: main, props: { userId } });
window.leave = () => unmount(app);
""",
    "RxJS": """
import { createClient } from 'wsbridge-client';
import { followed, messages } from './rxjs.js';
import { tasksOf } from './tasks';
const client = createClient({ url: '/ws', userId });
const list = document.createElement('ul');
main.append(list);
const item = ({ title }) => Object.assign(document.createElement('li'), { textContent: title });
const subscription = followed(client, tasksOf(client)).subscribe((tasks) => list.replaceChildren(...tasks.map(item)));
subscription.add(messages(client, 'state').subscribe(({ status }) => (list.ariaBusy = `${status !== 'open'}`)));
subscription.add(() => client.close());
window.leave = () => (subscription.unsubscribe(), list.remove());
""",
    "Angular": """
import '@angular/compiler';
import { bootstrapApplication } from '@angular/platform-browser';
import { TaskList } from './angular.ts';
main.append(document.createElement('app-tasks'));
const app = await bootstrapApplication(TaskList);
window.leave = () => app.destroy();
""",
}


@pytest_asyncio.fixture(loop_scope="module")
async def site(browser: Browser, service: Bridge) -> AsyncIterator[Site]:
    async with await browser.new_context() as context, Site(service, context) as site:
        yield site


@pytest.mark.parametrize("heading", ENTRIES)
async def test_guide_component_shows_the_followed_state_until_it_is_unmounted(
    site: Site, tmp_path: Path, heading: str
) -> None:
    name, language = heading.lower(), "ts" if heading in ("Angular", "Vue") else "js"
    files = {
        "tasks.ts": code("Vue, Svelte, RxJS", "ts"),
        f"{name}.{language}": code(heading, language),
    }
    if name in ("vue", "svelte"):
        files[f"TaskList.{name}"] = code(heading, name)
    if name == "vue":
        files["App.vue"] = code(heading, name, 2)
    files["entry.js"] = BEGIN + ENTRIES[heading]
    files = {name: text.replace("'/ws'", f"'{site.proxy.url}/ws'") for name, text in files.items()}
    site.tasks = [{"task_id": "Old", "title": "Old"}]
    site.ready.clear()
    page = await site.open(f"<main></main>{module(bundled(tmp_path, files))}")
    items, ul = page.locator("li"), page.locator("ul")
    if heading != "RxJS":  # which emits nothing until then
        await expect(page.get_by_text("Loading…")).to_be_visible()
        await expect(ul).to_have_count(0)
    site.ready.set()
    await expect(items).to_have_text(["Old"])
    await expect(ul).to_have_attribute("aria-busy", "false")
    await expect(page.get_by_text("Loading…")).to_have_count(0)
    await site.publish("New")
    await expect(items).to_have_text(["Old", "New"])
    await site.publish_offline("Old", "Last")
    await expect(items).to_have_text(["Old", "New", "Last"])
    await site.publish("New", event_type="task.deleted")
    await expect(items).to_have_text(["Old", "Last"])

    await page.evaluate("leave()")
    await expect(ul).to_have_count(0)

    async def nobody() -> bool:
        return not (await site.bridge.ask("/stats"))["users"].get(USER)

    await until_told(nobody)
