"""Bytes onto a real transport: nothing waits for the peer, and everything is given back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.running import until
from wsbridge.transports.base import CLOSE_TIMEOUT, SLOW_CLOSE_TIMEOUT, SPREAD, BaseConnection

MEGABYTE = b"x" * 1_048_576


class Line:
    """A connection, and the socket at its other end."""

    def __init__(self, transport: asyncio.Transport, peer: socket.socket) -> None:
        self.transport = transport
        self.peer = peer
        self.connection = BaseConnection(transport)

    def stall(self) -> None:
        """Write more than the kernel takes; the peer reads nothing."""
        while not self.connection.unsent():
            self.connection.write(MEGABYTE)

    async def received(self) -> bytes:
        """What the peer has to read."""
        return await asyncio.get_running_loop().sock_recv(self.peer, 1_000)

    async def end(self) -> str:
        """How the peer sees it end, behind all that it has to read."""
        try:
            while await asyncio.get_running_loop().sock_recv(self.peer, 1_048_576):
                pass
        except ConnectionResetError:
            return "reset"
        return "closed"


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        peer.setblocking(False)
        accepted, _ = server.accept()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
        transport.get_extra_info("socket")  # while it is open: uvloop makes this object when it is asked
        line = Line(transport, peer)
        yield line
        line.connection.abort()
        await until(accepted_is_closed(transport))


def accepted_is_closed(transport: asyncio.Transport) -> Any:
    return lambda: transport.get_extra_info("socket").fileno() == -1


async def test_connection_write_arrives_at_the_peer(line: Line) -> None:
    line.connection.write(b"hello")
    assert await line.received() == b"hello"
    assert line.connection.unsent() == 0


async def test_connection_write_to_a_stalled_peer_is_counted_and_does_not_wait(line: Line) -> None:
    line.stall()
    before = line.connection.unsent()
    line.connection.write(MEGABYTE)
    assert line.connection.unsent() == before + len(MEGABYTE)


async def test_a_peer_that_has_left_takes_nothing(line: Line) -> None:
    line.peer.close()
    await until(line.transport.is_closing)
    line.connection.write(b"hello")
    assert line.connection.unsent() == 0


async def test_an_abort_throws_away_what_was_not_sent_and_resets(line: Line) -> None:
    line.stall()
    line.connection.abort()
    await until(accepted_is_closed(line.transport))
    assert await line.end() == "reset"


async def test_an_abort_of_what_has_ended_is_harmless(line: Line) -> None:
    line.connection.abort()
    await until(accepted_is_closed(line.transport))
    line.connection.abort()
    line.connection.write(b"hello")
    line.connection.over()


async def test_an_end_gives_the_socket_back_at_once_if_all_was_sent(line: Line) -> None:
    line.connection.write(b"bye")
    line.connection.abort_later()
    line.connection.over()
    await until(accepted_is_closed(line.transport))
    assert await line.received() == b"bye"
    assert await line.end() == "closed"


async def test_an_end_lets_the_peer_take_the_rest_for_a_while(line: Line) -> None:
    line.stall()
    line.connection.over()
    assert await line.end() == "closed"


async def test_an_end_waits_for_a_stalled_peer_no_longer_than_that(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 0.05)
    line.stall()
    line.connection.over()
    await until(accepted_is_closed(line.transport))
    assert await line.end() == "reset"


async def test_the_deadline_is_set_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 0.05)
    line.connection.abort_later()
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 3_600)
    line.connection.abort_later()
    await until(accepted_is_closed(line.transport))


async def test_abort_later_of_many_slow_peers_comes_at_different_moments(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = list[float]()
    monkeypatch.setattr(BaseConnection, "_set_timer", lambda _, after: seconds.append(after))
    for _ in range(100):
        line.connection.abort_later(soon=True)
    assert len(set(seconds)) > 90
    assert SLOW_CLOSE_TIMEOUT <= min(seconds) < max(seconds) <= SLOW_CLOSE_TIMEOUT + SPREAD
    line.connection.abort_later()
    assert seconds[-1] == CLOSE_TIMEOUT
