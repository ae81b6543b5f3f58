"""Peers that send requests and read no response: neither their memory nor their connections last."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Self

import pytest
from aiohttp.web_protocol import RequestHandler

from tests.support.bystander import Bystander
from tests.support.frames import LITTLE, Peer
from tests.support.running import Running, Start, until
from wsbridge import server
from wsbridge.connections.guard import ConnectionGuard

FULL = 65_536  # bytes in a write buffer at which a transport pauses its protocol
POST = b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
PAGE = b"GET /client.js HTTP/1.1\r\nHost: a\r\n\r\n"
either = pytest.mark.parametrize("request_", [POST, PAGE], ids=["answered directly", "answered by aiohttp"])


class Silent(Peer):
    """It reads nothing until it is asked to, and the kernel buffers little for it."""

    receive_buffer = LITTLE

    def __init__(self, bridge: Running) -> None:
        super().__init__(bridge.port)
        self._members = bridge.bridge.connection_limit._members
        self._before = set(self._members)
        self.sent = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await until(lambda: self._members - self._before)
        (guard,) = self._members - self._before
        assert isinstance(guard, ConnectionGuard)
        assert guard.transport
        self.guard = guard
        guard.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LITTLE)
        return self

    @property
    def unsent(self) -> int:
        return self.guard.transport.get_write_buffer_size() if self.guard.transport else 0

    async def send_until_paused(self, request: bytes) -> None:
        while not self.guard._unread:
            await self.send(request)
            self.sent += 1
            await asyncio.sleep(0)

    async def read_all(self) -> None:
        while await asyncio.get_running_loop().sock_recv(self.sock, FULL):
            pass

    async def send_more(self, data: bytes) -> None:
        """Send what the bridge or the kernel takes of the data."""
        with contextlib.suppress(BlockingIOError):
            for at in range(0, len(data), 1_000):
                self.sock.send(data[at : at + 1_000])
                await asyncio.sleep(0)


async def is_cut(bridge: Running, peer: Silent, reason: str) -> None:
    await until(lambda: peer.guard.transport is None)
    assert bridge.bridge.metrics.refusals[reason] == 1
    assert not [member for member in bridge.bridge.connection_limit._members if member is peer.guard]


@pytest.fixture
async def peer(bridge: Running) -> AsyncIterator[Silent]:
    async with Silent(bridge) as found:
        yield found


@pytest.mark.fault("C9")
@either
async def test_peer_that_reads_nothing_has_bounded_buffers(bridge: Running, peer: Silent, request_: bytes) -> None:
    async with Bystander(bridge):
        await peer.send_until_paused(request_)
        before = peer.unsent
        await peer.send_more(request_ * 20_000)
    assert peer.unsent == before < 3 * FULL
    assert len(peer.guard._head) < 10 * FULL


@either
async def test_peer_that_reads_late_gets_every_response(peer: Silent, request_: bytes) -> None:
    await peer.send_until_paused(request_)
    await peer.send(request_)
    await peer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answers = await peer.rest()
    assert answers.count(b"HTTP/1.1 ") == peer.sent + 2
    assert answers.endswith(b"\r\n\r\nok\n")


@pytest.mark.fault("C4")
@either
async def test_peer_that_reads_nothing_is_cut(start: Start, monkeypatch: pytest.MonkeyPatch, request_: bytes) -> None:
    monkeypatch.setattr(server, "WRITE_TIMEOUT", 0.1)
    bridge = await start()
    async with Silent(bridge) as peer:
        await peer.send_until_paused(request_)
        await is_cut(bridge, peer, "unread")


@pytest.mark.fault("C4")
async def test_peer_that_reads_a_little_at_a_time_stays(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WRITE_TIMEOUT", 0.5)
    bridge = await start()
    async with Silent(bridge) as peer:
        await peer.send_until_paused(PAGE)
        for _ in range(20):
            await peer.read()
            await asyncio.sleep(0.1)
        assert peer.guard.transport


@pytest.mark.fault("C4")
@either
async def test_peer_that_reads_nothing_is_cut_to_make_room(bridge: Running, peer: Silent, request_: bytes) -> None:
    await peer.send_until_paused(request_)
    await peer.send_more(request_ * 10)
    bridge.bridge.connection_limit.limit = 1
    assert (await bridge.get("/healthz"))[0] == 200
    await is_cut(bridge, peer, "descriptors")


@pytest.mark.fault("C4")
@pytest.mark.parametrize("end", [b"\x16\x03 not HTTP", b""], ids=["refused", "half closed"])
async def test_peer_that_does_not_read_its_last_response_is_reset(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(server, "LINGER", 0.1)
    bridge = await start()
    async with Silent(bridge) as peer:
        while not peer.unsent:
            await peer.send(POST)
            await asyncio.sleep(0)
        await (peer.send(end) if end else asyncio.to_thread(peer.sock.shutdown, socket.SHUT_WR))
        await until(lambda: peer.guard.transport is None)
        with pytest.raises(ConnectionResetError):
            await peer.read_all()


@pytest.mark.fault("C4")
async def test_stop_resets_a_peer_that_reads_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STOP_TIMEOUT", 0.1)
    monkeypatch.setattr(server, "LINGER", 1_000.0)
    bridge = await start()
    async with Silent(bridge) as peer:
        await peer.send_until_paused(POST)
        await bridge.server.stop()
        await until(lambda: peer.guard.transport is None)  # and not after the time for its last response


async def test_paused_peer_has_one_request_in_aiohttp(peer: Silent) -> None:
    await peer.send_until_paused(PAGE)
    await peer.send_more(PAGE * 1_000)
    assert isinstance(peer.guard._inner, RequestHandler)
    assert not peer.guard._inner._messages
