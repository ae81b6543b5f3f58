"""One subscriber connection: requests are sent in the order of `enqueue`, and each gets its own reply."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.running import DEADLINE
from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.connection import Incoming, Operation, SubscriberConnection
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse


@asynccontextmanager
async def subscriber_connection(valkey: Valkey) -> AsyncIterator[SubscriberConnection]:
    connection = SubscriberConnection(await create_server(parse(valkey.url)).connect(""))
    try:
        yield connection
    finally:
        await connection.connection.disconnect(nowait=True)


async def received(connection: SubscriberConnection) -> Incoming:
    async with asyncio.timeout(DEADLINE):
        return await connection.receive()


@pytest.mark.fault("D10")
async def test_connection_with_requests_for_one_channel_matches_each_reply(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, subscriber_connection(valkey) as connection:
        operations = [
            Operation.SUBSCRIBE,
            Operation.UNSUBSCRIBE,
            Operation.PING,
            Operation.SUBSCRIBE,
            Operation.UNSUBSCRIBE,
            Operation.UNSUBSCRIBE,
            Operation.SUBSCRIBE,
        ]
        requests = [
            connection.enqueue(operation, "" if operation is Operation.PING else "a") for operation in operations
        ]
        await connection.flush()
        for request in requests:
            if request.operation is not Operation.PING:
                assert await received(connection) == Incoming("a", request)
        await valkey.ask("SPUBLISH", "a", "x")
        assert await received(connection) == Incoming("a", message=b"x")


@pytest.mark.fault("D10")
async def test_connection_flushed_concurrently_sends_in_order_of_enqueue(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, subscriber_connection(valkey) as connection:
        send, opened = connection.connection.send_packed_command, asyncio.Event()

        async def sending(data: bytes, check_health: bool = True) -> None:
            await opened.wait()
            await send(data, check_health)

        vars(connection.connection).update(send_packed_command=sending)
        requests = []
        flushing = []
        for operation in (Operation.SUBSCRIBE, Operation.UNSUBSCRIBE, Operation.SUBSCRIBE):
            requests.append(connection.enqueue(operation, "a"))
            flushing.append(asyncio.create_task(connection.flush()))
            await asyncio.sleep(0)
        opened.set()
        await asyncio.gather(*flushing)
        assert [await received(connection) for _ in requests] == [Incoming("a", request) for request in requests]


async def test_connection_with_refused_channel_returns_its_request_and_error(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.ask("ACL", "SETUSER", "default", "resetchannels", "&a")
        async with subscriber_connection(valkey) as connection:
            connection.enqueue(Operation.PING)
            request, good = connection.enqueue(Operation.SUBSCRIBE, "b"), connection.enqueue(Operation.SUBSCRIBE, "a")
            await connection.flush()
            refused = await received(connection)
            assert (refused.channel, refused.request, "permission" in str(refused.error).lower()) == (
                "b",
                request,
                True,
            )
            assert await received(connection) == Incoming("a", good)


async def test_connection_with_reply_without_request_raises(tmp_path: Path) -> None:
    """Otherwise the reply would be matched to a later request."""
    async with Valkey(tmp_path) as valkey, subscriber_connection(valkey) as connection:
        await connection.connection.send_command("SSUBSCRIBE", "a")
        with pytest.raises(RuntimeError, match="without a request"):
            await received(connection)
        connection.enqueue(Operation.SUBSCRIBE, "b")
        await connection.connection.send_command("SSUBSCRIBE", "c")
        await connection.flush()
        with pytest.raises(RuntimeError, match="SSUBSCRIBE"):
            await received(connection)


async def test_connection_after_its_end_raises_unavailable(tmp_path: Path) -> None:
    """redis-py would reconnect, and the new connection would have no subscriptions."""
    async with Valkey(tmp_path) as valkey:
        server = create_server(parse(valkey.url))
        before = (await valkey.info())["total_connections_received"]
        ended, cut = SubscriberConnection(await server.connect("")), SubscriberConnection(await server.connect(""))
        await ended.connection.disconnect()
        with pytest.raises(BrokerUnavailable):
            await ping(ended)
        assert (await valkey.info())["total_connections_received"] == before + 3
        await valkey.kill()
        with pytest.raises(BrokerUnavailable):
            await ping_until_it_fails(cut)
        await cut.connection.disconnect()


async def ping(connection: SubscriberConnection) -> None:
    connection.enqueue(Operation.PING)
    await connection.flush()


async def ping_until_it_fails(connection: SubscriberConnection) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            await ping(connection)
            await asyncio.sleep(0)
