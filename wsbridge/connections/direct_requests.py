"""Answers requests with the application alone: handshakes, and posts whose whole body has arrived with the head.

aiohttp's connection protocol would make a writer, a timer and two tasks. An event that is posted alone would take a
sixth more instructions, a handshake a quarter.
"""

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpVersion11, RawRequestMessage

from wsbridge.connections.canned_responses import closing, continuing
from wsbridge.connections.request_head import Head
from wsbridge.telemetry.metrics import Metrics


class Requesting(Protocol):
    """The connection of a request. It has what a `web.Request` reads of aiohttp's protocol."""

    transport: asyncio.Transport | None

    def respond(self, response: bytes) -> None:
        """Write the response and wait for the next request."""

    def refuse(self, response: bytes) -> None:
        """Write the response and close the connection."""


class ArrivedBody:
    """The body of a request, with the methods of aiohttp's `StreamReader` that a `web.Request` uses."""

    __slots__ = ("_unread", "total_bytes")

    def __init__(self, body: bytes) -> None:
        self._unread = body
        self.total_bytes = len(body)

    def is_eof(self) -> bool:
        """Whether the body has arrived."""
        return True

    def at_eof(self) -> bool:
        """Whether the body has been read."""
        return not self._unread

    def read_nowait(self) -> bytes:
        body, self._unread = self._unread, b""
        return body

    def set_read_chunk_size(self, size: int) -> None: ...

    async def readany(self) -> bytes:
        return self.read_nowait()


def leave(handler: asyncio.Protocol) -> None:
    """Let aiohttp's protocol forget its transport, and free its parser, its timer and its task."""
    cast("web.RequestHandler", handler).transport = None  # otherwise the next line would close it
    handler.connection_lost(None)


if sys.version_info >= (3, 12):

    def _start(answer: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Saves a turn of the loop."""
        return asyncio.Task(answer, loop=loop, eager_start=True)

else:

    def _start(answer: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        return loop.create_task(answer)


@dataclass(eq=False)
class DirectRequests:
    """Has one task for each request, which ends with the handler.

    A task may outlive its connection. The time-outs of keys and history bound the tasks, and WSBRIDGE_HANDSHAKE_RATE
    those of handshakes.
    """

    server: web.Server
    access_log: AbstractAccessLogger
    metrics: Metrics
    is_stopping: bool = field(default=False, init=False)  # every response is the last one on its connection
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def begin(
        self,
        connection: Requesting,
        head: Head,
        message: RawRequestMessage,
        body: bytes,
        *,
        is_handshake: bool,
        at_once: bool,
    ) -> bool:
        """Answer the request with this head, parsed, and body. Returns False if aiohttp's protocol must do it.

        `at_once` runs the handler up to its first pause before this returns, where Python can (from 3.12 on).
        """
        if not (is_handshake or head.posts):
            return False
        is_kept = message.version == HttpVersion11 and not message.should_close
        if hdrs.EXPECT in message.headers or message.chunked or not (is_kept or is_handshake):
            return False
        loop, payload, nothing = asyncio.get_running_loop(), cast("Any", ArrivedBody(body)), cast("Any", None)
        request = self.server.request_factory(message, payload, cast("Any", connection), nothing, nothing)
        answer = self._answer(connection, request, is_handshake=is_handshake)
        task = _start(answer, loop) if at_once else loop.create_task(answer)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - its expiry is not an error
        """The server stops: cancel the handlers that do not end within `timeout` seconds."""
        self.is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()

    async def _answer(self, connection: Requesting, request: web.BaseRequest, *, is_handshake: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            response = await self.server.request_handler(request)
            if not is_handshake:
                connection.respond(continuing(response))
            elif response.status != HTTPStatus.SWITCHING_PROTOCOLS:
                connection.refuse(closing(response))
        except Exception as error:  # the task boundary; the application's middleware translates all that it can
            self.metrics.internal("request", error)
            connection.refuse(b"")
            return
        self.access_log.log(request, response, loop.time() - began)
