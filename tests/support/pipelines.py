"""Short forms for the commands that tests send over a pipeline."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import keys_of
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse

KEYS = [f"k{n}" for n in range(30)]


@contextlib.asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[Server, Pipeline]]:
    server = create_server(parse(url))
    pipeline = Pipeline(server)
    try:
        yield server, pipeline
    finally:
        await pipeline.close()
        await server.close()


@contextlib.asynccontextmanager
async def pipeline_to(url: str) -> AsyncIterator[Pipeline]:
    async with serving(url) as (server, pipeline):
        await server.refresh()
        yield pipeline


def put(key: str, value: str = "1") -> Command:
    return Command(key, ("SET", key, value))


def get(key: str) -> Command:
    return Command(key, ("GET", key))


def tell(user: str) -> Command:
    """A call of a function of the library."""
    return call("tell", [keys_of("w", user).position], b"x")


async def one(pipeline: Pipeline, command: Command) -> Any:
    (reply,) = await pipeline.do([command])
    return reply


async def why(pipeline: Pipeline, command: Command) -> str:
    """The reason why there is no reply."""
    reply = await one(pipeline, command)
    assert isinstance(reply, BrokerUnavailable), reply
    return str(reply)


async def succeeds(pipeline: Pipeline, command: Command) -> bool:
    return not isinstance(await one(pipeline, command), BrokerUnavailable)


async def names(valkey: Valkey) -> list[str]:
    """The names of all connected clients that have one."""
    return re.findall(r" name=(\S+)", (await valkey.ask("CLIENT", "LIST")).decode())


async def is_called(expected: list[str], valkey: Valkey) -> bool:
    return await names(valkey) == expected
