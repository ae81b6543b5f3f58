"""Builds a page of Next.js from the code in docs/frameworks.md, runs it in Next.js' own server, and follows a user."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.deliveries import cloud_event
from tests.support.guide import USER, code
from tests.support.node_modules import installed
from tests.support.node_servers import copy_client, listening
from tests.support.running import ROOT, SECRET
from tests.support.shell import output
from tests.support.valkey import free_port

# isort: split

from playwright.async_api import Browser, expect

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.engines("chromium", reason="the guide's code is run in one engine"),
]

LAYOUT = """
import type { ReactNode } from 'react';
import { Live } from './live';
import { currentUser } from './token/session';

export default async function Layout({ children }: { children: ReactNode }) {
  const user = await currentUser();
  return <html><body><Live userId={user}>{children}</Live></body></html>;
}
"""
PAGE = """
'use client';

import { useState } from 'react';
import { useConnectionState, useEvent } from 'wsbridge-client/react';

export default function Page() {
  const [titles, setTitles] = useState<string[]>([]);
  const { status } = useConnectionState();
  useEvent('task_update', ({ event }) => setTitles((titles) => [...titles, event.title]));
  return <ul aria-busy={status !== 'open'}>{titles.map((title) => <li key={title}>{title}</li>)}</ul>;
}
"""
SESSION = f"export async function currentUser() {{ return '{USER}'; }}"


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder below the one with the packages: Next.js follows no links out of it."""
    folder = installed(ROOT / "tests" / "next_page").parent / uuid.uuid4().hex
    (folder / "app" / "token").mkdir(parents=True)
    copy_client(folder)
    yield folder
    shutil.rmtree(folder)


async def test_guide_next_page_is_built_and_follows_the_user_of_the_session(browser: Browser, project: Path) -> None:
    async with Bridge(JWT_SECRET=SECRET, ALLOWED_ORIGINS="*") as bridge:
        files = {
            "layout.tsx": LAYOUT,
            "live.tsx": code("Next.js", "tsx").replace("http://localhost:8004", bridge.url),
            "page.tsx": PAGE,
            "token/route.ts": code("Next.js", "ts"),
            "token/session.ts": SESSION,
        }
        for name, text in files.items():
            (project / "app" / name).write_text(text, encoding="utf-8")
        environ = {"NEXT_TELEMETRY_DISABLED": "1", "WSBRIDGE_JWT_SECRET": SECRET}
        command = ("node", project.parent / "node_modules" / "next" / "dist" / "bin" / "next")
        await output(*command, "build", within=300, cwd=project, env=environ)
        port = free_port()
        start = (*command, "start", "--hostname", "127.0.0.1", "--port", str(port))
        async with listening(*start, cwd=project, **environ), await browser.new_context() as context:
            page = await context.new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.get_by_role("list")).to_have_attribute("aria-busy", "false")
            task = {"event_type": "task.created", "user_id": USER, "title": "Buy milk"}
            async with bridge.http() as http:
                await http.post(f"{bridge.url}/events/task-updates", json=cloud_event(task))
            await expect(page.get_by_role("listitem")).to_have_text(["Buy milk"])
