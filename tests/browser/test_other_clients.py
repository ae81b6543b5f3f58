"""Runs the programs of docs/clients.md verbatim, on a bridge behind a network that fails."""

import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.browser import DEADLINE, Bridge  # before playwright: it skips the tests if that is not installed
from tests.support.bundled import SOURCE, bundled
from tests.support.guide import USER, Site, module
from tests.support.node_modules import CACHE, unavailable
from tests.support.running import ROOT, until

# isort: split

from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

TARGET = CACHE / "rust-clients"  # the folder for Cargo's build output, kept between runs
DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
SECTIONS = (section.partition("\n") for section in DOCUMENT.split("\n## ")[1:])
PROGRAMS = {
    heading: block.groups()
    for heading, _, text in SECTIONS
    if (block := re.search(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
}  # heading → language and code
del PROGRAMS["A page, by hand"]  # tests/browser/test_guide.py runs it


def has_cargo() -> bool:
    """Whether Cargo is at hand that fetches single crates. Debian 12's fetches the whole index, by git."""
    if shutil.which("cargo") is None:
        return False
    text = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    version = re.match(r"cargo 1\.(\d+)", text)
    return version is not None and int(version[1]) >= 70


def command(language: str, code: str, folder: Path) -> tuple[str, ...]:
    """The command that runs this program."""
    if shutil.which({"java": "javac", "rust": "cargo"}.get(language, language)) is None and language != "python":
        unavailable(f"{language} is not installed, or has no compiler")
    if language == "python":
        return sys.executable, "-c", code
    if language == "java":
        (folder / "Follow.java").write_text(code, encoding="utf-8")
        return "java", "Follow.java"
    if language == "rust":
        for name in ("Cargo.toml", "Cargo.lock"):
            shutil.copy(SOURCE / name, folder)
        (folder / "src").mkdir()
        (folder / "src" / "main.rs").write_text(code, encoding="utf-8")
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--target-dir", TARGET], cwd=folder, check=True)
        return (str(TARGET / "debug" / "follow"),)
    for name in ("go.mod", "go.sum"):
        shutil.copy(SOURCE / name, folder)
    (folder / "main.go").write_text(code, encoding="utf-8")
    subprocess.run(["go", "build", "-o", "follow", "."], cwd=folder, check=True, timeout=300)
    return ("./follow",)


@contextlib.asynccontextmanager
async def running(site: Site, language: str, code: str, folder: Path) -> AsyncIterator[list[str]]:
    """Run the program. Yields its lines, which grow."""
    lines: list[str] = []
    if language in ("js", "jsx"):
        site.context.on("console", lambda message: lines.append(message.text) if message.type == "log" else None)
        bundle = bundled(folder, {f"program.{language}": code})
        page = await site.open(f"<main></main>{module(bundle)}")
        yield lines
        await page.close()
        return
    process = await create_subprocess_exec(*command(language, code, folder), cwd=folder, stdout=PIPE)
    assert process.stdout

    async def read(stdout: asyncio.StreamReader) -> None:
        async for line in stdout:
            lines.append(line.decode().strip())  # noqa: PERF401 - others read the lines meanwhile

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield lines
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


# The program in Rust is not required: it is run where Cargo is at hand.
@pytest.mark.parametrize("heading", [heading for heading in PROGRAMS if heading != "Rust" or has_cargo()])
async def test_program_gets_each_event_once_learns_of_gaps_and_stops(
    browser: Browser, tmp_path: Path, heading: str
) -> None:
    language, code = PROGRAMS[heading]
    async with (
        Bridge(HISTORY_SIZE="2") as bridge,
        await browser.new_context() as context,
        Site(bridge, context) as site,
    ):
        code = code.replace("localhost:8004", f"127.0.0.1:{site.proxy.port}")
        async with running(site, language, code, tmp_path) as lines:

            async def prints(*expected: str) -> None:
                """Wait for the next lines. A line may be a whole message."""
                await until(lambda: len(lines) >= len(expected))
                found = [re.sub(r'^\{.*"title": ?"(\w+)".*', r"\1", line) for line in lines]
                assert found == list(expected), lines
                lines.clear()

            await site.connected()
            await site.publish("One")
            await prints("One")
            await site.publish_offline("Two", "Three")
            await prints("Two", "Three")
            await site.publish_offline("Four", "Five", "Six")
            await prints("gap: load the state again")
            await site.publish("Seven")
            await prints("Seven")
            async with bridge.http() as http:
                await http.post(f"{bridge.url}/user/disconnect", params={"user_id": USER})
            await prints("ended 4509")


async def test_every_program_of_the_document_is_run() -> None:
    assert len(PROGRAMS) + 1 == DOCUMENT.count("\n```\n")
