"""Handles the frames of clients: messages (docs/protocol.md) and pings of the protocol."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from wsbridge.core.close_codes import POLICY, UNSUPPORTED
from wsbridge.core.events import Position
from wsbridge.core.frames import pong_frame
from wsbridge.core.messages import PONG as PONG_MESSAGE
from wsbridge.core.messages import FromClient, Sample, error, read_message
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.reports import Reports
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.client_frames import BINARY, PING, PONG, TEXT, Frame, text_of

MAX_INVALID, INVALID_WINDOW = 10, 60.0  # this number of invalid messages within this many seconds ends a session


class FrameSource(Protocol):
    """The connection that a frame came from."""

    is_checking: bool  # while it is True, further frames wait
    invalid_at: list[float] | None

    def take_waiting(self) -> None:
        """Handle the frames that have arrived meanwhile."""


@dataclass(eq=False)
class ClientMessages:
    """Handles all messages at once except `auth`, whose token a job checks. Shared by all connections.

    Without `reports`, clients must not report what they have handled.
    """

    admission: Admission
    jobs: Starter
    metrics: Metrics
    reports: Reports | None = None

    def take(self, source: FrameSource, session: Session, frame: Frame) -> None:
        """Handle a frame that is not a close. Raises `FrameError` for a text that is not UTF-8."""
        if session.state is State.CLOSED:
            return  # RFC 6455 §1.4: frames after the server's close are discarded
        if frame.opcode == TEXT:
            session.messages_received += 1
            self._take_text(source, session, text_of(frame.payload), len(frame.payload))
        elif frame.opcode == PING:
            session.pong(pong_frame(frame.payload))
        elif frame.opcode == PONG:
            session.ponged(session.heard_at)
        elif frame.opcode == BINARY:
            session.end(UNSUPPORTED)

    def _take_text(self, source: FrameSource, session: Session, text: str, size: int) -> None:
        message = read_message(text)
        if message.position is not None:
            message = self._report(session, message.position, message.sample)
        kind, content = message.kind, message.text
        self.metrics.message_received(kind, size)
        if kind == "ping":
            session.send(PONG_MESSAGE)
        elif kind in ("handled", "stale"):
            return
        elif kind == "auth":
            source.is_checking = True
            self.jobs.start("auth", partial(self._authenticate, source, session, content))
        else:
            session.send(error("bad_message", content))
            _count_invalid(source, session)

    def _report(self, session: Session, position: Position, sample: Sample | None) -> FromClient:
        """Take a report. Returns its kind, and what is wrong with it."""
        if self.reports is None:
            return FromClient("bad", "this bridge takes no reports; send them only if `connected` has receipts")
        kind = self.reports.take(session, position, sample)
        return FromClient(kind, f"{position} is after {session.position}, the last position that was sent")

    async def _authenticate(self, source: FrameSource, session: Session, token: str) -> None:
        try:
            await self.admission.reauthenticate(session, token)
        except Exception as failure:  # the task boundary: an error ends only this connection
            session.fail("auth", failure)
        finally:
            source.is_checking = False
            source.take_waiting()


def _count_invalid(source: FrameSource, session: Session) -> None:
    now = time.monotonic()
    source.invalid_at = [at for at in source.invalid_at or () if now - at < INVALID_WINDOW] + [now]
    if len(source.invalid_at) >= MAX_INVALID:
        session.end(POLICY)
