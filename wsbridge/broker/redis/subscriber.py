"""The channels that this replica listens to, each on the node that owns it.

One connection to each node. redis-py's `PubSub` is not used: it reconnects by itself without reporting that messages
were missed. Here the listener is called when a connection ends and when a channel was subscribed to again.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.connection import Incoming, Operation, Request, SubscriberConnection
from wsbridge.broker.redis.errors import FAILURES
from wsbridge.broker.redis.server import Server
from wsbridge.supervision.jobs import Jobs
from wsbridge.telemetry.log import log

PING_INTERVAL = 0.5  # seconds
SILENCE = 1.4  # seconds without input, though pings were sent, after which a connection is closed
RECONNECT = 0.25  # seconds until the next try


class Listener(Protocol):
    async def on_message(self, channel: str, payload: bytes) -> None:
        """Handle a message. The subscriber reads no further before this returns, so the server may have to wait."""

    def on_interrupted(self, why: str) -> None:
        """A connection has ended: messages may be lost, and the server may be another one or may have lost data."""

    def on_error(self, doing: str, error: Exception) -> None:
        """An internal error. The subscriber continues."""

    def on_resubscribed(self, channel: str) -> None:
        """A channel works again. Messages that were published in between are lost."""


@dataclass(slots=True)
class _Channel:
    request: Request | None = None  # whose reply confirms the subscription
    node: str | None = None  # where the request was sent
    confirmed: asyncio.Event | None = field(default_factory=asyncio.Event)  # None once the subscription is confirmed
    was_subscribed: bool = False  # at any time before


class Subscriber:
    """Keeps all channels between `subscribe` and `unsubscribe` subscribed, for as long as `run` runs."""

    def __init__(self, server: Server, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[str, None] = {}  # channels without a request, in order
        self._connections: dict[str, SubscriberConnection] = {}  # by node
        self._jobs = Jobs()
        self._work = asyncio.Event()
        self._is_stale = True  # the owners of the slots may have changed

    @property
    def channels(self) -> Collection[str]:
        return self._channels.keys()

    def is_complete(self) -> bool:
        """Whether the server has confirmed every channel."""
        return all(channel.confirmed is None for channel in self._channels.values())

    def add(self, name: str) -> asyncio.Event | None:
        """Subscribe without waiting. Returns an event that is set on confirmation, None if it is confirmed already."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
            self._schedule(name)
        return channel.confirmed

    async def subscribe(self, name: str) -> None:
        """Subscribe and wait for the confirmation, without a time limit. Later messages reach the listener."""
        confirmed = self.add(name)
        if confirmed is not None:
            await confirmed.wait()

    def refresh_soon(self) -> None:
        """Look for the owners of the slots again. To be called after a redirection or a time-out."""
        self._is_stale = True
        self._work.set()

    async def unsubscribe(self, names: Sequence[str]) -> None:
        """Unsubscribe. The last channel of each node stays, because its connection reports a restart of the node."""
        if not names:
            return
        left = {node: sum(channel.node == node for channel in self._channels.values()) for node in self._connections}
        connections: dict[str, SubscriberConnection] = {}
        for name in names:
            node = self._channels[name].node
            if node in left:
                if left[node] == 1:
                    continue
                left[node] -= 1
            del self._channels[name]
            self._pending.pop(name, None)
            if node is not None and node in self._connections:
                connections[node] = self._connections[node]
                # Enqueued before the first await, so that a new `subscribe` of the same channel comes after it.
                connections[node].enqueue(Operation.UNSUBSCRIBE, name)
        await asyncio.gather(*map(_flush, connections.values()))

    async def run(self) -> None:
        self._work.set()
        async with self._jobs as jobs:
            await jobs.keep("subscribe", self._keep_subscribing)
            await jobs.keep("ping", self._keep_pinging)
            await jobs.failed()

    def _schedule(self, name: str) -> None:
        self._pending[name] = None
        self._work.set()

    async def _keep_subscribing(self) -> None:
        """Send all pending requests together, because after a restart of the server every channel is pending."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                if self._is_stale:
                    self._is_stale = False
                    await self._server.refresh()
                nodes: dict[str, list[str]] = {}
                for name in self._pending:
                    nodes.setdefault(self._server.node_of(name), []).append(name)
                results = await asyncio.gather(*map(self._subscribe_on, nodes, nodes.values()), return_exceptions=True)
                for error in results:
                    if error is not None:
                        raise error
            except Exception as error:
                if not isinstance(error, BrokerUnavailable):  # the task boundary: the next try may succeed
                    self._listener.on_error("subscribe", error)
                self._is_stale = True
                self._listener.on_interrupted(str(error))
                self._work.set()
            if self._is_stale:  # wait, because the same question at once has the same answer
                await asyncio.sleep(RECONNECT)

    async def _subscribe_on(self, node: str, names: list[str]) -> None:
        connection = self._connections.get(node)
        if connection is None:
            connection = await self._connect(node)
        names = [name for name in names if name in self._channels]
        for name in names:
            self._pending.pop(name, None)
            channel = self._channels[name]
            channel.node = node
            # One command for each channel: a cluster refuses a command for several slots.
            channel.request = connection.enqueue(Operation.SUBSCRIBE, name)
        await connection.flush()

    async def _connect(self, node: str) -> SubscriberConnection:
        raw = await self._server.connect(node)
        policy = await self._server.eviction(raw)
        if policy:
            log.warning("redis.evicts", policy=policy)
        connection = self._connections[node] = SubscriberConnection(raw)
        await self._jobs.spawn("listen", partial(self._listen, node, connection))
        return connection

    async def _listen(self, node: str, connection: SubscriberConnection) -> None:
        try:
            while True:
                await self._handle(node, await connection.receive())
        except Exception as error:
            if not isinstance(error, FAILURES):  # the task boundary: the connection is replaced in any case
                self._listener.on_error("listen", error)
            del self._connections[node]
            lost = [name for name, channel in self._channels.items() if channel.node == node]
            self._resubscribe(str(error) or type(error).__name__, lost)
        finally:
            await connection.connection.disconnect(nowait=True)

    async def _handle(self, node: str, incoming: Incoming) -> None:
        """Ignore input that belongs to an earlier subscription to the channel."""
        channel = self._channels.get(incoming.channel)
        if channel is None or channel.node != node:
            return
        if incoming.message is not None:
            await self._deliver(incoming.channel, incoming.message)
        elif incoming.request is None and channel.confirmed is None:
            self._resubscribe("a slot has moved", [incoming.channel])
        elif incoming.request is not None and incoming.request is channel.request:
            if incoming.error is not None:  # the node does not own that slot any more
                self._resubscribe(incoming.error, [incoming.channel])
            else:
                if channel.confirmed is not None:
                    channel.confirmed.set()
                channel.request = channel.confirmed = None
                if channel.was_subscribed:
                    self._listener.on_resubscribed(incoming.channel)
                channel.was_subscribed = True

    async def _deliver(self, name: str, payload: bytes) -> None:
        try:
            await self._listener.on_message(name, payload)
        except Exception as error:  # an error in one message must not end the subscription of all others
            self._listener.on_error("subscription", error)
            self._listener.on_resubscribed(name)

    def _resubscribe(self, why: str, names: Iterable[str]) -> None:
        """Subscribe to these channels again, on the nodes that own them now."""
        self.refresh_soon()
        for name in names:
            channel = self._channels[name]
            channel.node = channel.request = None
            channel.confirmed = channel.confirmed or asyncio.Event()
            self._schedule(name)
        self._listener.on_interrupted(why)

    async def _keep_pinging(self) -> None:
        """Detect a server that is frozen or unreachable without an end of its connections."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(PING_INTERVAL)
            now = time.monotonic()
            for connection in list(self._connections.values()):
                if now - before > 2 * PING_INTERVAL:
                    connection.last_input = now  # this process was suspended, not the server
                elif now - connection.last_input > SILENCE:
                    await connection.connection.disconnect(nowait=True)  # `receive` fails then
                    continue
                connection.enqueue(Operation.PING)
                await _flush(connection)


async def _flush(connection: SubscriberConnection) -> None:
    with contextlib.suppress(BrokerUnavailable):  # `_listen` handles the end of the connection
        await connection.flush()
