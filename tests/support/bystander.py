"""Another user, who must be served while a fault is injected."""

import asyncio
import time
from typing import Self

import aiohttp

from tests.support.deliveries import cloud_event
from tests.support.running import Running, receive, until

PACE = 0.005  # seconds between the events; without a pause the bystander would take CPU time from the tested peer


class Bystander:
    """Another user, who gets one event after the other while a fault is injected: `async with`."""

    PATIENCE = 10.0  # seconds that one event may take, on a busy machine

    def __init__(self, bridge: Running, **query: str) -> None:
        self._bridge = bridge
        self._query = query
        self.count = 0
        self.slowest = 0.0

    async def __aenter__(self) -> Self:
        self._ws, hello = await self._bridge.opened("bystander", **self._query)
        self._epoch = hello["last_event_id"].split(":")[0]
        self._task = asyncio.create_task(self._watch(self._ws))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.served()
                assert self.slowest < self.PATIENCE
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def served(self) -> None:
        """Wait for one more event from publisher to client."""
        before = self.count
        await until(lambda: self.count > before + 1 or self._task.done())
        if self._task.done():
            self._task.result()

    async def _watch(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            data = {"user_id": "bystander", "n": self.count + 1}
            started = time.monotonic()
            # a kept connection could be closed as idle at the moment of the next request
            answer = await self._bridge.post(cloud_event(data), connection="close")
            assert answer == {"status": "SUCCESS"}
            message = await receive(ws)
            assert message["event"] == data
            assert message["id"] == f"{self._epoch}:{data['n']}"
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.count += 1
            await asyncio.sleep(PACE)
