"""Forwards entries from the server to the sink, in each user's order, once their data is loaded.

Entries of messages that arrive together are put together: a put for each would cost more than the entry.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from wsbridge.broker.base import BrokerUnavailable, Sink
from wsbridge.broker.redis.codec import Referenced
from wsbridge.core.events import Entry
from wsbridge.core.timestamps import seconds_of
from wsbridge.supervision.jobs import Jobs

WAITING = 10_000  # entries that may wait for data; further ones are missed, and read from the history later
PATIENCE = 2.0  # seconds for which large data waits, at most, until peers have read some of the earlier data
LOOK = 0.01  # seconds between two checks


@dataclass(eq=False, kw_only=True)
class Forwarder:
    """`is_pressed` returns whether much data waits for peers already. Large data is then delayed.

    `missed` is called with a channel whose entries were not put: sessions of its user must read the history.
    """

    sink: Sink
    complete: Callable[[Sequence[Entry | Referenced]], Awaitable[Sequence[Entry] | None]]
    is_pressed: Callable[[], bool]
    missed: Callable[[str], None]
    failed: Callable[[str, Exception], None]

    def __post_init__(self) -> None:
        self._jobs = Jobs()
        self._queues: dict[str, deque[Sequence[Entry | Referenced]]] = {}  # by channel, while a job works on it
        self._waiting = 0
        self._pacing = asyncio.Lock()  # for large data, so that one is put after the other
        self._putting = asyncio.Lock()  # callers that wait for room are served in order
        self._gathered: list[Entry] = []  # put when the loop runs other tasks; their room is reserved
        self._gathered_bytes = 0

    async def take(self, channel: str, found: Sequence[Entry | Referenced]) -> None:
        """Forward entries of one user, in order. Waits for room in the sink, but not for data."""
        queue = self._queues.get(channel)
        if queue is None:
            entries = [entry for entry in found if type(entry) is Entry]
            if len(entries) == len(found):
                await self._put(entries)
                return
            queue = self._queues[channel] = deque([found])
            self._waiting += len(found)
            await self._jobs.spawn("arrivals", partial(self._work, channel, queue))
        elif self._waiting + len(found) > WAITING:
            self.missed(channel)
        else:
            self._waiting += len(found)
            queue.append(found)

    async def close(self) -> None:
        await self._jobs.close()

    async def _work(self, channel: str, queue: deque[Sequence[Entry | Referenced]]) -> None:
        """Put the entries that wait for one user. If one cannot be completed, it and all later ones are missed."""
        try:
            while queue:
                for entry in queue[0]:
                    complete = await self.complete([entry])
                    if complete is None:
                        self.missed(channel)
                        return
                    if isinstance(entry, Referenced):
                        await self._put_large(complete)
                    else:
                        await self._put(complete)
                self._waiting -= len(queue.popleft())
        except BrokerUnavailable:
            self.missed(channel)
        except Exception as error:  # the task boundary: the history has the entries that were not put
            self.failed("arrivals", error)
            self.missed(channel)
        finally:
            self._waiting -= sum(map(len, queue))
            del self._queues[channel]

    async def _put_large(self, entries: Sequence[Entry]) -> None:
        """Put large data at the pace of the peers, up to a limit. `SlowConsumers` ends peers that do not read."""
        async with self._pacing:
            for _ in range(round(PATIENCE / LOOK)):
                if not self.is_pressed() and self._is_empty():
                    break
                await asyncio.sleep(0 if not self.is_pressed() else LOOK)
            await self._put(entries)

    async def _put(self, entries: Sequence[Entry]) -> None:
        size = sum([len(entry.data) for entry in entries])
        if self._putting.locked() or not self._has_room(len(entries), size):
            async with self._putting:
                while not self._has_room(len(entries), size):  # noqa: ASYNC110 - one turn
                    await asyncio.sleep(0)  # lets the broadcaster run, which never waits
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._put_gathered)
        self._gathered += entries
        self._gathered_bytes += size

    def _put_gathered(self) -> None:
        entries, self._gathered, self._gathered_bytes = self._gathered, [], 0
        self.sink.put(entries)

    def _is_empty(self) -> bool:
        return not self._gathered and self.sink.is_empty()

    def _has_room(self, entries: int, size: int) -> bool:
        """Whether they fit. An empty sink takes entries of any size."""
        return self._is_empty() or (
            self.sink.room() >= len(self._gathered) + entries and self.sink.room_bytes() >= self._gathered_bytes + size
        )


@functools.lru_cache(64)
def received_at(stamp: str) -> float:
    """Convert an event's timestamp, set when a replica received it, to the clock of this loop.

    Cached, so that all events of a delivery have the same time.
    """
    return time.monotonic() - max(0.0, time.time() - seconds_of(stamp))
