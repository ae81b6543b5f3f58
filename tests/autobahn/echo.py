"""`python -m tests.autobahn.echo`: a bridge whose `/ws` echoes messages, configured by the environment as usual.

All else is the bridge's own: server, guard, handshake, frame reader, session, outbox and close handshake.
"""

from wsbridge.cli.main import main
from wsbridge.core.events import Position
from wsbridge.core.frames import pong_frame, text_frame
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.transports import client_frames, inbox, websocket
from wsbridge.transports.client_frames import BINARY, PING, TEXT, Frame, text_of
from wsbridge.transports.client_messages import ClientMessages, FrameSource
from wsbridge.transports.websocket import WebSocketConnection

UNLIMITED = 2**30
# Limits that the suite exceeds on purpose, with the groups of cases that do.
RAISED = (
    (client_frames, "MAX_MESSAGE_BYTES"),  # 1, 7, 9, 10: messages of up to 16 MB
    (inbox, "FRAMES_PER_SECOND"),  # 9: messages of up to 65,536 fragments, and 1,000 messages without a pause
    (inbox, "READS_PER_SECOND"),  # 9.5, 9.6: a megabyte in pieces of 64 bytes would pass, but take 16 s longer
    (inbox, "MAX_WAITING"),  # 9: a frame of more than 64 KB waits until all of it has come
)


def binary_frame(payload: bytes) -> bytes:
    """The bridge itself sends texts only; both frames differ in the opcode, which is in the first byte."""
    return bytes((0x80 | BINARY,)) + text_frame(payload)[1:]


class EchoMessages(ClientMessages):
    """Takes the place of `ClientMessages`: sends texts and binary messages back."""

    def take(self, source: FrameSource, session: Session, frame: Frame) -> None:
        if session.state is State.CLOSED:
            return
        if frame.opcode == TEXT:
            session.send(text_frame(text_of(frame.payload).encode()))
        elif frame.opcode == BINARY:
            session.send(binary_frame(frame.payload))
        elif frame.opcode == PING:
            session.pong(pong_frame(frame.payload))


class EchoConnection(WebSocketConnection):
    """Is given frames, where the bridge gives it texts. Leaves `connected` out, which no case expects."""

    __slots__ = ()

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        return payload if position is None else b""


if __name__ == "__main__":
    for module, name in RAISED:
        getattr(module, name)  # fails if the limit has another name now
        setattr(module, name, UNLIMITED)
    vars(websocket).update(ClientMessages=EchoMessages, WebSocketConnection=EchoConnection)
    main(["serve"])
