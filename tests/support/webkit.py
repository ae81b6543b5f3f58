"""WebKitGTK, with the few methods of Playwright's pages that the tests of the client use.

Playwright drives only a WebKit of its own, which has to be downloaded. Debian's is driven by WebDriver: JSON over HTTP,
one command at a time. Selenium's methods would block the event loop.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from tests.support.engines import program
from tests.support.valkey import free_port

_ENVIRONMENT = {"GDK_BACKEND": "x11", "LIBGL_ALWAYS_SOFTWARE": "1", "NO_AT_BRIDGE": "1", "GSETTINGS_BACKEND": "memory"}
_EVALUATE = """
const [text, argument, done] = arguments;
const evaluated = async () => {
  const value = (0, eval)(`(${text})`);
  return typeof value === 'function' ? value(argument) : value;
};
evaluated().then((value) => done({ value: value ?? null }), (error) => done({ error: String(error) }));
"""


class Failed(Exception):  # noqa: N818 - as the driver calls it
    """A command failed in the browser."""


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator["WebKit"]:
    """A browser on a screen of its own. Both end with the context."""
    screen = running(program("screen"), "-displayfd", "1", "-nolisten", "tcp", stdout=PIPE, stderr=DEVNULL)
    async with screen as process:
        assert process.stdout
        display = (await process.stdout.readline()).decode().strip()
        port = free_port()
        environ = os.environ | _ENVIRONMENT | {"DISPLAY": f":{display}"}
        async with (
            running(program("webkit"), f"--port={port}", env=environ),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        ):
            yield await WebKit.of(http)


@contextlib.asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Process]:
    """A process that ends with the context, and with it all processes that it started."""
    process = await create_subprocess_exec(*command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


class WebKit:
    """The only session of a driver. All contexts share it: tests are apart, because each scene has its own origin."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._session = ""
        self._first = ""  # the handle of the window with which the browser starts, and without which it ends
        self._turn = asyncio.Lock()

    @classmethod
    async def of(cls, http: aiohttp.ClientSession) -> Self:
        browser = cls(http)
        await browser._ready()
        browser._session = f"/session/{(await browser._send('POST', '/session', capabilities={}))['sessionId']}"
        browser._first = await browser._send("GET", f"{browser._session}/window")
        return browser

    async def new_context(self) -> "Context":
        return Context(self)

    async def new_window(self) -> str:
        async with self._turn:
            await self._send("POST", f"{self._session}/window", handle=self._first)
            return str((await self._send("POST", f"{self._session}/window/new", type="window"))["handle"])

    async def command(self, window: str, method: str, path: str, **body: object) -> Any:
        """Send a command to a window."""
        async with self._turn:
            await self._send("POST", f"{self._session}/window", handle=window or self._first)
            return await self._send(method, self._session + path, **body)

    async def _ready(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await self._send("GET", "/status")
                return
            await asyncio.sleep(0.02)  # looking without a pause would take CPU time from the driver

    async def _send(self, method: str, path: str, **body: object) -> Any:
        async with self._http.request(method, path, json=body if method == "POST" else None) as response:
            value = (await response.json(content_type=None))["value"]
        if not response.ok:
            raise Failed(f"{method} {path}: {value['error']}: {value['message']}")
        return value


class Context:
    def __init__(self, browser: WebKit) -> None:
        self._browser = browser
        self._has_cookies = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._has_cookies:
            await self._browser.command("", "DELETE", "/cookie")

    async def new_page(self) -> "Page":
        return Page(self._browser, await self._browser.new_window())

    async def add_cookies(self, cookies: list[Mapping[str, str]]) -> None:
        """Set cookies, which WebDriver sets for the page that is open."""
        self._has_cookies = True
        for cookie in cookies:
            await self._browser.command("", "POST", "/url", url=f"{cookie['url']}/elsewhere")
            body = {"name": cookie["name"], "value": cookie["value"], "domain": urlsplit(cookie["url"]).hostname}
            await self._browser.command("", "POST", "/cookie", cookie=body)


class Page:
    def __init__(self, browser: WebKit, window: str) -> None:
        self._browser = browser
        self._window = window

    async def expose_function(self, name: str, function: object) -> None:
        """Do nothing: WebDriver cannot call back, so the pages of the tests report to their site."""

    async def goto(self, url: str) -> None:
        await self._command("POST", "/url", url=url)

    async def go_back(self, **_: object) -> None:
        await self._command("POST", "/back")

    async def reload(self) -> None:
        await self._command("POST", "/refresh")

    async def bring_to_front(self) -> None:
        await self._command("GET", "/title")

    async def close(self) -> None:
        if self._window:
            await self._command("DELETE", "/window")
            self._window = ""

    async def evaluate(self, text: str, argument: object = None) -> Any:
        """Evaluate an expression or call a function, as Playwright does."""
        answer = await self._command("POST", "/execute/async", script=_EVALUATE, args=[text, argument])
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]

    async def _command(self, method: str, path: str, **body: object) -> Any:
        return await self._browser.command(self._window, method, path, **body)
