"""Frames that a client sends on its WebSocket, taken at a bounded pace. Messages are handed on unread."""

import asyncio
import time
from collections.abc import Callable

from wsbridge.core.close_codes import POLICY, UNSUPPORTED, Close
from wsbridge.core.frames import pong_frame
from wsbridge.sessions.session import Session, State
from wsbridge.transports.base import BaseConnection, Receiver
from wsbridge.transports.client_frames import BINARY, CLOSE, PING, TEXT, FrameError, FrameReader, close_of, text_of

FRAMES_PER_SECOND = 20  # of any kind; beyond, they wait for the rest of the second
READS_PER_SECOND = 1_000  # from the socket; beyond, it is not read for the rest of the second: TCP slows the peer down
MAX_WAITING = 65_536  # bytes that may wait; a client that sends more too fast is closed with 1008


def _nothing(*_: object) -> None: ...


class Inbox(Receiver):
    """Takes nothing while it is shut, as it is at first. After the close of either side it looks for a close only."""

    __slots__ = ("_count", "_failed", "_hear", "_is_broken", "_is_open", "_reader", "_reads", "_timer", "_window",
                 "peers_close", "session")  # fmt: skip

    def __init__(
        self,
        connection: BaseConnection,
        *,
        ended: Callable[[], None],
        hear: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(connection, ended)
        self.session: Session | None = None
        self.peers_close: Close | None = None
        self._hear = hear  # of text messages
        self._failed = failed  # of errors of ours
        self._reader: FrameReader | None = None  # while bytes wait, or parts of a message
        self._is_open = False
        self._is_broken = False  # nothing that comes can be understood any more
        self._timer: asyncio.TimerHandle | None = None  # runs while the pace is too high
        self._window = time.monotonic()  # the second in which frames and reads are counted began then
        self._count = self._reads = 0

    def open(self) -> None:
        """Take what has come, and what comes."""
        self._is_open = True
        self._take_all()

    def shut(self) -> None:
        """Let what comes wait until it is opened again."""
        self._is_open = False

    def release(self) -> None:
        """Let go of the connection's owner, which holds this: what a stranger sent must not wait for the collector."""
        self._ended, self._hear, self._failed = _nothing, _nothing, _nothing

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self._is_broken:
            self.ignore()
            return False, b""
        if self.session is not None:
            self.session.heard = time.monotonic()
        if self._reader is None:
            self._reader = FrameReader()
        self._reader.feed(data)
        self._reads += 1
        if self._reads >= READS_PER_SECOND:
            self._slow_down(reading=False)
        self._take_all()
        return False, b""

    def feed_eof(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._break()
        super().feed_eof()

    def _take_all(self) -> None:
        try:
            while self._is_open and self._timer is None and self._reader is not None:
                frame = self._reader.take()
                if frame is None:
                    break
                self._take(frame.opcode, frame.payload)
                self._count += 1
                if self._count >= FRAMES_PER_SECOND:
                    self._slow_down(reading=True)
        except FrameError as error:
            self._end(error.close)
        except Exception as error:  # the boundary to aiohttp, which would only log it
            self._failed(error)
        self._settle()

    def _take(self, opcode: int, payload: bytes) -> None:
        session = self.session
        if opcode == CLOSE:
            self._closed(close_of(payload))
        elif session is None or session.state is State.CLOSED:
            return  # what comes after our close is not for us (RFC 6455 §1.4)
        elif opcode == TEXT:
            session.received += 1
            self._hear(text_of(payload))
        elif opcode == PING:
            session.pong(pong_frame(payload))
        elif opcode == BINARY:
            session.end(UNSUPPORTED)

    def _closed(self, close: Close) -> None:
        """The peer has closed: it gets its own code back, unless ours came first."""
        self.peers_close = close
        self._break()
        self.connection.peer_has_closed = True
        if self.session is not None and self.session.state is not State.CLOSED:
            self.session.answer(Close(close.code, ""))
        elif self.session is None or not self.session.is_pumped:
            self.connection.over()

    def _slow_down(self, *, reading: bool) -> None:
        """Wait for the rest of the second, if this one is not over yet."""
        now = time.monotonic()
        left = self._window + 1 - now
        if left <= 0:
            self._window, self._count, self._reads = now, 0, 0
        elif self.session is not None and self.session.state is State.CLOSED:
            self._break()
            self.connection.abort()  # its two seconds are for a close, and for nothing else
        elif self._timer is None:
            if not reading:
                self.connection.pause()
            self._timer = asyncio.get_running_loop().call_later(left, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._window, self._count, self._reads = time.monotonic(), 0, 0
        self.connection.resume()
        self._take_all()

    def _settle(self) -> None:
        reader = self._reader
        if reader is None:
            return
        if reader.is_empty:
            self._reader = None
        elif len(reader) > MAX_WAITING:
            self._end(POLICY)

    def _end(self, close: Close) -> None:
        self._break()
        if self.session is not None:
            self.session.end(close)
        else:
            self.connection.abort()

    def _break(self) -> None:
        self._is_broken = True
        self._reader = None
