"""`python -m tests.support.firefox`: Debian's Firefox, as Playwright starts it and talks to it by WebDriver BiDi.

Playwright expects Mozilla's newest Firefox. It gives up if a command is missing in the extended support release.
"""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.support.engines import program
from tests.support.running import ROOT

MISSING = {"emulation.setMediaFeaturesOverride"}  # of Firefox 153; they are answered as if they were done
_LISTENING = re.compile(rb"(WebDriver BiDi listening on )(ws://\S+)")


def executable(folder: Path) -> str:
    """Make the program that Playwright starts."""
    script = folder / "firefox"
    script.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m {__spec__.name} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


class Between:
    """A WebSocket server between Playwright and Firefox."""

    def __init__(self) -> None:
        self.target = ""  # the address at which Firefox listens
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/session", self._serve)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        playwright = web.WebSocketResponse(max_msg_size=0)
        await playwright.prepare(request)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.target}/session", max_msg_size=0) as firefox,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._up(playwright, firefox))
            tasks.create_task(self._down(firefox, playwright))
        return playwright

    async def _up(self, playwright: web.WebSocketResponse, firefox: aiohttp.ClientWebSocketResponse) -> None:
        async for message in playwright:
            command = json.loads(message.data)
            if command["method"] in MISSING:
                await playwright.send_json({"type": "success", "id": command["id"], "result": {}})
            else:
                await firefox.send_str(message.data)
        await firefox.close()

    async def _down(self, firefox: aiohttp.ClientWebSocketResponse, playwright: web.WebSocketResponse) -> None:
        async for message in firefox:
            await playwright.send_str(message.data)
        await playwright.close()


async def main(*arguments: str) -> int:
    between = Between()
    await between.start()
    firefox = await create_subprocess_exec(program("firefox"), *arguments, stderr=PIPE)
    assert firefox.stderr
    async for line in firefox.stderr:
        if found := _LISTENING.search(line):
            between.target = found[2].decode()
        sys.stderr.buffer.write(_LISTENING.sub(rb"\1ws://127.0.0.1:%d" % between.port, line))
        sys.stderr.flush()
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
