"""Decides which requests may connect: origin, token, user, and whether the replica drains. Counts refusals."""

import time
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from wsbridge.auth.authenticator import Authenticator
from wsbridge.auth.keys import Unavailable
from wsbridge.auth.origins import Origins
from wsbridge.auth.tokens import Identity
from wsbridge.connections.client_address import address_of
from wsbridge.connections.middleware import IS_COUNTED, IS_OVERLOADED
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import OVERLOADED_WHY
from wsbridge.core.close_codes import (
    ORIGIN_FORBIDDEN,
    OVERLOADED,
    SHUTDOWN,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    USER_ID_REQUIRED,
    USER_MISMATCH,
    Refused,
    close_labels,
)
from wsbridge.core.messages import authenticated, error
from wsbridge.sessions.record import NEVER
from wsbridge.sessions.session import Session
from wsbridge.telemetry import tracebacks
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

AUTH_FAILURES = frozenset({TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, USER_MISMATCH})
CLIENT_FAULTS = AUTH_FAILURES | {USER_ID_REQUIRED, ORIGIN_FORBIDDEN}  # count against the client's limit of failures


@dataclass(eq=False, kw_only=True)
class Admission:
    """Decides about requests, and about fresh tokens of open sessions. `leeway` is in seconds.

    The limits on the number of sessions are the registry's.
    """

    origins: Origins
    authenticator: Authenticator
    rate_limits: RateLimits
    metrics: Metrics
    leeway: float
    draining: bool = field(default=False, init=False)  # if True, every request is refused

    async def admit(self, request: web.Request) -> Identity:
        """Return the user of a request that may connect.

        Raises `Refused` if it may not, with the reason as a close. The caller must pass it to `refuse`.
        """
        if IS_OVERLOADED in request:
            raise Refused(OVERLOADED, OVERLOADED_WHY)
        if not self.origins.allows(request):
            origin = request.headers[hdrs.ORIGIN]
            raise Refused(ORIGIN_FORBIDDEN, f"WSBRIDGE_ALLOWED_ORIGINS does not allow {origin}")
        identity = await self.authenticator.identify(request)
        if self.draining:
            raise Refused(SHUTDOWN)
        return identity

    def refuse(self, request: web.Request, refused: Refused) -> None:
        tracebacks.release(refused)
        self.metrics.session_closed(close_labels(refused.close), None)
        peer = address_of(request)
        if refused.close in CLIENT_FAULTS:
            self.rate_limits.failed(peer)
            request[IS_COUNTED] = True
        whose = {"peer": peer, "user": request.query.get("user_id")}
        if refused.close in AUTH_FAILURES:
            self._auth_failed(refused, **whose)
        else:
            log.warning("session.refused", **_described(refused), **whose)

    async def reauthenticate(self, session: Session, token: str) -> None:
        """Extend a session with a fresh token of its user, or end it. The client gets the answer."""
        try:
            identity = await self.authenticator.refresh(session.user, token)
        except Refused as refused:
            self._auth_failed(refused, session=session.id, user=session.user)
            session.end(refused.close)
        except Unavailable:
            session.send(error("unavailable", "the token cannot be checked now; send it again later"))
        else:
            if identity is not None:
                session.expires_at = self.deadline(identity)
                log.info("session.authenticated", session=session.id, user=session.user)
            session.send(authenticated(self.milliseconds_left(session)))

    def deadline(self, identity: Identity) -> float:
        """Return when a session ends with its token, by the loop's clock.

        The wall clock is read only here, so that setting it later ends no session too early or too late.
        """
        return time.monotonic() + identity.expires - time.time() + self.leeway

    def milliseconds_left(self, session: Session) -> int | None:
        """Return how long the session's token is valid, without the leeway; None if it has none."""
        if session.expires_at == NEVER:
            return None
        return max(0, round((session.expires_at - self.leeway - time.monotonic()) * 1000))

    def _auth_failed(self, refused: Refused, **whose: str | None) -> None:
        self.metrics.failed("auth")
        log.warning("auth.failed", **_described(refused), **whose)


def _described(refused: Refused) -> dict[str, object]:
    return {"code": refused.close.code, "reason": refused.close.reason, "why": str(refused)}
