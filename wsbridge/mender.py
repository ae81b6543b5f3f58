"""Sessions that missed a live entry, and the history that gives it back. Knows no transport and no server."""

import asyncio

from wsbridge.broker import Away, Broker
from wsbridge.log import log
from wsbridge.metrics import Metrics
from wsbridge.protocol import INTERNAL
from wsbridge.session import Session, State

AGAIN = 0.5  # seconds until the next try, while the history is away


class Mender:
    """A task for each session that is behind: none waits for the slow peer of another."""

    def __init__(self, broker: Broker, metrics: Metrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def mend(self, session: Session) -> None:
        """Let the session catch up from its position, as soon as the history can be read."""
        task = asyncio.create_task(self._mend(session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _mend(self, session: Session) -> None:
        try:
            while session.state is State.REPLAYING:
                try:
                    resume = await self._broker.resume(session.user, str(session.position))
                except Away:
                    await asyncio.sleep(AGAIN)
                    continue
                self._metrics.session_mended()
                (log.info if resume.gap or resume.entries else log.debug)(
                    "session.mended",
                    session=session.id,
                    user=session.user,
                    position=str(resume.position),
                    replayed=len(resume.entries),
                    gap=resume.gap and resume.gap.reason,
                )
                session.catch_up(resume)
                return
        except Exception as error:  # the task boundary: the client comes back and resumes
            self._metrics.failed("internal")
            log.error("internal.error", doing="mend", session=session.id, exc_info=error)
            session.end(INTERNAL)
