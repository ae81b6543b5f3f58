"""One read for several callers, and cancelled callers."""

import asyncio

import pytest

from tests.support.running import until
from wsbridge.broker.redis.coalescer import Coalescer


class Reads:
    def __init__(self) -> None:
        self.begun = 0
        self.open = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        await self.open.wait()
        return self.begun


async def callers(coalescer: Coalescer[int], reads: Reads, count: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(coalescer.do("key", reads)) for _ in range(count)]
    await until(lambda: reads.begun)
    return tasks


async def test_concurrent_callers_share_one_read() -> None:
    coalescer, reads = Coalescer[int](), Reads()
    tasks = await callers(coalescer, reads, 5)
    reads.open.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await coalescer.do("key", reads) == 2
    await coalescer.close()


async def test_read_continues_after_its_first_caller_is_cancelled() -> None:
    coalescer, reads = Coalescer[int](), Reads()
    first, second = await callers(coalescer, reads, 2)
    first.cancel()
    reads.open.set()
    assert await second == 1
    await coalescer.close()


async def test_error_of_a_read_is_raised_to_each_caller_and_not_kept() -> None:
    coalescer = Coalescer[int]()

    async def fail() -> int:
        raise ConnectionError

    tasks = [asyncio.create_task(coalescer.do("key", fail)) for _ in range(2)]
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [ConnectionError] * 2
    reads = Reads()
    reads.open.set()
    assert await coalescer.do("key", reads) == 1
    await coalescer.close()


async def test_close_cancels_all_callers() -> None:
    coalescer, reads = Coalescer[int](), Reads()
    tasks = await callers(coalescer, reads, 2)
    await coalescer.close()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
