"""Servers in Node.js that print their address, and the client's package for them."""

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.node_modules import unavailable
from tests.support.running import DEADLINE, ROOT


def copy_client(project: Path) -> None:
    """Add the client's package to a project. With a link, it would find the React beside its sources."""
    package = project / "node_modules" / "wsbridge-client"
    shutil.copytree(ROOT / "client", package, ignore=shutil.ignore_patterns("node_modules"))


@asynccontextmanager
async def listening(*command: str | Path, cwd: Path, **environ: str) -> AsyncIterator[None]:
    """A server that prints its address once it listens."""
    if shutil.which("node") is None:
        unavailable("node is not installed")
    process = await create_subprocess_exec(*command, cwd=cwd, env=os.environ | environ, stdout=PIPE)
    assert process.stdout
    try:
        async with asyncio.timeout(DEADLINE):
            while b"http://" not in (line := await process.stdout.readline()):
                assert line, "it ended"
        yield
    finally:
        process.kill()
        await process.communicate()
