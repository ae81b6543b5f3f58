"""One connection for subscriptions: requests in the order in which they were put, each with its own answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.running import DEADLINE
from tests.support.valkey import Valkey
from wsbridge.broker.base import Away
from wsbridge.broker.redis.connection import Ask, Heard, Link
from wsbridge.broker.redis.topology import server_at
from wsbridge.config.redis_url import parse


@asynccontextmanager
async def linked(valkey: Valkey) -> AsyncIterator[Link]:
    link = Link(await server_at(parse(valkey.url)).connect(""))
    try:
        yield link
    finally:
        await link.connection.disconnect(nowait=True)


async def heard(link: Link) -> Heard:
    async with asyncio.timeout(DEADLINE):
        return await link.hear()


@pytest.mark.fault("D10")
async def test_link_gives_each_request_about_one_channel_its_own_answer(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, linked(valkey) as link:
        kinds = [Ask.JOIN, Ask.LEAVE, Ask.PING, Ask.JOIN, Ask.LEAVE, Ask.LEAVE, Ask.JOIN]
        requests = [link.put(kind, "" if kind is Ask.PING else "a") for kind in kinds]
        await link.flush()
        for request in requests:
            if request.kind is not Ask.PING:
                assert await heard(link) == Heard("a", request)
        await valkey.ask("SPUBLISH", "a", "x")
        assert await heard(link) == Heard("a", message=b"x")


@pytest.mark.fault("D10")
async def test_link_that_is_flushed_by_two_sends_in_the_order_of_put(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, linked(valkey) as link:
        send, opened = link.connection.send_packed_command, asyncio.Event()

        async def sending(data: bytes, check_health: bool = True) -> None:
            await opened.wait()
            await send(data, check_health)

        vars(link.connection).update(send_packed_command=sending)
        requests = []
        flushing = []
        for kind in (Ask.JOIN, Ask.LEAVE, Ask.JOIN):
            requests.append(link.put(kind, "a"))
            flushing.append(asyncio.create_task(link.flush()))
            await asyncio.sleep(0)
        opened.set()
        await asyncio.gather(*flushing)
        assert [await heard(link) for _ in requests] == [Heard("a", request) for request in requests]


async def test_link_that_is_refused_a_channel_says_which(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        await valkey.ask("ACL", "SETUSER", "default", "resetchannels", "&a")
        async with linked(valkey) as link:
            link.put(Ask.PING)
            request, good = link.put(Ask.JOIN, "b"), link.put(Ask.JOIN, "a")
            await link.flush()
            refused = await heard(link)
            assert (refused.channel, refused.request, "permission" in str(refused.error).lower()) == (
                "b",
                request,
                True,
            )
            assert await heard(link) == Heard("a", good)


async def test_link_with_an_answer_to_nothing_is_an_error(tmp_path: Path) -> None:
    """It would be taken for the answer to something else."""
    async with Valkey(tmp_path) as valkey, linked(valkey) as link:
        await link.connection.send_command("SSUBSCRIBE", "a")
        with pytest.raises(RuntimeError, match="nothing"):
            await heard(link)
        link.put(Ask.JOIN, "b")
        await link.connection.send_command("SSUBSCRIBE", "c")
        await link.flush()
        with pytest.raises(RuntimeError, match="SSUBSCRIBE"):
            await heard(link)


async def test_link_whose_connection_has_ended_sends_nothing(tmp_path: Path) -> None:
    """redis-py would make another one, without what was joined on the first."""
    async with Valkey(tmp_path) as valkey:
        server = server_at(parse(valkey.url))
        before = (await valkey.info())["total_connections_received"]
        ended, cut = Link(await server.connect("")), Link(await server.connect(""))
        await ended.connection.disconnect()
        with pytest.raises(Away):
            await ping(ended)
        assert (await valkey.info())["total_connections_received"] == before + 3
        await valkey.kill()
        with pytest.raises(Away):
            await ping_for_ever(cut)
        await cut.connection.disconnect()


async def ping(link: Link) -> None:
    link.put(Ask.PING)
    await link.flush()


async def ping_for_ever(link: Link) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            await ping(link)
            await asyncio.sleep(0)
