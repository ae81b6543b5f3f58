"""What tests say to a server over a lane, in few words."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from tests.support.valkey import Valkey
from wsbridge.broker.base import Away
from wsbridge.broker.redis.codec import keys_of
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Lane
from wsbridge.broker.redis.topology import Server, server_at
from wsbridge.config.redis_url import parse

KEYS = [f"k{n}" for n in range(30)]


@contextlib.asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[Server, Lane]]:
    server = server_at(parse(url))
    lane = Lane(server)
    try:
        yield server, lane
    finally:
        await lane.close()
        await server.close()


@contextlib.asynccontextmanager
async def lane_to(url: str) -> AsyncIterator[Lane]:
    async with serving(url) as (server, lane):
        await server.refresh()
        yield lane


def put(key: str, value: str = "1") -> Command:
    return Command(key, ("SET", key, value))


def get(key: str) -> Command:
    return Command(key, ("GET", key))


def tell(user: str) -> Command:
    """One of our functions."""
    return call("tell", [keys_of("w", user).position], b"x")


async def one(lane: Lane, command: Command) -> Any:
    (reply,) = await lane.do([command])
    return reply


async def why(lane: Lane, command: Command) -> str:
    """The reason why there is no reply."""
    reply = await one(lane, command)
    assert isinstance(reply, Away), reply
    return str(reply)


async def succeeds(lane: Lane, command: Command) -> bool:
    return not isinstance(await one(lane, command), Away)


async def names(valkey: Valkey) -> list[str]:
    """Of those who are connected and have one."""
    return re.findall(r" name=(\S+)", (await valkey.ask("CLIENT", "LIST")).decode())


async def is_called(expected: list[str], valkey: Valkey) -> bool:
    return await names(valkey) == expected
