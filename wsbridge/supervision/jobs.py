"""Background jobs on aiojobs: each job has an owner, which notices its failure or unexpected end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, Self

import aiojobs

PATIENCE = 0.1  # seconds that a cancelled job has to end; then it is cancelled a second time, see `close`

Work = Callable[[], Awaitable[object]]


class JobFailed(Exception):  # noqa: N818 - the error is its cause
    """A job has failed: `job` is its name, `__cause__` the exception, or None if an endless job has returned."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the background job {job!r} has ended")
        self.job = job


class Jobs:
    """Runs the jobs of one owner until `close`, after which it can be used again. `patience` is in seconds.

    The first failure is kept, and reported once to `on_failure`. The number of jobs is not limited here: an owner
    starts a fixed number of them, or one for each session.
    """

    def __init__(self, on_failure: Callable[[JobFailed], None] | None = None, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._on_failure = on_failure
        self._scheduler: aiojobs.Scheduler | None = None  # made with the first job, when a loop runs
        self._failed = asyncio.Event()
        self._closing = False
        self.failure: JobFailed | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def keep(self, name: str, work: Work) -> None:
        """Start an endless job: an exception is a failure, and so is its return."""
        await self.spawn(name, work, endless=True)

    async def spawn(self, name: str, work: Work, *, endless: bool = False) -> None:
        """Start a job. Unless it is endless, only an exception is a failure."""
        if self._scheduler is None:
            self._scheduler = aiojobs.Scheduler(
                limit=None,
                close_timeout=self._patience,
                # The default handler would log. `_watched` reports failures; errors during `close` are ignored.
                exception_handler=lambda *_: None,
            )
        await self._scheduler.spawn(self._watched(name, work, endless=endless), name=name)

    async def failed(self) -> NoReturn:
        while self.failure is None:
            await self._failed.wait()
        raise self.failure

    async def close(self) -> None:
        """Cancel the jobs and wait for their end. The `async with` of aiojobs would wait a minute for them first.

        A job that does not end is cancelled again, since `asyncio.wait_for` of Python 3.11 may lose a cancellation.
        """
        if self._scheduler is not None:
            self._closing = True
            await self._scheduler.close()
            self._scheduler, self._closing = None, False

    async def _watched(self, name: str, work: Work, *, endless: bool) -> None:
        """Run a job and report its failure. A `CancelledError` without `close` is a failure, too."""
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
        """Record a failure of a job, possibly of another owner's. Only the first one counts."""
        if self.failure is None:
            self.failure = failure
            self._failed.set()
            if self._on_failure:
                self._on_failure(failure)


class Starter:
    """Starts jobs for code that cannot wait. Bounded by its callers, each of which has one job at most at a time."""

    def __init__(self) -> None:
        self._wanted: asyncio.Queue[tuple[str, Work]] = asyncio.Queue()

    def start(self, name: str, work: Work) -> None:
        """Start a job that handles its own exceptions, in the next turn of the loop."""
        self._wanted.put_nowait((name, work))

    async def run(self) -> None:
        """Start the jobs, for as long as the bridge lives, and cancel them at its end."""
        async with Jobs() as jobs:
            while True:
                await jobs.spawn(*await self._wanted.get())
