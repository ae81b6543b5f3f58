"""Limits the TCP connections of the process, and chooses the connection to cut above the limit."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Protocol

from wsbridge.telemetry.metrics import Metrics

MAX_HEAD_BYTES = 33_554_432  # of all incomplete heads together; above, the connection with the oldest one is cut
MARGIN = 32  # connections above the limit, for probes and sidecars; above, new connections are refused


class CountedConnection(Protocol):
    """The interface of any connection."""

    def abort(self) -> None:
        """Reset the connection at once."""


class LimitedConnection(CountedConnection, Protocol):
    """The interface of a connection that may wait for a request."""

    def cut(self, reason: str) -> None:
        """Reset the connection, for this reason."""

    def close(self) -> None:
        """End the connection, because the server stops."""


class ConnectionLimit:
    """With more than `limit` connections no request may become a session."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._metrics = metrics
        self._members: set[CountedConnection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._head_bytes = 0
        # Connections that wait for a request, the longest wait first. Those of unknown peers are cut before known ones.
        self._waiting: dict[bool, dict[LimitedConnection, None]] = {False: {}, True: {}}
        self._unfinished: dict[LimitedConnection, int] = {}  # bytes of incomplete heads, oldest first
        metrics.watch("sockets", "Open TCP connections.", lambda: len(self._members))
        metrics.watch("limit_sockets", "Most of them, by the descriptors that the system allows.", lambda: limit)
        metrics.watch("request_head_bytes", "Memory for unfinished request heads.", lambda: self._head_bytes)

    @property
    def is_full(self) -> bool:
        return len(self._members) > self.limit

    @property
    def is_overflowing(self) -> bool:
        """Whether new connections must be refused, even those of probes."""
        return len(self._members) >= self.limit + MARGIN

    def enter(self, member: LimitedConnection, *, known: bool) -> None:
        """Add a new connection. Above the limit, cut an idle one."""
        self._members.add(member)
        self._is_empty.clear()
        if self.is_full:
            self.make_room()
        self.set_idle(member, known=known)

    def replace(self, member: LimitedConnection, successor: CountedConnection) -> None:
        """The connection is a WebSocket or a stream from now on, which is never cut to make room."""
        self.set_busy(member)
        self._members.discard(member)
        self._members.add(successor)

    def leave(self, member: CountedConnection) -> None:
        self._members.discard(member)
        if not self._members:
            self._is_empty.set()

    def set_idle(self, member: LimitedConnection, *, known: bool) -> None:
        """The connection waits for a request: it may be cut."""
        self._waiting[known][member] = None

    def set_busy(self, member: LimitedConnection) -> None:
        """A request of the connection is being answered, or it ends: it must not be cut."""
        for waiting in self._waiting.values():
            waiting.pop(member, None)

    def hold(self, member: LimitedConnection, size: int) -> None:
        """Set the size of the incomplete head of a connection, in bytes; 0 if it has none."""
        if not size and member not in self._unfinished:
            return  # nearly always
        self._head_bytes += size - self._unfinished.get(member, 0)
        if size:
            self._unfinished[member] = size
        else:
            self._unfinished.pop(member, None)
        while self._head_bytes > MAX_HEAD_BYTES:
            next(iter(self._unfinished)).cut("head_memory")

    def close(self) -> None:
        """The server stops: close all idle connections."""
        for member in list(self._idle()):
            member.close()

    async def end_all(self, timeout: float) -> None:  # noqa: ASYNC109 - its expiry is not an error
        """Wait `timeout` seconds for the peers' part of the closes. Then reset the connections that are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._is_empty.wait()
        for member in list(self._members):
            member.abort()

    def make_room(self) -> None:
        """Cut the connection that has been idle longest, if there is one."""
        if (idle := next(self._idle(), None)) is not None:
            idle.cut("descriptors")

    def _idle(self) -> Iterator[LimitedConnection]:
        return itertools.chain.from_iterable(self._waiting.values())
