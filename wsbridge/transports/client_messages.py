"""Acts on the frames of clients: messages (docs/protocol.md, section 4) and pings of the protocol."""

import time
from functools import partial
from typing import Protocol

from wsbridge.core.close_codes import POLICY, UNSUPPORTED
from wsbridge.core.frames import pong_frame
from wsbridge.core.messages import PONG, Auth, Invalid, Ping, error, read_message
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.client_frames import BINARY, PING, TEXT, Frame, text_of

MAX_INVALID, INVALID_WINDOW = 10, 60.0  # that many invalid messages within that many seconds end a session


class Sender(Protocol):
    """The connection that a frame came from."""

    is_checking: bool  # no further frames are passed on while it is True
    invalid_at: list[float] | None

    def take_waiting(self) -> None:
        """Pass on the frames that have come meanwhile."""


class ClientMessages:
    """Acts at once on all messages but `auth`: a job checks its token. Shared by all connections."""

    def __init__(self, admission: Admission, jobs: Starter, metrics: Metrics) -> None:
        self._admission = admission
        self._jobs = jobs
        self._metrics = metrics

    def take(self, sender: Sender, session: Session, frame: Frame) -> None:
        """Act on a frame that is not a close.

        Raises:
            FrameError: a text that is not UTF-8.

        """
        if session.state is State.CLOSED:
            return  # RFC 6455 §1.4: what comes after our close is discarded
        if frame.opcode == TEXT:
            session.messages_received += 1
            self._take_text(sender, session, text_of(frame.payload))
        elif frame.opcode == PING:
            session.pong(pong_frame(frame.payload))
        elif frame.opcode == BINARY:
            session.end(UNSUPPORTED)

    def _take_text(self, sender: Sender, session: Session, text: str) -> None:
        match read_message(text):
            case Ping():
                self._metrics.message_received("ping", len(text))
                session.send(PONG)
            case Auth(token):
                self._metrics.message_received("auth", len(text))
                sender.is_checking = True
                self._jobs.start("auth", partial(self._authenticate, sender, session, token))
            case Invalid(reason):
                self._metrics.message_received("bad", len(text))
                session.send(error("bad_message", reason))
                _count_invalid(sender, session)

    async def _authenticate(self, sender: Sender, session: Session, token: str) -> None:
        try:
            await self._admission.reauthenticate(session, token)
        except Exception as failure:  # the task boundary: this connection ends, the others go on
            session.fail("auth", failure)
        finally:
            sender.is_checking = False
            sender.take_waiting()


def _count_invalid(sender: Sender, session: Session) -> None:
    now = time.monotonic()
    sender.invalid_at = [at for at in sender.invalid_at or () if now - at < INVALID_WINDOW] + [now]
    if len(sender.invalid_at) >= MAX_INVALID:
        session.end(POLICY)
