"""Background jobs: their owner, the effect of their end, and their cancellation."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from tests.support.running import until
from wsbridge.supervision.jobs import JobFailed, Jobs


async def forever() -> None:
    await asyncio.Event().wait()


async def bug() -> None:
    raise RuntimeError("a bug")


async def returns() -> None:
    return


async def given_up() -> None:
    """Waits for a future that another task cancels; the job itself is not cancelled."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer.cancel()
    await answer


@pytest.mark.fault("E4")
@pytest.mark.parametrize(
    ("work", "cause"), [(bug, RuntimeError), (returns, type(None)), (given_up, asyncio.CancelledError)]
)
async def test_kept_job_that_ends_is_a_failure_with_its_name(work: Callable[[], Awaitable[None]], cause: type) -> None:
    told: list[JobFailed] = []
    async with Jobs(told.append) as jobs:
        await jobs.keep("good", forever)
        assert jobs.failure is None
        await jobs.keep("bad", work)
        with pytest.raises(JobFailed, match="'bad' has ended") as raised:
            await jobs.failed()
    assert told == [raised.value] == [jobs.failure]
    assert (raised.value.job, type(raised.value.__cause__)) == ("bad", cause)


async def test_spawned_job_may_return_but_must_not_raise() -> None:
    async with Jobs() as jobs:
        await jobs.spawn("short", returns)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert jobs.failure is None
        await jobs.spawn("broken", bug)
        with pytest.raises(JobFailed, match="'broken'"):
            await jobs.failed()


async def test_second_failure_is_not_reported() -> None:
    told: list[JobFailed] = []
    async with Jobs(told.append) as jobs:
        await jobs.keep("first", bug)
        await jobs.keep("second", bug)
        with contextlib.suppress(JobFailed):
            await jobs.failed()
        await asyncio.sleep(0)
    assert [failure.job for failure in told] == ["first"]


async def test_close_cancels_all_jobs_without_a_failure() -> None:
    ended: list[str] = []

    async def job() -> None:
        try:
            await forever()
        finally:
            ended.append("job")
            raise RuntimeError("raised while it ends")

    jobs = Jobs()
    await jobs.close()  # without jobs
    await jobs.keep("job", job)
    await jobs.keep("not begun", forever)
    await asyncio.sleep(0)
    await jobs.keep("not begun", forever)
    await jobs.close()
    assert (ended, jobs.failure) == (["job"], None)


async def test_jobs_can_be_started_again_after_the_close() -> None:
    jobs = Jobs()
    for _ in range(2):
        await jobs.spawn("job", forever)
        await jobs.close()
    await jobs.spawn("bad", bug)
    await until(lambda: jobs.failure)
    await jobs.close()


async def test_job_that_swallows_its_cancellation_is_cancelled_again() -> None:
    ended = asyncio.Event()

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        try:
            await forever()
        finally:
            ended.set()

    jobs = Jobs(patience=0.0)
    await jobs.keep("deaf", deaf)
    await asyncio.sleep(0)
    await jobs.close()
    assert ended.is_set()
    assert jobs.failure is None


async def test_failure_reported_to_another_owner_is_its_failure_too() -> None:
    async with Jobs() as bridge, Jobs(bridge.report) as server:
        await server.keep("accept", bug)
        with pytest.raises(JobFailed, match="'accept'"):
            await bridge.failed()
