"""Coalesces concurrent calls into batches: calls that arrive while a batch is in flight form the next one."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from wsbridge.supervision.jobs import Jobs

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batches(Generic[Item, Answer]):
    """`work` is handed at most `size` items of at most `weight` in all, or one caller's if those are more.

    It gives an answer to each item.

    Callers wait in a queue without a bound of its own: each waits for its answer, and callers are bounded elsewhere.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], size: int, weight: float = math.inf
    ) -> None:
        self._work = work
        self._size = size
        self._weight = weight
        self._waiting: list[tuple[Sequence[Item], float, asyncio.Future[Sequence[Answer]]]] = []
        self._jobs = Jobs()
        self._working = False

    async def do(self, items: Sequence[Item], weight: float = 0) -> Sequence[Answer]:
        """The answers, in order. What `work` raises is raised to every caller of the batch."""
        answer: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, weight, answer))
        if not self._working:
            self._working = True
            await self._jobs.spawn("batch", self._run)
        return await answer

    async def close(self) -> None:
        """Give up what is under way."""
        await self._jobs.close()
        self._give_up()  # a job that had not begun yet has not

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._one(self._next())
        finally:
            self._working = False
            self._give_up()

    def _give_up(self) -> None:
        for *_, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()

    def _next(self) -> list[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]]:
        size = total = 0.0
        for count, (items, weight, _) in enumerate(self._waiting):
            size += len(items)
            total += weight
            if (size > self._size or total > self._weight) and count:
                break
        else:
            count = len(self._waiting)
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return [(items, answer) for items, _, answer in batch if not answer.done()]  # some callers have given up

    async def _one(self, batch: list[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]]) -> None:
        try:
            answers = await self._work([item for items, _ in batch for item in items])
        except Exception as error:  # it is the callers' to handle
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        except BaseException:
            for _, answer in batch:
                answer.cancel()
            raise
        start = 0
        for items, answer in batch:
            if not answer.done():
                answer.set_result(answers[start : start + len(items)])
            start += len(items)
