"""The sockets of a port, and the accept loop: a few at a time, with pauses while there are no descriptors."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.frames import GOOD, Peer
from tests.support.logs import Logs
from tests.support.running import Start, until
from tests.support.spawned import Spawn
from wsbridge.connections import listener
from wsbridge.connections.listener import BATCH, Listener
from wsbridge.telemetry.metrics import Metrics


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@asynccontextmanager
async def listening(
    host: str = "127.0.0.1", refuses: Callable[[str], bytes | None] = lambda _: None
) -> AsyncIterator[tuple[Listener, Metrics, list[str]]]:
    metrics, made, peers = Metrics(), [], list[str]()

    def make(peer: str) -> Echo:
        peers.append(peer)
        return Echo()

    found = Listener(make, refuses, lambda: made.append(1), metrics)
    await found.bind(host, 0)
    tasks = [asyncio.create_task(found.accept(sock)) for sock in found.sockets]
    try:
        yield found, metrics, peers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found.close()


async def echoed(port: int, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"hello")
    found = await reader.read(100)
    writer.close()
    return found


@pytest.mark.fault("G7")
async def test_bind_to_all_of_ipv6_takes_ipv4_too() -> None:
    async with listening("::") as (found, _, peers):
        assert await echoed(found.port) == await echoed(found.port, "::1") == b"hello"
        assert peers == ["127.0.0.1", "::1"]


@pytest.mark.fault("G7")
@pytest.mark.parametrize("host", ["::", "[::]"])
async def test_serve_on_all_of_ipv6_answers_on_both(start: Start, host: str) -> None:
    bridge = await start(HOST=host, AUTH="none")
    assert (await bridge.get("/healthz"))[0] == 200
    async with bridge.http.get(f"http://[::1]:{bridge.port}/healthz") as response:
        assert response.status == 200


@pytest.mark.fault("G7")
async def test_serve_on_a_bracketed_address_that_check_accepts(start: Start) -> None:
    bridge = await start(HOST="[::1]")
    async with bridge.http.get(f"http://[::1]:{bridge.port}/healthz") as response:
        assert response.status == 200


async def test_bind_to_a_name_listens_on_all_its_addresses() -> None:
    async with listening("localhost") as (found, _, _):
        assert {sock.getsockname()[1] for sock in found.sockets} == {found.port}
        assert await echoed(found.port) == b"hello"


async def test_bind_to_a_taken_port_raises() -> None:
    async with listening() as (found, _, _):
        with pytest.raises(OSError, match="in use") as caught:
            await Listener(lambda _: Echo(), lambda _: None, lambda: None, Metrics()).bind("127.0.0.1", found.port)
        assert caught.value.errno == errno.EADDRINUSE


async def test_accept_a_refused_address_gets_the_answer_and_no_protocol() -> None:
    async with listening(refuses=lambda _: b"no") as (found, _, peers):
        assert await echoed(found.port) in (b"no", b"")
        assert peers == []


@pytest.mark.parametrize("bound", ["BATCH", "LOOKED_AT"])
async def test_accept_many_at_once_takes_all(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(listener, bound, 3)
    async with listening() as (found, _, _):
        assert await asyncio.gather(*(echoed(found.port) for _ in range(50))) == [b"hello"] * 50


@pytest.mark.fault("C4")
async def test_accept_takes_no_more_while_as_many_connections_have_no_protocol_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit of connections does not count them yet, but they have descriptors."""
    gate, taken = asyncio.Event(), 0
    take = Listener._take

    async def later(found: Listener, connection: socket.socket, peer: str) -> None:
        nonlocal taken
        taken += 1
        await gate.wait()
        await take(found, connection, peer)

    monkeypatch.setattr(Listener, "_take", later)
    async with listening() as (found, _, _):
        waiting = [asyncio.create_task(echoed(found.port)) for _ in range(3 * BATCH)]
        await until(lambda: taken == BATCH)
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert taken == BATCH
        gate.set()
        assert await asyncio.gather(*waiting) == [b"hello"] * len(waiting)


async def test_accept_with_many_refused_connections_reaches_the_next_one_soon() -> None:
    refused = 2 * BATCH
    answers = [b"no"] * refused + [None]
    found = Listener(lambda _: Echo(), lambda _: answers.pop(0), lambda: None, Metrics())
    await found.bind("127.0.0.1", 0)
    (sock,) = found.sockets
    peers = [socket.create_connection(sock.getsockname()) for _ in range(refused + 1)]
    ((connection, _),) = found._welcome(sock)  # in one wake-up of the loop
    for each in (connection, *peers):
        each.close()
    found.close()


class OutOfDescriptors:
    """`accept` of every socket fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.tries = 0

        def accept(_: socket.socket) -> None:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(socket.socket, "accept", accept)


@pytest.mark.fault("C4")
async def test_accept_without_descriptors_waits_and_logs_one_line(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.expected = {"accept.failed"}
    monkeypatch.setattr(listener, "PAUSE", 0.01)
    async with listening() as (found, metrics, _):
        with monkeypatch.context() as patch:
            system = OutOfDescriptors(patch)
            waiting = asyncio.create_task(echoed(found.port))
            await until(lambda: system.tries > 3)
            assert metrics.refusals["accept"] in (system.tries, system.tries - 1)
        assert await waiting == b"hello"
    assert len(logs.of("accept.failed")) == 1


@pytest.mark.fault("C4")
async def test_serve_with_few_descriptors_and_many_silent_peers_stays_well(spawn: Spawn) -> None:
    bridge = await spawn(descriptors="200")
    ws, _ = await bridge.opened()
    peers = [Peer(bridge.port) for _ in range(400)]
    for peer in peers:
        await peer.__aenter__()
    for _ in range(5):
        assert (await bridge.get("/healthz"))[0] == 200
        async with Peer(bridge.port) as late:
            assert (await late.request(GOOD + "\r\n"))[0] == 101
    assert await bridge.publish({"user_id": "u1"}) == "SUCCESS"
    assert (await ws.receive_json())["type"] == "task_update"
    _, text = await bridge.get("/metrics")
    for peer in peers:
        peer.sock.close()
    assert 'connections_refused_total{reason="descriptors"} 0.0' not in text
    assert not bridge.of("accept.failed")
    assert not [line for line in bridge.lines if line["level"] == "error"]
