"""Resets on a real connection."""

import asyncio

import pytest

from tests.support.fake_transport import ClosedTransport
from wsbridge.connections.resets import reset


async def test_reset_discards_what_the_peer_has_not_read() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000)
        reset(writer.transport)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_reset_of_a_closed_connection_does_nothing() -> None:
    reset(ClosedTransport())
