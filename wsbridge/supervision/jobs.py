"""Background jobs on aiojobs: each has an owner, and the end of none goes unnoticed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Self

import aiojobs

PATIENCE = 0.1  # seconds that a job has to end once it is cancelled; then it is cancelled once more: see `close`

Work = Callable[[], Awaitable[object]]


class JobFailed(Exception):  # noqa: N818 - the failure is its cause
    """A job ended that must not; `job` is its name, `__cause__` the exception, None if it just returned."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the background job {job!r} has ended")
        self.job = job


class Jobs:
    """Runs the jobs of one owner until `close`; then it can be used again. `patience` is in seconds.

    The first failure is kept, and reported once to `on_failure`.

    No bound on their number: owners spawn one for each part that they have, or for each session.
    """

    def __init__(self, on_failure: Callable[[JobFailed], None] | None = None, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._on_failure = on_failure
        self._scheduler: aiojobs.Scheduler | None = None  # of the loop that runs when the first job starts
        self._failed = asyncio.Event()
        self._closing = False
        self.failure: JobFailed | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def keep(self, name: str, work: Work) -> None:
        """Start a job that runs for as long as its owner: its return is a failure, too."""
        await self._start(name, work, endless=True)

    async def spawn(self, name: str, work: Work) -> None:
        """Start a job that ends by itself; only an exception is a failure."""
        await self._start(name, work, endless=False)

    async def failed(self) -> NoReturn:
        """Wait for the first failure, and raise it."""
        while self.failure is None:
            await self._failed.wait()
        raise self.failure

    async def close(self) -> None:
        """Cancel the jobs and wait for their end. Not aiojobs' `async with`: that waits a minute for them first.

        `asyncio.wait_for` of Python 3.11, which redis-py sends with, may swallow a cancellation: hence the second one.
        """
        if self._scheduler is not None:
            self._closing = True
            await self._scheduler.close()
            self._scheduler, self._closing = None, False

    async def _start(self, name: str, work: Work, *, endless: bool) -> None:
        if self._scheduler is None:
            self._scheduler = aiojobs.Scheduler(
                limit=None, close_timeout=self._patience, exception_handler=_already_reported
            )
        await self._scheduler.spawn(self._watched(name, work, endless=endless), name=name)

    async def _watched(self, name: str, work: Work, *, endless: bool) -> None:
        """A `CancelledError` that the owner did not cause is a failure, too: somebody gave up a future."""
        error: BaseException | None = None
        try:
            await work()
        except BaseException as raised:
            if self._closing or not isinstance(raised, Exception | asyncio.CancelledError):
                raise
            error = raised
        if not self._closing and (endless or error):
            failure = JobFailed(name)
            failure.__cause__ = error
            self.report(failure)

    def report(self, failure: JobFailed) -> None:
        """A job has failed, here or at another owner that hands its failures on. The first one counts."""
        if self.failure is None:
            self.failure = failure
            self._failed.set()
            if self._on_failure:
                self._on_failure(failure)


def _already_reported(_: aiojobs.Scheduler, __: dict[str, Any]) -> None:
    """A failure is kept above; what is raised during the close, or ends only at its second cancellation, is over."""
