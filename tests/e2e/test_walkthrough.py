"""Runs the README's commands for the example backend, and checks what its reader sees."""

import collections
import contextlib
import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.chain import Chain
from tests.e2e.demo import launched, open_demo
from tests.e2e.parts import daprd, required
from tests.e2e.process import Log, Process
from tests.support import shell
from tests.support.running import ROOT, SECRET, receive, token, until, until_told
from tests.support.valkey import free_port

# isort: split

from playwright.async_api import expect

BIN = Path(sys.executable).parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def typed(start: str) -> str:
    """The command in the README's walk-through that starts with this word, with continued lines joined."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("### From backend to browser")[1].split("\n## ")[0]
    [found] = re.findall(rf"^{start}.*$", section.replace("\\\n", ""), re.MULTILINE)
    return str(found)


async def run(command: str) -> Any:
    """Run a command; return its output as JSON. `wsbridge` is the tested one and has the backend's secret."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return json.loads(await shell.typed(command, {"PATH": path, "WSBRIDGE_JWT_SECRET": SECRET}))


async def test_task_posted_with_curl_shows_in_the_terminal_and_on_the_page(chain: Chain, tmp_path: Path) -> None:
    listen = [*typed("wsbridge listen").split(), "--url", f"{chain.proxy.url}/ws".replace("http", "ws")]
    listening = Process([str(BIN / listen[0]), *listen[1:]], Log(tmp_path / "listen.log"))
    try:
        async with launched() as browser:
            page = await browser.new_page()
            await open_demo(page, chain)
            tabs = page.locator("article.tab")
            for tab in await tabs.all():
                await expect(tab.locator(".badge")).to_have_text("open")
            shown = Log(tmp_path / "listen.log")
            await until(lambda: shown.lines)
            task = await run(typed("curl").replace("127.0.0.1:8000", f"127.0.0.1:{chain.backend.port}"))
            assert (task["event_type"], task["user_id"], task["title"]) == ("task.created", "alice", "Buy milk")
            await until(lambda: len(shown.lines) > 1)
            connected, update = map(json.loads, shown.lines)
            assert (connected["type"], update["type"]) == ("connected", "task_update")
            assert update["event"] == task
            titles = [tab.locator(".tasks .title") for tab in await tabs.all()]
            for title in titles[:2]:
                await expect(title).to_have_text(["Buy milk"])
            await expect(titles[2]).to_have_count(0)
    finally:
        listening.kill()


async def test_trace_of_a_request_to_the_backend_is_in_the_bridges_log(chain: Chain) -> None:
    [pod] = chain.pods
    tab, _ = await pod.bridge.opened("alice")
    headers = {"Authorization": f"Bearer {token('alice')}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with chain.http.post(f"{chain.backend.url}/api/tasks", json={"title": "x"}, headers=headers) as response:
        assert response.status == 201
    await receive(tab)
    [published] = chain.backend.log.of("task.published")
    assert published["traceparent"].startswith(f"00-{TRACE}-")
    await until(lambda: pod.bridge.log.of("event.delivered", event_id=published["event_id"]))
    [received] = pod.bridge.log.of("event.received", event_id=published["event_id"])
    assert received["traceparent"] == published["traceparent"]


PORTS = {"--dapr-http-port": "3500", "--dapr-grpc-port": "50001", "--metrics-port": "9090"}  # Dapr's defaults


@pytest.mark.fault("A2")
@pytest.mark.parametrize("document", ["README.md", "examples/tasks-backend/README.md"])
async def test_both_sidecars_of_the_readme_run_at_the_same_time(document: str, tmp_path: Path) -> None:
    """An earlier version gave both the same metrics port, and the second one ended at once.

    Each port of the README is replaced by a free one, because an outgoing connection of another test may have 50001.
    """
    text = (ROOT / document).read_text(encoding="utf-8").split("### From backend to browser")[-1].split("\n## ")[0]
    lines = re.findall(r"^(daprd .*?) ?&?$", text.replace("\\\n", ""), re.MULTILINE)
    (tmp_path / "components").mkdir()
    free: dict[str, int] = collections.defaultdict(free_port)
    sidecars: list[Process] = []
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for number, line in enumerate(lines):
            options = PORTS | dict(re.findall(r"(--\S+) (\S+)", line))
            options["--resources-path"] = str(tmp_path / "components")
            options |= {name: str(free[options[name]]) for name in PORTS}
            words = [word for option in options.items() for word in option]
            log = Log(tmp_path / f"daprd-{number}.log")
            sidecars.append(Process([str(required(daprd)), *words], log))
            stack.callback(sidecars[-1].kill)

        async def answers(port: int) -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://127.0.0.1:{port}/"):
                    return True
            return False

        for port in ("3500", "3501", "9090", "9091"):
            await until_told(functools.partial(answers, free[port]))
        assert all(sidecar.running for sidecar in sidecars)
