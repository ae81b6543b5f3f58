"""Reads missed entries of sessions from the history. Does not depend on the transport or the server."""

import asyncio
from dataclasses import dataclass
from functools import partial

from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.core.close_codes import INTERNAL
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.sessions.stations import record_resume
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations

AGAIN = 0.5  # seconds until the next try, while the history is unavailable


@dataclass(eq=False)
class CatchUp:
    """Starts a job for each session that missed an entry, so that no session waits for another's slow peer."""

    broker: Broker
    jobs: Starter
    metrics: Metrics
    stations: Stations

    def request(self, session: Session) -> None:
        """Let the session catch up from its position, as soon as the history can be read."""
        self.jobs.start("catch_up", partial(self._catch_up, session))

    async def _catch_up(self, session: Session) -> None:
        try:
            while session.state is State.REPLAYING:
                try:
                    resume = await self.broker.resume(session.user, after := str(session.position))
                except BrokerUnavailable:
                    await asyncio.sleep(AGAIN)
                    continue
                is_new = not session.rest  # otherwise it continues an earlier catch-up
                if is_new:
                    self.metrics.catch_ups += 1
                (log.info if is_new and (resume.gap or resume.entries) else log.debug)(
                    "session.mended",
                    session=session.id,
                    user=session.user,
                    position=str(resume.position),
                    replayed=len(resume.entries),
                    gap=resume.gap and resume.gap.reason,
                )
                record_resume(self.stations, session, resume, is_start=False, asked=after)
                session.catch_up(resume)
                return
        except asyncio.CancelledError:
            if (job := asyncio.current_task()) and not job.cancelling():  # the history is closed: no other try
                session.end(INTERNAL)
            raise
        except Exception as error:  # the task boundary: the client reconnects and resumes
            session.fail("catch_up", error)
