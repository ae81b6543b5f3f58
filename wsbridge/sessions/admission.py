"""From a request to a session: origin, token, user, limits; and its way out. Shared by all transports."""

import asyncio
import time
from collections.abc import Callable

from aiohttp import hdrs, web

from wsbridge.auth.authenticator import Authenticator
from wsbridge.auth.origins import Origins
from wsbridge.auth.tokens import Identity
from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.connections.client_address import address_of
from wsbridge.connections.middleware import IS_OVERLOADED
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import OVERLOADED_WHY
from wsbridge.core.close_codes import (
    LOST,
    ORIGIN_FORBIDDEN,
    OVERLOADED,
    SHUTDOWN,
    TOKEN_MISSING,
    UNAVAILABLE,
    USER_ID_REQUIRED,
    USER_MISMATCH,
    Close,
    Refused,
    close_labels,
)
from wsbridge.core.messages import connected
from wsbridge.core.recovery import Resume
from wsbridge.sessions.backlog import Backlog
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.sender import Connection
from wsbridge.sessions.session import Session
from wsbridge.telemetry import tracebacks
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

RESUME_TIMEOUT = 5.0  # seconds until a history of which nothing can be read is `unavailable`; large data is read later
AGAIN = 0.25  # seconds until the next try within them
_CLIENTS_FAULT = frozenset({TOKEN_MISSING.code, USER_ID_REQUIRED.code, USER_MISMATCH.code, ORIGIN_FORBIDDEN.code})
_AUTH_CODES = (TOKEN_MISSING.code, USER_MISMATCH.code)


class Admission:
    """Decides who may connect. `leeway` is in seconds."""

    def __init__(
        self,
        *,
        registry: Registry,
        broker: Broker,
        metrics: Metrics,
        rate_limits: RateLimits,
        origins: Origins,
        authenticator: Authenticator,
        leeway: float,
        backlog: Backlog,
        on_missed: Callable[[Session], None],
        ping_interval: float,
    ) -> None:
        self._registry = registry
        self._broker = broker
        self._metrics = metrics
        self._rate_limits = rate_limits
        self.origins = origins
        self._authenticator = authenticator
        self._leeway = leeway
        self._backlog = backlog
        self._on_missed = on_missed
        self._ping_interval = ping_interval
        self.draining = False  # nobody new is let in

    async def admit(
        self, request: web.Request, connection: Connection, asked: str | None
    ) -> tuple[Session, Resume, bytes]:
        """A session that is counted in, with what it is to be attached with; `asked` is the position to resume after.

        Whoever gets a session has to `close` it.

        Raises:
            Refused: with the close that says why; nothing was sent.

        """
        session: Session | None = None
        try:
            if IS_OVERLOADED in request:
                raise Refused(OVERLOADED, OVERLOADED_WHY)
            if not self.origins.allows(request):
                origin = request.headers[hdrs.ORIGIN]
                raise Refused(ORIGIN_FORBIDDEN, f"WSBRIDGE_ALLOWED_ORIGINS does not allow {origin}")
            identity = await self._authenticator.identify(request)
            if self.draining:  # since the request came in
                raise Refused(SHUTDOWN)
            session = self._session(request, connection, identity)
            self._registry.add(session)
            resume = await self._resume(session.user, asked)
        except BaseException as error:
            if isinstance(error, Refused):
                self._refuse(request, error)
            if session is not None:
                self._registry.remove(session)
            raise
        self._metrics.session_opened()
        log.info(
            "session.opened",
            session=session.id,
            user=session.user,
            transport=connection.transport_name,
            peer=session.peer,
            agent=session.agent,
            position=str(resume.position),
            recovered=resume.recovered,
            replayed=len(resume.entries),
            gap=resume.gap and resume.gap.reason,
        )
        return session, resume, self._hello(session, resume)

    async def reauthenticate(self, session: Session, token: str) -> int | None:
        """Take a fresh token of the same user; the milliseconds that it lasts, None where none is needed.

        Raises:
            Refused: it is not a valid token, or another user's.
            Unavailable: there is no key to check it with now.

        """
        identity = await self._authenticator.refresh(session.user, token)
        if identity is None:
            return None
        session.expires = self._ends(identity)
        log.info("session.authenticated", session=session.id, user=session.user)
        return self._milliseconds_left(session)

    def close(self, session: Session, peers: Close | None) -> None:
        """Count the session out, once; `peers` is the close that the peer sent, if it did so first."""
        session.leave()
        if not self._registry.remove(session):
            return
        ended = session.close or peers or LOST
        seconds = time.monotonic() - session.opened
        self._metrics.session_closed(close_labels(ended if ended is not peers else Close(ended.code, "")), seconds)
        log.info(
            "session.closed",
            session=session.id,
            user=session.user,
            code=ended.code,
            reason=ended.reason,
            by="server" if session.close and session.close.code != LOST.code else "client" if peers else "network",
            seconds=round(seconds, 3),
            sent=session.sent,
            received=session.received,
        )

    def _session(self, request: web.Request, connection: Connection, identity: Identity) -> Session:
        peer = address_of(request)
        agent = _shown(request.headers.get(hdrs.USER_AGENT, ""), 200)
        now = time.monotonic()
        session = Session(
            identity.user,
            connection,
            self._metrics,
            self._backlog,
            now=now,
            on_missed=self._on_missed,
            peer=peer,
            agent=agent,
        )
        session.expires = self._ends(identity)
        return session

    async def _resume(self, user: str, asked: str | None) -> Resume:
        """Follow first, read then: what comes in between is held by the session, which is registered already."""
        why = "it takes too long"
        try:
            async with asyncio.timeout(RESUME_TIMEOUT):
                await self._broker.follow(user)
                while True:
                    try:
                        return await self._broker.resume(user, asked, wait=False)
                    except BrokerUnavailable as unavailable:
                        why = str(unavailable)
                        await asyncio.sleep(AGAIN)
        except TimeoutError:
            raise Refused(UNAVAILABLE, f"the history could not be read: {why}") from None

    def _hello(self, session: Session, resume: Resume) -> bytes:
        expires_in = None if session.expires == float("inf") else self._milliseconds_left(session)
        return connected(session.user, session.id, resume.position, self._ping_interval, resume.recovered, expires_in)

    def _ends(self, identity: Identity) -> float:
        """On the loop's clock. The wall clock is read this once: to set it later ends no session early or late."""
        return time.monotonic() + identity.expires - time.time() + self._leeway

    def _milliseconds_left(self, session: Session) -> int:
        return max(0, round((session.expires - self._leeway - time.monotonic()) * 1000))

    def _refuse(self, request: web.Request, refused: Refused) -> None:
        tracebacks.release(refused)
        close = refused.close
        self._metrics.session_closed(close_labels(close), None)
        if close.code in _CLIENTS_FAULT:
            self._rate_limits.failed(address_of(request))
        is_auth = close.code in _AUTH_CODES and close is not ORIGIN_FORBIDDEN
        if is_auth:
            self._metrics.failed("auth")
        log.warning(
            "auth.failed" if is_auth else "session.refused",
            code=close.code,
            reason=close.reason,
            why=str(refused),
            peer=address_of(request),
            user=request.query.get("user_id"),
        )


def _shown(header: str, most: int) -> str:
    """A stranger's text as it can be on the connection: a header may hold bytes that are no UTF-8."""
    return header[:most].encode(errors="replace").decode()
