"""Answers requests for an upgrade with the application alone.

aiohttp's connection protocol would make a parser, a timer and two tasks that live as long as the handshake, and a
handshake would take a quarter more instructions.
"""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpProcessingError, HttpRequestParser

from wsbridge.connections.canned_responses import closing
from wsbridge.connections.request_head import MAX_LINES
from wsbridge.telemetry.metrics import Metrics


class Upgrading(Protocol):
    """The connection of a request. It has what a `web.Request` reads of aiohttp's protocol."""

    transport: asyncio.Transport | None

    def refuse(self, response: bytes) -> None:
        """Write the response and close the connection."""


@dataclass(eq=False)
class Upgrades:
    """Has one task for each request, which ends with the handler.

    A task may outlive its connection. WSBRIDGE_HANDSHAKE_RATE and the time-outs of keys and history bound them.
    """

    server: web.Server
    access_log: AbstractAccessLogger
    metrics: Metrics
    max_header_bytes: int
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def begin(self, connection: Upgrading, head: bytes) -> bool:
        """Answer the request with this head and no body. Returns False if aiohttp's protocol must do it."""
        loop, limit = asyncio.get_running_loop(), self.max_header_bytes
        protocol = cast("Any", connection)
        parser = HttpRequestParser(
            protocol, loop, 0, max_line_size=limit, max_field_size=limit, max_headers=MAX_LINES, auto_decompress=False
        )
        try:
            ((message, payload),), _, _ = parser.feed_data(head)
        except (HttpProcessingError, ValueError):  # refused, or not one message
            return False
        if hdrs.EXPECT in message.headers:
            return False
        request = self.server.request_factory(message, payload, protocol, cast("Any", None), cast("Any", None))
        task = loop.create_task(self._answer(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def close(self) -> None:
        """The server stops: cancel the handlers that still wait."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, connection: Upgrading, request: web.BaseRequest) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            response = await self.server.request_handler(request)
        except Exception as error:  # the task boundary; the application's middleware translates all that it can
            self.metrics.internal("upgrade", error)
            connection.refuse(b"")
            return
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            connection.refuse(closing(response))
        self.access_log.log(request, response, loop.time() - began)
