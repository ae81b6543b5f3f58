"""Records each read of a session's history and its end, for `wsbridge why`."""

import time

from wsbridge.core.recovery import Resume
from wsbridge.sessions.session import Session
from wsbridge.telemetry.stations.ring import Connected, Stations


def described(session: Session) -> Connected:
    opened_at = time.time() - (time.monotonic() - session.opened_at)
    return Connected(session.user, session.id, session.connection.transport_name, opened_at)


def record_resume(stations: Stations, session: Session, resume: Resume, *, is_start: bool, asked: str | None) -> None:
    """Record the entries that a session got from the history. `asked` is the position from which it was read."""
    if stations.is_on:
        stations.resumed(
            described(session), is_start=is_start, asked=asked, position=resume.position,
            replayed=len(resume.entries), gap=resume.gap and resume.gap.reason,
        )  # fmt: skip


def record_end(stations: Stations, session: Session) -> None:
    if stations.is_on:
        close = session.final_close
        stations.closed(
            described(session), code=close.code, reason=close.reason, position=session.position,
            handled=session.handled,
        )  # fmt: skip
