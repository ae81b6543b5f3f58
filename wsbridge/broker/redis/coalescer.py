"""Concurrent reads of the same thing share one read."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from wsbridge.supervision.jobs import Jobs

Value = TypeVar("Value")


class Coalescer(Generic[Value]):
    """Each read is a job of its own: it goes on if the caller that began it gives up. Nothing is kept after it."""

    def __init__(self) -> None:
        self._jobs = Jobs()
        self._under_way: dict[Hashable, asyncio.Future[Value]] = {}  # bounded by the callers: each waits for one

    async def do(self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """What `read` returns, or what the read of that key that is under way does; what it raises, too."""
        found = self._under_way.get(key)
        if found is None:
            found = self._under_way[key] = asyncio.get_running_loop().create_future()
            await self._jobs.spawn("read", partial(self._read, key, found, read))
        return await asyncio.shield(found)

    async def close(self) -> None:
        """Give up what is under way; callers get a `CancelledError`."""
        await self._jobs.close()
        for found in self._under_way.values():
            found.cancel()
        self._under_way.clear()

    async def _read(self, key: Hashable, found: asyncio.Future[Value], read: Callable[[], Awaitable[Value]]) -> None:
        try:
            value = await read()
        except Exception as error:  # it is the callers' to handle
            if not found.done():
                found.set_exception(error)
                found.exception()  # perhaps no caller is left: that is no reason for a warning
        else:
            if not found.done():
                found.set_result(value)
        finally:
            if self._under_way.get(key) is found and found.done():
                del self._under_way[key]
