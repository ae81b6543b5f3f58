"""Runs a client against scenarios, and judges it."""

import asyncio
import contextlib
import os
import shlex
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Self

import msgspec
from aiohttp import web

from wsbridge.cli.conformance.connection import Connection, Socket, Stream, Violation
from wsbridge.cli.conformance.scenarios import STREAMS, Scenario
from wsbridge.cli.conformance.steps import USER
from wsbridge.cli.conformance.trial import Trial

PARALLEL = 4  # scenarios that run at the same time
TOKEN_URL, STREAM_URL = "{token_url}", "{sse_url}"  # in a command
Start = Callable[[Trial, str, str], AbstractAsyncContextManager[object]]  # called with the URLs of /ws and of tokens


class Verdict(msgspec.Struct):
    scenario: str
    text: str
    result: str  # passed, failed or skipped
    reason: str = ""
    seconds: float = 0.0


class Server:
    """`async with`: serves each scenario at `/<scenario>/ws` and `/<scenario>/sse`; tokens at `/<scenario>/token`."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.url = ""
        app = web.Application()
        routes = {"ws": self._serves(Socket), "sse": self._serves(Stream), "token": self._token}
        app.add_routes([web.get(f"/{{scenario}}/{name}", handler) for name, handler in routes.items()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)  # 0 is no limit

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def judge(self, scenario: Scenario, start: Start) -> Verdict:
        """Run one client; `start` starts it, and the context that it returns ends it."""
        trial = self.trials[scenario.name] = Trial()
        address = f"{self.url}/{scenario.name}"
        began = time.monotonic()
        verdict = Verdict(scenario.name, scenario.text, "passed")
        try:
            async with start(trial, f"{address.replace('http', 'ws')}/ws?user_id={USER}", f"{address}/token"):
                await scenario.play(trial)
        except Violation as error:
            verdict.result, verdict.reason = "failed", str(error)
        except ConnectionError as error:
            verdict.result, verdict.reason = "failed", f"the client ended a connection that it needs: {error}"
        verdict.seconds = round(time.monotonic() - began, 1)
        return verdict

    def _serves(self, kind: type[Connection]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            connection = kind(request)
            self._trial(request).arrived(connection)
            return await connection.serve()

        return handler

    async def _token(self, request: web.Request) -> web.Response:
        """A token that no earlier answer had; pages of any origin may read it."""
        trial = self._trial(request)
        trial.tokens += 1
        return web.Response(text=f"token-{trial.tokens}", headers={"Access-Control-Allow-Origin": "*"})

    def _trial(self, request: web.Request) -> Trial:
        trial = self.trials.get(request.match_info["scenario"])
        if trial is None:
            raise web.HTTPNotFound
        return trial


async def judge(scenarios: Iterable[Scenario], command: str, show: Callable[[Verdict], object]) -> None:
    """Run a command as the client of each scenario, several at a time. Call `show` with the verdicts in order."""
    turns = asyncio.Semaphore(PARALLEL)

    async def judged(server: Server, scenario: Scenario) -> Verdict:
        if reason := unfit(scenario, command):
            return Verdict(scenario.name, scenario.text, "skipped", reason)
        async with turns:
            return await server.judge(scenario, program(command))

    async with Server() as server, asyncio.TaskGroup() as tasks:
        for task in [tasks.create_task(judged(server, scenario)) for scenario in scenarios]:
            show(await task)


def unfit(scenario: Scenario, command: str) -> str:
    """Why a scenario is skipped; "" if it is not."""
    if scenario.needs_token and TOKEN_URL not in command:
        return f"the command has no {TOKEN_URL}"
    only = scenario.only
    return f"only over {only}" if only and (only == STREAMS) != (STREAM_URL in command) else ""


def program(command: str) -> Start:
    """A client that is a shell command, in which `{url}` or `{sse_url}`, and `{token_url}` are replaced."""

    @contextlib.asynccontextmanager
    async def started(trial: Trial, url: str, token_url: str) -> AsyncIterator[None]:
        stream = url.replace("ws://", "http://").replace("/ws?", "/sse?")
        line = command
        for name, address in {"{url}": url, STREAM_URL: stream, TOKEN_URL: token_url}.items():
            line = line.replace(name, shlex.quote(address))
        process = await asyncio.create_subprocess_shell(line, stdout=PIPE, stderr=PIPE, start_new_session=True)
        reader = asyncio.create_task(_read(process, trial))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await reader

    return started


async def _read(process: Process, trial: Trial) -> None:
    """Read the output up to the end of the process."""
    complaint = ""

    async def complaints() -> None:
        nonlocal complaint
        async for line in _lines(process.stderr):
            if "rror" in line or "rror" not in complaint:  # Node.js ends with a line about its version
                complaint = f": {line}"

    async def events() -> None:
        async for line in _lines(process.stdout):
            trial.printed(line)

    await asyncio.gather(complaints(), events())
    trial.ended(f"exit code {await process.wait()}{complaint}")


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """The lines that are not empty."""
    while stream:
        try:
            line = await stream.readline()
        except ValueError:  # over the limit of a StreamReader; what follows of it is another line
            line = b"(a line of more than 64 KiB)"
        if not line:
            return
        if text := line.decode(errors="replace").strip():
            yield text
