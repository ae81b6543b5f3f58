"""Takes a connection out of aiohttp once its request is accepted as a WebSocket or a stream.

aiohttp would keep a task, the request, a parser and a writer for it: 13 KB, which an idle connection does not need.
"""

import asyncio
from typing import Any, Protocol, cast

from aiohttp import web

from wsbridge.connections.connection_limit import ConnectionLimit, CountedConnection
from wsbridge.connections.direct_requests import leave
from wsbridge.connections.middleware import guard_of


class Successor(CountedConnection, Protocol):
    """The protocol that takes over. Must call `limit.leave` with itself when the connection is lost."""

    limit: ConnectionLimit | None

    def take_over(self) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class _Tail:
    """Replaces aiohttp's WebSocket reader, to get the bytes behind the handshake if no guard holds them."""

    def __init__(self) -> None:
        self.bytes = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.bytes += data
        return False, b""

    def feed_eof(self) -> None: ...


def hand_over(request: web.Request, successor: Successor) -> None:
    """Make `successor` the protocol of the request's transport. The head of the response must have been written.

    The handler must return that response. aiohttp finds no transport then, logs the request and ends its task.
    """
    transport, guard = request.transport, guard_of(request)
    if transport is None:  # the client disconnected meanwhile
        successor.connection_lost(None)
        return
    transport.set_protocol(cast("asyncio.Protocol", successor))
    successor.take_over()
    tail = _leave(request.protocol) if isinstance(request.protocol, web.RequestHandler) else b""
    if guard is not None:
        successor.limit, tail = guard.hand_over(successor)
    if tail:
        successor.data_received(tail)


def _leave(handler: web.RequestHandler) -> bytes:
    """Let aiohttp's protocol forget its transport. Returns the bytes behind the request."""
    tail = _Tail()
    handler.set_parser(cast("Any", tail))
    leave(handler)
    return tail.bytes
