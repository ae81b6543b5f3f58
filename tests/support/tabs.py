"""Clients that follow docs/protocol.md over WebSocket and SSE: they connect, listen, leave and resume.

Each reports its messages to its viewer, which is part of the oracle.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import aiohttp

from tests.support.transports import CONNECT_TIMEOUT, LOST, Ended, Line, Socket, Stream
from wsbridge.cli.verify.viewer import Viewer
from wsbridge.cli.verify.visit import Visit
from wsbridge.client import read

STAY = 10.0  # seconds that a client stays connected, on average
LONG_AWAY = 0.03  # of the clients that leave stay disconnected for longer than their history lasts
CLEANLY = 0.5  # of the clients that leave close properly


class Tab:
    """A client, for as long as `live` runs."""

    def __init__(
        self,
        viewer: Viewer,
        transport: type[Socket | Stream],
        urls: Sequence[str],
        tally: Counter[str],
        http: aiohttp.ClientSession,
        dice: Random,
        settling: asyncio.Event,
    ) -> None:
        """`settling` is set when the faults are over: from then on no client stays disconnected for long."""
        self.viewer = viewer
        self._transport = transport
        self._urls = urls
        self._tally = tally
        self._http = http
        self._dice = dice
        self._settling = settling
        self._place = dice.randrange(len(urls))
        self._changes_over = transport is Socket and dice.random() < 0.5

    async def live(self) -> None:
        """Connect, follow and reconnect, forever."""
        while True:
            away = self._dice.uniform(0.05, 0.5)
            try:
                line: Line | None = await self._open()
                while line is not None:
                    line = await self._follow(line)
                if self._dice.random() < LONG_AWAY:
                    away = self.viewer.ledger.ttl * self._dice.uniform(1, 1.5)
                self._place = self._dice.randrange(len(self._urls))
            except (*LOST, Ended) as error:
                self._tally[f"connections ended: {error if type(error) is Ended else type(error).__name__}"] += 1
                self._place = (self._place + 1) % len(self._urls)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(away):
                    await self._settling.wait()
                await asyncio.sleep(min(away, 0.5))

    async def _open(self, on_answer: Callable[[], object] = lambda: None) -> Line:
        """Open a connection and read its first message; then call `on_answer`."""
        visit = Visit(self.viewer, time.monotonic())
        async with asyncio.timeout(CONNECT_TIMEOUT):
            line: Line = await self._transport.open(self._http, self._urls[self._place], visit, self.viewer.user)
            try:
                first = await line.next()
                on_answer()
                self._take(line, *first)
            except BaseException:
                await line.leave(cleanly=False)
                raise
        self._tally["connections"] += 1
        self._tally["resumes"] += visit.asked is not None
        return line

    async def _follow(self, line: Line) -> Line | None:
        """Follow until one side closes. Return the connection that continues, if there is one. Raises `Ended`."""
        cleanly = False
        try:
            async with asyncio.timeout(self._dice.expovariate(1 / STAY)) as stay:
                await self._read(line)
                if self._changes_over:
                    return await self._change_over(line)
                await self._read(line)
        except TimeoutError:
            if not stay.expired():
                raise
            cleanly = self._dice.random() < CLEANLY
            self._tally["connections left"] += 1
        finally:
            await line.leave(cleanly=cleanly)
        return None

    async def _read(self, line: Line) -> None:
        """Read up to a goodbye."""
        while self._take(line, *await line.next()) != "goodbye":
            pass

    async def _read_on(self, line: Line) -> None:
        """Read up to the end."""
        with contextlib.suppress(*LOST, Ended):
            await self._read(line)

    async def _change_over(self, line: Line) -> Line | None:
        """Open the next connection first, and read the messages that arrive on this one meanwhile."""
        self._place = (self._place + 1) % len(self._urls)
        reading = asyncio.create_task(self._read_on(line))
        try:
            following = await self._open(reading.cancel)
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()
        asked, position = following.visit.asked, self.viewer.position
        if asked and position and asked.epoch != position.epoch:  # it resumed from a position of an earlier epoch
            await following.leave(cleanly=False)
            return None
        self._tally["connections changed over"] += 1
        return following

    def _take(self, line: Line, payload: bytes, named: str | None) -> str:
        """Report the message to the oracle; return its type."""
        message = read(payload)
        if named not in (None, message.id or message.last_event_id):
            self.viewer.broken(f"the id of the stream is {named} in {payload!r}")
        line.visit.take(message, time.monotonic())
        return message.type
