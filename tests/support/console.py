"""Reads the stream of the console: `GET /console/stream`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from tests.support.running import DEADLINE, Reachable

Line = dict[str, Any]


class Console:
    """An open stream with its first line, `hello`."""

    def __init__(self, response: aiohttp.ClientResponse, hello: Line) -> None:
        self._response = response
        self.hello = hello

    async def line(self, kind: str, condition: Callable[[Line], object] = bool) -> Line:
        """Return the next line of that type for which the condition is true."""
        async with asyncio.timeout(DEADLINE):
            while True:
                line = json.loads(await self._response.content.readline())
                if line["type"] == kind and condition(line):
                    return dict(line)


@contextlib.asynccontextmanager
async def watching(bridge: Reachable, token: str | None = None, **query: str) -> AsyncIterator[Console]:
    """Open the stream with a token, by default that of the operator."""
    sent = token or bridge.admin_token
    headers = {"Authorization": f"Bearer {sent}"} if sent else {}
    async with bridge.http.get(f"{bridge.url}/console/stream", params=query, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        yield Console(response, json.loads(await response.content.readline()))
        response.close()
