"""A round-robin TCP proxy in front of the bridges, like a Service: it forwards bytes and does not parse HTTP."""

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine
from typing import Self

from tests.support.valkey import free_port


class Proxy:
    """`async with Proxy() as proxy`. `ports` get new connections: those of the pods that are ready."""

    def __init__(self) -> None:
        self.port = free_port()
        self.ports: list[int] = []
        self._turn = itertools.count()
        self._writers = set[asyncio.StreamWriter]()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=4_096)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionRefusedError):
            server_reader, server_writer = await self._connected()
            with contextlib.closing(server_writer):
                self._writers |= {writer, server_writer}
                await _both(_pass(reader, server_writer), _pass(server_reader, writer))
                self._writers -= {writer, server_writer}

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next available port in turn."""
        for _ in range(len(self.ports)):
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", self.ports[next(self._turn) % len(self.ports)])
        raise ConnectionRefusedError


async def _both(*directions: Coroutine[None, None, None]) -> None:
    """Forward until both directions have ended, or one is broken; then end the other one as well."""
    passing = [asyncio.create_task(direction) for direction in directions]
    await asyncio.wait(passing, return_when=asyncio.FIRST_EXCEPTION)
    for task in passing:
        task.cancel()
    await asyncio.gather(*passing, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
