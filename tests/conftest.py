"""Fixtures: a real bridge on a free loopback port, and what speaks to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support import Running
from wsbridge.app import serving
from wsbridge.settings import load

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a bridge with the settings given as keywords: `await start(PING_INTERVAL="0.2")`; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def starting(**settings: str) -> Running:
            environ = {name if name == "APP_API_TOKEN" else f"WSBRIDGE_{name}": v for name, v in settings.items()}
            loaded, _ = load({"WSBRIDGE_PORT": "0", **environ})
            bridge, server = await stack.enter_async_context(serving(loaded))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            running = Running(bridge, server, http)
            stack.push_async_callback(running.hang_up)
            return running

        yield starting


@pytest.fixture
async def bridge(start: Start) -> Running:
    """A bridge on its defaults: development mode."""
    return await start()
