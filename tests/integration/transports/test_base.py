"""A connection on a real transport: writes never wait for the peer, and all resources are freed."""

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
        """Write more than the kernel buffers; the peer reads nothing."""
        while not self.connection.unsent():
            self.connection.write(MEGABYTE)

    async def received(self) -> bytes:
        """The bytes that the peer can read."""
        return await asyncio.get_running_loop().sock_recv(self.peer, 1_000)

    async def end(self) -> str:
        """How the peer sees the end, after all readable bytes."""
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
        transport.get_extra_info("socket")  # while it is open, because uvloop makes this object on request
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


async def test_connection_write_to_a_lost_peer_is_ignored(line: Line) -> None:
    line.peer.close()
    await until(line.transport.is_closing)
    line.connection.write(b"hello")
    assert line.connection.unsent() == 0


async def test_connection_abort_discards_unsent_bytes_and_resets(line: Line) -> None:
    line.stall()
    line.connection.abort()
    assert line.connection.unsent() == 0
    await until(accepted_is_closed(line.transport))
    assert await line.end() == "reset"


async def test_connection_abort_after_its_end_is_harmless(line: Line) -> None:
    line.connection.abort()
    await until(accepted_is_closed(line.transport))
    line.connection.abort()
    line.connection.write(b"hello")
    line.connection.over()


async def test_connection_end_of_writing_lets_the_peer_send_and_read_the_rest(line: Line) -> None:
    line.stall()
    line.connection.write_eof()
    line.peer.send(b"late")
    assert await line.end() == "closed"
    assert not line.connection.is_over
    line.peer.close()
    await until(accepted_is_closed(line.transport))


async def test_connection_end_of_writing_after_its_end_is_harmless(line: Line) -> None:
    line.connection.abort()
    line.connection.write_eof()
    await until(accepted_is_closed(line.transport))
    line.connection.write_eof()


async def test_connection_finish_with_all_bytes_sent_closes_at_once(line: Line) -> None:
    line.connection.write(b"bye")
    line.connection.abort_later()
    line.connection.over()
    await until(accepted_is_closed(line.transport))
    assert await line.received() == b"bye"
    assert await line.end() == "closed"


async def test_connection_finish_lets_the_peer_read_the_rest(line: Line) -> None:
    line.stall()
    line.connection.over()
    assert await line.end() == "closed"


async def test_connection_finish_with_a_stalled_peer_aborts_after_its_time_out(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 0.05)
    line.stall()
    line.connection.over()
    await until(accepted_is_closed(line.transport))
    assert await line.end() == "reset"


async def test_connection_abort_later_sets_one_timer(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 0.05)
    line.connection.abort_later()
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 3_600)
    line.connection.abort_later()
    await until(accepted_is_closed(line.transport))


async def test_connection_lost_with_unsent_bytes_leaves_no_timer(line: Line) -> None:
    line.stall()
    line.connection.connection_lost(None)
    timer = line.connection._timer  # no public name
    assert timer is not None
    assert timer.cancelled()


async def test_abort_later_of_many_slow_peers_is_spread(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = list[float]()
    monkeypatch.setattr(BaseConnection, "_set_timer", lambda _, after: seconds.append(after))
    for _ in range(100):
        line.connection.abort_later(soon=True)
    assert len(set(seconds)) > 90
    assert SLOW_CLOSE_TIMEOUT <= min(seconds) < max(seconds) <= SLOW_CLOSE_TIMEOUT + SPREAD
    line.connection.abort_later()
    assert seconds[-1] == CLOSE_TIMEOUT
