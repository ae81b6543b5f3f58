"""Real browsers without a screen, and the bridge that they talk to, in its own process."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self, cast

import aiohttp
import pytest

from tests.support import firefox, webkit
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.engines import REQUIRED, program
from tests.support.running import ROOT, credentials, variables
from tests.support.valkey import free_port

if not REQUIRED:
    pytest.importorskip("playwright.async_api", reason="playwright is not installed (dependency group test)")

from playwright.async_api import Browser, BrowserContext, Playwright, async_playwright, expect

DEADLINE = 60.0  # seconds that any step may take
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
INSECURE = "app.example"  # a host without TLS that is not localhost


@contextlib.asynccontextmanager
async def launched(*flags: str, engine: str = "chromium", **options: Any) -> AsyncIterator[Browser]:
    """A browser, closed at the end with every page; `flags` are Chromium's, `options` Playwright's."""
    if engine == "webkit":
        async with webkit.launched() as look_alike:
            yield cast("Browser", look_alike)
        return
    expect.set_options(timeout=DEADLINE * 1000)
    async with async_playwright() as playwright:
        launch = _chromium(playwright, *flags, **options) if engine == "chromium" else _firefox(playwright, **options)
        browser = await launch
        yield browser
        await browser.close()


async def _chromium(playwright: Playwright, *flags: str, **options: Any) -> Browser:
    args = [*FLAGS.split(), f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1", *flags]
    return await playwright.chromium.launch(executable_path=program("chromium"), args=args, **options)


async def _firefox(playwright: Playwright, **options: Any) -> Browser:
    """Firefox as Mozilla releases it, driven by WebDriver BiDi. Other channels are Playwright's own builds."""
    preferences: dict[str, str | float | bool] = {"network.dns.localDomains": INSECURE}
    with tempfile.TemporaryDirectory() as folder:  # the program is needed for the start only
        path = firefox.executable(Path(folder))
        return await playwright.firefox.launch(
            executable_path=path, channel="moz-firefox", firefox_user_prefs=preferences, **options
        )


@contextlib.asynccontextmanager
async def as_people_have_it(engine: str) -> AsyncIterator[BrowserContext]:
    """The default profile of a browser.

    Only there are Chromium's hidden tabs hidden and freezable, and its pages go to the back-forward cache.
    """
    if engine != "chromium":
        async with launched(engine=engine) as browser, await browser.new_context() as context:
            yield context
        return
    port = free_port()
    left_out = ["--disable-back-forward-cache"]
    async with launched(f"--remote-debugging-port={port}", ignore_default_args=left_out) as browser:
        its = await browser.browser_type.connect_over_cdp(f"http://127.0.0.1:{port}", no_defaults=True)
        yield its.contexts[0]


class Bridge:
    """The bridge as `make run` starts it, with the settings given as keywords; a restart keeps its port."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self._settings = {"PORT": str(self.port), "DRAIN_TIMEOUT": "2"} | settings
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WSBRIDGE_")}
        self._process = await create_subprocess_exec(
            sys.executable, "-m", "wsbridge", "serve", cwd=ROOT, env=clean | variables(self._settings)
        )
        async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as http:
            while not await self._healthy(http):
                assert self.running, "the bridge did not start"
                await asyncio.sleep(0.02)  # looking without a pause would take CPU time from the bridge

    async def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Terminate the process and wait for its end."""
        self.send(how)
        if self._process is not None:
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()

    def send(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)

    def http(self) -> aiohttp.ClientSession:
        """A client with the rights of a sidecar and of an operator."""
        return aiohttp.ClientSession(headers=credentials(variables(self._settings)))

    async def ask(self, path: str) -> Any:
        """Send a request to a route; return its JSON."""
        async with self.http() as http, http.get(self.url + path) as response:
            return await response.json()

    async def publish(self, user: str, *numbers: int) -> None:
        """Publish an event for each number `n`, all in one delivery; return when it is accepted."""
        events = [cloud_event({"event_type": "task.created", "user_id": user, "n": n}) for n in numbers]
        url = f"{self.url}/events/task-updates"
        async with self.http() as http, http.post(url, json=bulk_of(*events)) as response:
            statuses = [entry["status"] for entry in (await response.json())["statuses"]]
        assert statuses == ["SUCCESS"] * len(numbers)

    async def _healthy(self, http: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with http.get(f"{self.url}/health") as response:
                return bool((await response.json())["status"] == "healthy")
        return False
