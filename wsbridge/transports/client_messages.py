"""Frames of a client, understood and acted on: messages (docs/protocol.md, section 4) and pings of the protocol."""

import time

from wsbridge.core.close_codes import POLICY, UNSUPPORTED
from wsbridge.core.frames import pong_frame
from wsbridge.core.messages import PONG, Auth, Invalid, Ping, error, read_message
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.client_frames import BINARY, PING, TEXT, Frame, text_of

MAX_INVALID, INVALID_WINDOW = 10, 60.0  # that many invalid messages within that many seconds end a session


class ClientMessages:
    """Acts on the messages of one session's client, at once except for `auth`: checking its token takes time.

    `token` is set until the check is done. The caller must pass no further frames while it is set.
    """

    __slots__ = ("_invalid_at", "_metrics", "session", "token")

    def __init__(self, session: Session, metrics: Metrics) -> None:
        self.session = session
        self.token: str | None = None
        self._metrics = metrics
        self._invalid_at: list[float] | None = None  # when the latest invalid messages came

    def take(self, frame: Frame) -> None:
        """Act on a frame that is not a close.

        Raises:
            FrameError: a text that is not UTF-8.

        """
        session = self.session
        if session.state is State.CLOSED:
            return  # RFC 6455 §1.4: what comes after our close is discarded
        if frame.opcode == TEXT:
            session.messages_received += 1
            self._take_text(text_of(frame.payload))
        elif frame.opcode == PING:
            session.pong(pong_frame(frame.payload))
        elif frame.opcode == BINARY:
            session.end(UNSUPPORTED)

    def _take_text(self, text: str) -> None:
        match read_message(text):
            case Ping():
                self._metrics.heard("ping", len(text))
                self.session.send(PONG)
            case Auth(token):
                self._metrics.heard("auth", len(text))
                self.token = token
                self.session.connection.wake()
            case Invalid(reason):
                self._metrics.heard("bad", len(text))
                self.session.send(error("bad_message", reason))
                self._count_invalid()

    def _count_invalid(self) -> None:
        now = time.monotonic()
        self._invalid_at = [at for at in self._invalid_at or () if now - at < INVALID_WINDOW] + [now]
        if len(self._invalid_at) >= MAX_INVALID:
            self.session.end(POLICY)
