"""One read of a body for many callers, and cancelled callers."""

import asyncio
from typing import Any, cast

import pytest

from tests.support.running import until
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import Reference
from wsbridge.broker.redis.commands import Command
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server
from wsbridge.core.events import Event

BODY = Reference(b"name", 1, 0)


class Reads(Bodies):
    """Returns the number of the read, as soon as the test lets it."""

    def __init__(self) -> None:
        super().__init__(cast("Server", None), "b", 1_000)
        self.begun = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()

    async def _read(self, reference: Reference) -> bytes | None:
        self.begun += 1
        number = self.begun
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return b"%d" % number

    async def callers(self, count: int) -> list[asyncio.Task[bytes | None]]:
        tasks = [asyncio.create_task(self.load(BODY)) for _ in range(count)]
        await until(lambda: self.begun)
        return tasks


async def test_bodies_of_a_server_that_is_replaced_while_they_are_written_are_unavailable() -> None:
    """Otherwise a history would refer to data that no server has."""

    class Forgetful:
        async def ask(self, *commands: Command) -> list[Any]:
            return [0 for _ in commands]

    bodies = Bodies(cast("Server", None), "b", 1_000)
    bodies._pipeline = cast("Pipeline", Forgetful())
    with pytest.raises(BrokerUnavailable, match="lost the data"):
        await bodies.store(Event(("u",), b"x", "t", "1", "s"))


async def test_bodies_concurrent_callers_share_one_read() -> None:
    reads = Reads()
    tasks = await reads.callers(5)
    reads.open.set()
    assert await asyncio.gather(*tasks) == [b"1"] * 5
    assert await reads.load(BODY) == b"2"
    await reads.close()


async def test_bodies_read_continues_after_its_first_caller_is_cancelled() -> None:
    reads = Reads()
    first, second = await reads.callers(2)
    first.cancel()
    reads.open.set()
    assert await second == b"1"
    await reads.close()


async def test_bodies_error_of_a_read_is_raised_to_each_caller_and_not_kept() -> None:
    reads = Reads()
    reads.error = BrokerUnavailable()
    reads.open.set()
    tasks = await reads.callers(2)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found] == [BrokerUnavailable] * 2
    reads.error = None
    assert await reads.load(BODY) == b"2"
    await reads.close()


@pytest.mark.parametrize("begun", [False, True])
async def test_bodies_close_cancels_callers(begun: bool) -> None:
    reads = Reads()
    if begun:
        tasks = await reads.callers(2)
    else:
        tasks = [asyncio.create_task(reads.load(BODY)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not reads.begun
    await reads.close()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
