"""The live stream: which channels this replica listens to, on which node, and whether that is still so.

Each node has one connection of its own. redis-py's `PubSub` connects again by itself and tells nobody what came in
between; here the end of a connection, and a subscription that had to be made anew, are told. Knows no events.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Protocol

from wsbridge.broker.base import Away
from wsbridge.broker.redis.connection import Ask, Heard, Link, Request
from wsbridge.broker.redis.topology import FAILURES, Server
from wsbridge.supervision.jobs import Jobs
from wsbridge.telemetry.log import log

PING_INTERVAL = 0.5  # seconds
SILENCE = 1.4  # seconds without a word, though pings were sent, that end a connection
RECONNECT = 0.25  # seconds until the next try


class Listener(Protocol):
    """Who wants to know."""

    async def hear(self, channel: str, payload: bytes) -> None:
        """A message. The stream waits meanwhile, and so does the server."""
        ...

    def interrupted(self, why: str) -> None:
        """Messages may have been lost, and the server may be another one, or the same with less in it."""
        ...

    def failed(self, doing: str, error: Exception) -> None:
        """An error of ours, which the stream survives."""
        ...

    def rejoined(self, channel: str) -> None:
        """A channel is heard again; what was published meanwhile was not."""
        ...


class _Channel:
    __slots__ = ("asked", "confirmed", "joined", "node")

    def __init__(self) -> None:
        self.asked: Request | None = None  # whose answer confirms it
        self.node: str | None = None  # where it was asked for
        self.confirmed: asyncio.Event | None = asyncio.Event()  # None once it is
        self.joined = False  # at any time before


class Stream:
    """Channels come and go with `join` and `leave`; `run` keeps them heard for as long as it runs."""

    def __init__(self, server: Server, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[str, None] = {}  # to be asked for, in order
        self._links: dict[str, Link] = {}
        self._jobs = Jobs()
        self._work = asyncio.Event()
        self._moved = True  # who has which channel has to be asked for

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def channels(self) -> Collection[str]:
        return self._channels.keys()

    def is_complete(self) -> bool:
        """Whether every channel is heard."""
        return all(channel.confirmed is None for channel in self._channels.values())

    def add(self, name: str) -> asyncio.Event | None:
        """Begin to listen; what is published after the event, or from now on if there is none, is heard."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
            self._ask_for(name)
        return channel.confirmed

    async def join(self, name: str) -> None:
        """Listen. Returns when all that is published from now on is heard; waits for as long as that takes."""
        confirmed = self.add(name)
        if confirmed is not None:
            await confirmed.wait()

    def look_around(self) -> None:
        """Somebody was told that a key is elsewhere, or got no answer."""
        self._moved = True
        self._work.set()

    async def leave(self, names: Sequence[str]) -> None:
        """Stop listening. The last channel of a node stays: a restart shows first where its connection ends."""
        left = {node: sum(channel.node == node for channel in self._channels.values()) for node in self._links}
        links: dict[str, Link] = {}
        for name in names:
            node = self._channels[name].node
            if node in left:
                if left[node] == 1:
                    continue
                left[node] -= 1
            del self._channels[name]
            self._pending.pop(name, None)
            if node is not None and node in self._links:
                links[node] = self._links[node]
                links[node].put(Ask.LEAVE, name)  # before anybody can ask for it again, however slow a node is
        await asyncio.gather(*map(_flush, links.values()))

    async def run(self) -> None:
        self._work.set()
        async with self._jobs as jobs:
            await jobs.keep("subscribe", self._keep_asking)
            await jobs.keep("ping", self._keep_pinging)
            await jobs.failed()

    def _ask_for(self, name: str) -> None:
        self._pending[name] = None
        self._work.set()

    async def _keep_asking(self) -> None:
        """All that is pending goes out together: after a restart every client comes at once."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                if self._moved:
                    self._moved = False
                    await self._server.refresh()
                places: dict[str, list[str]] = {}
                for name in self._pending:
                    places.setdefault(self._server.node_of(name), []).append(name)
                found = await asyncio.gather(*map(self._subscribe, places, places.values()), return_exceptions=True)
                for error in found:
                    if error is not None:
                        raise error
            except Exception as error:
                if not isinstance(error, Away):  # the task boundary: whatever it was, the next try may succeed
                    self._listener.failed("subscribe", error)
                self._moved = True
                self._listener.interrupted(str(error))
                self._work.set()
            if self._moved:  # not at once: who asks too often gets the same answer
                await asyncio.sleep(RECONNECT)

    async def _subscribe(self, node: str, names: list[str]) -> None:
        link = self._links.get(node)
        if link is None:
            connection = await self._server.connect(node)
            policy = await self._server.eviction(connection)
            if policy:
                log.warning("redis.evicts", policy=policy)
            link = self._links[node] = Link(connection)
            await self._jobs.spawn("listen", partial(self._listen, node, link))
        names = [name for name in names if name in self._channels]
        for name in names:
            self._pending.pop(name, None)
            channel = self._channels[name]
            channel.node, channel.asked = node, link.put(Ask.JOIN, name)  # one each: a cluster wants one slot a command
        await link.flush()

    async def _listen(self, node: str, link: Link) -> None:
        """One connection to its end."""
        try:
            while True:
                await self._take(node, await link.hear())
        except Exception as error:
            if not isinstance(error, FAILURES):  # the task boundary: a new connection is made in any case
                self._listener.failed("listen", error)
            del self._links[node]
            lost = [name for name, channel in self._channels.items() if channel.node == node]
            self._lose(str(error) or type(error).__name__, lost)
        finally:
            await link.connection.disconnect(nowait=True)

    async def _take(self, node: str, heard: Heard) -> None:
        """What is not of the present subscription to a channel is of one that was left, or lost."""
        channel = self._channels.get(heard.channel)
        if channel is None or channel.node != node:
            return
        if heard.message is not None:
            await self._hear(heard.channel, heard.message)
        elif heard.request is None and channel.confirmed is None:
            self._lose("a slot has moved", [heard.channel])
        elif heard.request is not None and heard.request is channel.asked:
            if heard.error is not None:  # the node does not have that slot any more
                self._lose(heard.error, [heard.channel])
            else:
                self._confirm(heard.channel, channel)

    def _confirm(self, name: str, channel: _Channel) -> None:
        if channel.confirmed is not None:
            channel.confirmed.set()
        channel.asked = channel.confirmed = None
        if channel.joined:
            self._listener.rejoined(name)
        channel.joined = True

    async def _hear(self, name: str, payload: bytes) -> None:
        try:
            await self._listener.hear(name, payload)
        except Exception as error:  # one message must not keep the others from their users
            self._listener.failed("hear", error)
            self._listener.rejoined(name)

    def _lose(self, why: str, names: Iterable[str]) -> None:
        """Ask for these channels again, wherever they are now."""
        self._moved = True
        for name in names:
            channel = self._channels[name]
            channel.node = channel.asked = None
            channel.confirmed = channel.confirmed or asyncio.Event()
            self._ask_for(name)
        self._work.set()
        self._listener.interrupted(why)

    async def _keep_pinging(self) -> None:
        """A server that is frozen, or gone without a word, is noticed by its silence."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(PING_INTERVAL)
            now = time.monotonic()
            for link in list(self._links.values()):
                if now - before > 2 * PING_INTERVAL:
                    link.heard = now  # it was us who did not listen
                elif now - link.heard > SILENCE:
                    await link.connection.disconnect(nowait=True)  # ends the reading
                    continue
                link.put(Ask.PING)
                await _flush(link)


async def _flush(link: Link) -> None:
    with contextlib.suppress(Away):  # its end is noticed where it is read
        await link.flush()
