"""The tests' faulty proxy: each fault, as both of its sides see it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import pytest

from tests.support.frames import GOOD, Peer
from tests.support.proxy import FaultyProxy, Upgrades
from tests.support.running import DEADLINE, until
from tests.support.site import Site

RESET = b"\0reset"  # how a connection ended: with a RST, or at a time-out
UPGRADE = f"{GOOD}\r\n".encode()


class Behind:
    """A server behind the proxy, which echoes what it reads."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []  # of each connection
        self.ended: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.heard)
        self.heard.append(b"")
        try:
            while chunk := await reader.read(65_536):
                self.heard[number] += chunk
                writer.write(chunk)
            self.ended.append("finished")
        except ConnectionResetError:
            self.ended.append("reset")
        writer.close()


@dataclass
class Ends:
    behind: Behind
    proxy: FaultyProxy


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    async with Behind() as behind, FaultyProxy(behind.port) as proxy:
        yield Ends(behind, proxy)


async def said(peer: Peer, text: bytes) -> None:
    """Send and read the echo."""
    await peer.send(text)
    assert await peer.exactly(len(text)) == text


async def end_of(peer: Peer) -> str:
    try:
        async with asyncio.timeout(DEADLINE):
            chunk = await asyncio.get_running_loop().sock_recv(peer.sock, 65_536)
    except ConnectionResetError:
        return "reset"
    assert chunk == b""
    return "finished"


async def test_faulty_proxy_forwards_bytes_and_closes(ends: Ends) -> None:
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")
        await said(peer, b"two")
    await until(lambda: ends.behind.ended == ["finished"])
    assert ends.behind.heard == [b"onetwo"]


async def test_faulty_proxy_cut_resets_both_sides(ends: Ends) -> None:
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")
        ends.proxy.cut()
        assert await end_of(peer) == "reset"
        await until(lambda: ends.behind.ended == ["reset"])
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"the next connection is a good one")


async def test_faulty_proxy_hang_up_closes_the_browsers_side_only(ends: Ends) -> None:
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")
        ends.proxy.hang_up()
        assert await end_of(peer) == "finished"
        assert ends.behind.ended == []


async def test_faulty_proxy_half_close_reaches_the_bridge_only(ends: Ends) -> None:
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")
        ends.proxy.half_close()
        await until(lambda: ends.behind.ended == ["finished"])
        await peer.send(b"two")  # the browser still treats it as open
        async with Peer(ends.proxy.port) as other:
            await said(other, b"three")
        assert ends.behind.heard == [b"one", b"three"]
        with pytest.raises(BlockingIOError):
            peer.sock.recv(1)


async def test_faulty_proxy_holds_one_connection_and_passes_the_others(ends: Ends) -> None:
    async with Peer(ends.proxy.port) as held, Peer(ends.proxy.port) as other:
        await said(held, b"one")
        ends.proxy.hold()
        await held.send(b"two")
        await said(other, b"three")
        assert ends.behind.heard == [b"one", b"three"]
        assert ends.behind.ended == []
        with pytest.raises(BlockingIOError):
            held.sock.recv(1)


async def test_faulty_proxy_silent_accepts_connections_only(ends: Ends) -> None:
    ends.proxy.silent = True
    async with Peer(ends.proxy.port) as silent:
        await silent.send(b"one")
        await until(lambda: ends.behind.heard == [b""])
        ends.proxy.silent = False
        async with Peer(ends.proxy.port) as other:
            await said(other, b"two")
        assert ends.behind.heard == [b"", b"two"]


async def test_faulty_proxy_listens_again_after_refusing(ends: Ends) -> None:
    await ends.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ends.proxy.port)
    await ends.proxy.listen()
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("server", [lambda: FaultyProxy(0), lambda: Site("u1")], ids=["proxy", "site"])
async def test_server_of_a_test_closes_a_connection_that_came_last(server: Callable[[], Any], turns: int) -> None:
    served = server()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served)
        async with Peer(served.port) as peer:
            for _ in range(turns):  # the system has accepted it; its protocol knows it a few turns after asyncio
                await asyncio.sleep(0)
            await stack.aclose()
            assert await end_of(peer) in ("finished", "reset")


async def test_faulty_proxy_delays_both_directions(ends: Ends) -> None:
    ends.proxy.delay = 0.05
    async with Peer(ends.proxy.port) as peer:
        await said(peer, b"one")  # the first chunk is only delayed on its way back
        started = asyncio.get_running_loop().time()
        await said(peer, b"two")
        assert asyncio.get_running_loop().time() - started >= 2 * ends.proxy.delay - 0.01


@pytest.mark.parametrize("request_head", [UPGRADE, UPGRADE.replace(b"Upgrade: websocket", b"upgrade:  WebSocket")])
async def test_faulty_proxy_blocks_upgrades_and_nothing_else(ends: Ends, request_head: bytes) -> None:
    plain = b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for upgrades in (Upgrades.FORBIDDEN, Upgrades.STRIPPED):
        ends.proxy.upgrades = upgrades
        async with Peer(ends.proxy.port) as peer:
            await said(peer, plain)
    async with Peer(ends.proxy.port) as peer:
        await peer.send(request_head)
        await until(lambda: len(ends.behind.heard) == 3 and ends.behind.heard[2])
    assert b"websocket\r\n" not in ends.behind.heard[2].lower()
    assert ends.behind.heard[2].endswith(b"\r\n\r\n")
    ends.proxy.upgrades = Upgrades.FORBIDDEN
    async with Peer(ends.proxy.port) as peer:
        assert (await peer.request(request_head))[0] == 403
    assert len(ends.behind.heard) == 3
