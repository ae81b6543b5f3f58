"""`make chain`: what it prints works when it is typed, and nothing stays behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e import parts
from tests.e2e.process import PATIENCE
from tests.support.processes import children, command_line, is_running
from tests.support.running import ROOT, receive, until
from tests.support.shell import typed
from wsbridge.cli.chain.parts import find_redis

# The environment of these tests instead of .venv, which make would create.
MAKE = ["make", "--silent", "chain", "installed=", "pip=true", f"bin={Path(sys.executable).parent}"]
LAST = "Press Ctrl-C to stop."


class Chain:
    """A run of `make chain` that is ready, and its processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self, last: str) -> None:
        """Read its output until a line that begins like this."""
        assert self.process.stdout
        async with asyncio.timeout(2 * PATIENCE):
            while not (self.lines and self.lines[-1].startswith(last)):
                line = await self.process.stdout.readline()
                assert line, self.lines
                self.lines.append(line.decode().rstrip("\n"))

    def typed(self, start: str) -> str:
        """The command that it prints and that starts with these words, with continued lines joined."""
        [found] = re.findall(rf"^  ({start}.*)$", "\n".join(self.lines).replace("\\\n", ""), re.MULTILINE)
        return str(found)

    @property
    def bridges(self) -> list[str]:
        return re.findall(r"^  (http://\S+/)$", "\n".join(self.lines), re.MULTILINE)

    @property
    def parts(self) -> dict[int, str]:
        """Process id → command of each part."""
        [runner] = children(self.process.pid)
        return {pid: command_line(pid) for pid in children(runner)}

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def made(directory: Path) -> AsyncIterator[Chain]:
    """A chain that is ready, with its files in this directory."""
    for part in (parts.java, parts.kafka, parts.daprd):
        parts.required(part)
    assert find_redis()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}
    process = await asyncio.create_subprocess_exec(
        *MAKE, cwd=ROOT, stdout=PIPE, stderr=STDOUT, env=environment, start_new_session=True
    )
    try:
        chain = Chain(process)
        await chain.read(LAST)
        yield chain
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def kept(directory: Path) -> list[str]:
    """The folders of chains that are still there."""
    return [str(path) for path in directory.glob("wsbridge-chain-*")]


async def tab(http: aiohttp.ClientSession, bridge: str) -> aiohttp.ClientWebSocketResponse:
    """A tab of alice, connected."""
    socket = await http.ws_connect(f"{bridge}ws?user_id=alice")
    assert (await receive(socket))["type"] == "connected"
    return socket


async def test_make_chain_commands_reach_tabs_at_both_bridges(tmp_path: Path) -> None:
    """Two chains at once. A part of the second one is killed, and Ctrl-C ends the first one."""
    async with made(tmp_path) as chain, made(tmp_path) as other, aiohttp.ClientSession() as http:
        tabs = [await tab(http, bridge) for bridge in chain.bridges]
        assert len(tabs) == 2
        for start in ("curl http", "curl 'http"):
            answer = await typed(chain.typed(start))
            events = [(await receive(each))["event"] for each in tabs]
            assert events[0] == events[1] == (json.loads(answer) if answer else events[0])
        async with http.get(chain.bridges[0]) as page:
            assert "wsbridge-port" in await page.text()

        pids = other.parts
        assert len(pids) == 8
        [backend] = [pid for pid, command in pids.items() if "tasks_backend" in command]
        os.kill(backend, signal.SIGKILL)
        await other.read("wsbridge: backend was killed by SIGKILL; the logs are kept in /")
        assert any('"event":"server.started"' in line for line in other.lines)
        assert await other.ended() == 2  # make's
        assert [pid for pid in pids if is_running(pid)] == []

        pids = chain.parts
        assert len(pids) == 8
        os.killpg(chain.process.pid, signal.SIGINT)
        await chain.read("wsbridge: stopping")
        await chain.ended()
        assert [pid for pid in pids if is_running(pid)] == []
        assert kept(tmp_path) == [other.lines[-1].split()[-1]]


async def test_make_chain_on_a_machine_without_programs_names_all_of_them(tmp_path: Path) -> None:
    environment = {"PATH": "/nowhere", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.e2e.make_chain"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    assert process.returncode == 1
    lines = output.decode().splitlines()
    assert lines == [f"{name} is not in PATH: {parts.CURES[name]}" for name in ("java", "mvn", "go")]


class Builders:
    """Stand-ins for java, Maven and Go in a folder. Each of them waits for its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("java", "mvn", "go"):
            path = folder / f"{name}.pid"
            self.replace(name, f"sleep 1000 &\necho $! > {path}.new && mv {path}.new {path}\nwait")

    def replace(self, name: str, script: str) -> None:
        program = self._folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    @contextlib.asynccontextmanager
    async def used_by(self, module: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that builds parts with them. Its builds end with the context."""
        environment = {"PATH": f"{self._folder}:/usr/bin:/bin", "HOME": str(self._folder), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", f"tests.e2e.{module}"]
        environment |= {"PIP_NO_INDEX": "1"}  # `prepare` installs packages, too
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended, unless the test fails
                process.terminate()
            await process.communicate()

    async def pid(self, name: str) -> int:
        """The process that this builder has started."""
        path = self._folder / f"{name}.pid"
        await until(path.exists)
        return int(path.read_text())


@pytest.mark.parametrize("module", ["make_chain", "prepare"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_during_builds_ends_all_of_them(tmp_path: Path, module: str, number: signal.Signals) -> None:
    builders = Builders(tmp_path)
    async with builders.used_by(module) as process:
        pids = [await builders.pid(name) for name in ("mvn", "go")]  # at the same time
        process.send_signal(number)
        output, _ = await process.communicate()
    assert (process.returncode, b"Traceback" in output) == (130, False)
    await until(lambda: not any(map(is_running, pids)))


async def test_make_chain_with_a_failing_build_names_the_part_and_ends_the_other(tmp_path: Path) -> None:
    builders = Builders(tmp_path)
    builders.replace("mvn", f"until [ -e {tmp_path}/go.pid ]; do sleep 0.1; done; echo no route to host; exit 1")
    async with builders.used_by("make_chain") as process:
        output, _ = await process.communicate()
    assert process.returncode == 1
    first, second, last = output.decode().splitlines()
    assert {line.split("-")[0] for line in (first, second)} == {"kafka", "daprd"}
    assert re.fullmatch(r"kafka-\S+: mvn -B failed: no route to host", last)
    pid = await builders.pid("go")
    await until(lambda: not is_running(pid))
