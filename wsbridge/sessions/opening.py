"""Opens a session for an admitted request. Counts and logs its begin and its end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.connections.client_address import address_of
from wsbridge.core.close_codes import UNAVAILABLE, Close, Refused, close_labels
from wsbridge.core.messages import connected
from wsbridge.core.recovery import Resume
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.connection import Connection
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.reports import Reports
from wsbridge.sessions.session import Session, Shared
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.sessions.stations import record_end, record_resume
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations

RESUME_TIMEOUT = 5.0  # seconds after which an unreadable history counts as `unavailable`; large data is read later
AGAIN = 0.25  # seconds between two tries in that time
MAX_AGENT = 200  # characters of a User-Agent that are kept


@dataclass(eq=False, kw_only=True)
class SessionOpener:
    """Opens sessions. `ping_interval` is in seconds."""

    admission: Admission
    registry: Registry
    broker: Broker
    metrics: Metrics
    slow_consumers: SlowConsumers
    on_missed: Callable[[Session], object]
    ping_interval: float
    stations: Stations
    reports: Reports | None = None

    def __post_init__(self) -> None:
        self._shared = Shared(
            metrics=self.metrics, slow_consumers=self.slow_consumers, on_missed=self.on_missed, on_leave=self._left
        )

    async def open(
        self, request: web.Request, connection: Connection, asked: str | None
    ) -> tuple[Session, Resume, bytes]:
        """Return a registered session, and the answer of the history to attach it with.

        `asked` is the position to resume after. The caller must call the session's `leave` when the connection has
        ended. Raises `Refused` if the session may not be opened, with the reason as a close; nothing was sent then.
        """
        try:
            identity = await self.admission.admit(request)
            header = request.headers.get(hdrs.USER_AGENT, "")[:MAX_AGENT]
            agent = header.encode(errors="replace").decode()  # without the bytes that are not UTF-8
            peer = address_of(request)
            session = Session(identity.user, connection, self._shared, now=time.monotonic(), peer=peer, agent=agent)
            session.expires_at = self.admission.deadline(identity)
            self.registry.add(session)
            try:
                resume = await self._resume(session.user, asked)
            except BaseException:
                self.registry.remove(session)
                session.leave()  # frees what was published meanwhile; it is not counted, since it was removed before
                raise
        except Refused as refused:
            self.admission.refuse(request, refused)
            raise
        if resume.recovered:  # a client resumes after the last event that it has handled
            session.handled = resume.position
        self._opened(session, resume)
        record_resume(self.stations, session, resume, is_start=True, asked=asked)
        token_left = self.admission.milliseconds_left(session)
        hello = connected(
            session.user, session.id, resume.position, self.ping_interval, resume.recovered, token_left,
            receipts=self.reports is not None and connection.answers,
        )  # fmt: skip
        return session, resume, hello

    async def _resume(self, user: str, asked: str | None) -> Resume:
        """Follow the user first, then read the history. The session holds entries that are published in between."""
        why = "it takes too long"
        try:
            async with asyncio.timeout(RESUME_TIMEOUT):
                await self.broker.follow(user)
                while True:
                    try:
                        return await self.broker.resume(user, asked, wait=False)
                    except BrokerUnavailable as unavailable:
                        why = str(unavailable)
                        await asyncio.sleep(AGAIN)
        except TimeoutError:
            raise Refused(UNAVAILABLE, f"the history could not be read: {why}") from None

    def _opened(self, session: Session, resume: Resume) -> None:
        self.metrics.opened += 1
        log.info(
            "session.opened",
            session=session.id,
            user=session.user,
            transport=session.connection.transport_name,
            peer=session.peer,
            agent=session.agent,
            position=str(resume.position),
            recovered=resume.recovered,
            replayed=len(resume.entries),
            gap=resume.gap and resume.gap.reason,
        )

    def _left(self, session: Session) -> None:
        """Remove, count and log a session whose connection has ended, once."""
        if not self.registry.remove(session):
            return
        close, seconds = session.final_close, time.monotonic() - session.opened_at
        counted = Close(close.code, "") if close is session.peers_close else close  # a client may send any reason
        self.metrics.session_closed(close_labels(counted), seconds)
        record_end(self.stations, session)
        if self.reports is not None:
            self.reports.left(session)
        log.info(
            "session.closed",
            session=session.id,
            user=session.user,
            code=close.code,
            reason=close.reason,
            by=session.ended_by,
            seconds=round(seconds, 3),
            sent=session.messages_sent,
            received=session.messages_received,
        )
