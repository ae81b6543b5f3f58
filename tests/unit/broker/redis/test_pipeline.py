"""Batches of concurrent calls: order, bounds, errors and cancelled callers."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from tests.support.running import until
from wsbridge.broker.redis.commands import Command
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server

SIZE = 4
Call = asyncio.Task[Sequence[int]]


class Work(Pipeline):
    """Returns ten times each item, a batch at a time. Each batch waits until the test lets it continue."""

    def __init__(self, size: int = SIZE, *, held: bool = True) -> None:
        super().__init__(cast("Server", None))  # it is not used
        self.batch = size
        self.begun: list[list[int]] = []
        self.fails: set[int] = set()  # items that make a batch fail
        self._may = asyncio.Semaphore(0 if held else 10**6)

    async def answers(self, items: Sequence[int]) -> Sequence[int]:
        return await self.do([Command("", (item,)) for item in items])

    async def _execute(self, packets: Sequence[Any]) -> list[Any]:
        items = [int(packet.command.words[0]) for packet in packets]
        self.begun.append(items)
        await self._may.acquire()
        if not self.fails.isdisjoint(items):
            raise ConnectionError("gone")
        return [10 * item for item in items]

    def go_on(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._may.release()

    async def calls(self, *calls: Sequence[int]) -> list[Call]:
        """Callers in this order."""
        tasks = [asyncio.create_task(self.answers(items)) for items in calls]
        await asyncio.sleep(0)
        return tasks

    async def under_way(self, *waiting: Sequence[int]) -> list[Call]:
        """A first batch in progress, and callers that wait."""
        first = await self.calls([0])
        await until(lambda: self.begun)
        return first + await self.calls(*waiting)


async def test_pipeline_calls_during_a_batch_form_the_next_one() -> None:
    work = Work()
    calls = await work.under_way([1], [2, 3], [4])
    assert work.begun == [[0]]
    work.go_on()
    assert await calls[0] == [0]
    assert work.begun == [[0], [1, 2, 3, 4]]
    assert not any(call.done() for call in calls[1:])
    work.go_on()
    assert await asyncio.gather(*calls) == [[0], [10], [20, 30], [40]]


async def test_pipeline_call_after_the_last_batch_is_served() -> None:
    work = Work(held=False)
    for _ in range(3):
        assert await work.answers([1, 2]) == [10, 20]
    assert work.begun == [[1, 2]] * 3


async def test_pipeline_call_without_items_returns_no_answers() -> None:
    work = Work(held=False)
    calls = await work.calls([], [1], [])
    assert await asyncio.gather(*calls) == [[], [10], []]


async def test_pipeline_batches_never_exceed_their_bound() -> None:
    work = Work()
    calls = await work.under_way([1, 2], [3, 4], [5], [6, 7, 8], [9])
    work.go_on(4)
    assert await asyncio.gather(*calls) == [[0], [10, 20], [30, 40], [50], [60, 70, 80], [90]]
    assert work.begun == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_pipeline_items_of_one_call_stay_in_one_batch(place: int) -> None:
    work, many = Work(), list(range(100, 100 + 3 * SIZE))
    asked: list[Sequence[int]] = [[1], [2]]
    asked.insert(place, many)
    calls = await work.under_way(*asked)
    work.go_on(4)
    await asyncio.gather(*calls)
    assert many in work.begun
    assert [item for batch in work.begun for item in batch] == [0, *(item for items in asked for item in items)]


@given(
    calls=st.lists(st.lists(st.integers(0, 99), max_size=7), max_size=20),
    size=st.integers(1, 9),
    early=st.integers(0, 20),
    failing=st.sets(st.integers(0, 99), max_size=2),
)
@tries(60)
def test_pipeline_gives_each_caller_its_own_answers_in_order(
    calls: list[list[int]], size: int, early: int, failing: set[int]
) -> None:
    """`early` callers call before the first batch begins, the others later, one by one."""

    async def run() -> None:
        work = Work(size, held=False)
        work.fails = failing
        tasks = await work.calls(*calls[:early])
        for items in calls[early:]:
            tasks += await work.calls(items)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [item for batch in work.begun for item in batch] == [item for items in calls for item in items]
        for batch in work.begun:
            assert len(batch) <= size or batch in [items for items in calls if len(items) > size]
        for items, answer in zip(calls, answers, strict=True):
            assert isinstance(answer, ConnectionError) or answer == [10 * item for item in items]
            assert isinstance(answer, ConnectionError) or failing.isdisjoint(items)

    asyncio.run(run())


async def test_pipeline_error_reaches_all_callers_of_the_batch_only() -> None:
    work = Work()
    work.fails = {2}
    calls = await work.under_way([1], [2, 3], [4, 5])
    work.go_on(3)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert work.begun == [[0], [1, 2, 3], [4, 5]]
    assert [type(answer) for answer in answers] == [list, ConnectionError, ConnectionError, list]
    assert answers[3] == [40, 50]


class TwoNodes(Pipeline):
    """A key is the name of its node. Node `bad` fails; the other one answers when the test lets it."""

    def __init__(self) -> None:
        super().__init__(cast("Server", SimpleNamespace(node_of=str)))
        self.may = asyncio.Event()
        self.sending = 0  # batches that the other node is being sent
        self.most = 0

    async def _send(self, node: str, packets: Sequence[Any]) -> list[Any]:
        if node == "bad":
            raise RuntimeError
        self.sending += 1
        self.most = max(self.most, self.sending)
        await self.may.wait()
        self.sending -= 1
        return [b"OK"] * len(packets)


async def test_pipeline_batch_begins_after_all_nodes_of_the_one_before_even_if_one_has_failed() -> None:
    """Two batches on one connection would mix their bytes, and each caller would get the replies of another."""
    pipeline = TwoNodes()
    first = asyncio.ensure_future(pipeline.do([Command("bad", ("GET", "a")), Command("good", ("GET", "b"))]))
    await until(lambda: pipeline.sending)
    second = asyncio.ensure_future(pipeline.do([Command("good", ("GET", "c"))]))
    for _ in range(10):
        await asyncio.sleep(0)
    pipeline.may.set()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, list]
    assert pipeline.most == 1


async def test_pipeline_caller_cancelled_while_waiting_causes_no_work() -> None:
    work = Work()
    calls = await work.under_way([1], [2], [3])
    calls[2].cancel()
    work.go_on(2)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert work.begun == [[0], [1, 3]]
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [False, False, True, False]
    assert answers[3] == [30]


@pytest.mark.parametrize("fails", [False, True])
async def test_pipeline_caller_cancelled_during_its_batch_does_not_affect_others(fails: bool) -> None:
    work = Work()
    work.fails = {2} if fails else set()
    calls = await work.under_way([1], [2], [3])
    work.go_on()
    await until(lambda: len(work.begun) == 2)
    calls[2].cancel()
    work.go_on()
    _, *answers = await asyncio.gather(*calls, return_exceptions=True)
    assert work.begun == [[0], [1, 2, 3]]
    expected = [ConnectionError, asyncio.CancelledError, ConnectionError]
    assert [type(answer) for answer in answers] == (expected if fails else [list, asyncio.CancelledError, list])
    assert fails or answers[2] == [30]


async def test_pipeline_close_ends_all_waiting_callers() -> None:
    work = Work()
    calls = await work.under_way([1], [2])
    await work.close()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3
    assert work.begun == [[0]]


async def test_pipeline_close_before_the_first_batch_ends_all_callers() -> None:
    work = Work()
    (call,) = await work.calls([1])
    assert not work.begun
    await work.close()
    await until(call.done)
    assert call.cancelled()


async def test_pipeline_close_without_work_returns_at_once() -> None:
    work = Work(held=False)
    await work.close()
    await work.answers([1])
    await work.close()
    assert await work.answers([2]) == [20]
