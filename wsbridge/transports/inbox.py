"""The receiving side of a WebSocket: parses frames and handles them at a bounded rate."""

import asyncio
import time

from wsbridge.core.close_codes import POLICY, Close
from wsbridge.sessions.state import State
from wsbridge.transports.base import BaseConnection
from wsbridge.transports.client_frames import CLOSE, FrameError, FrameReader, close_of
from wsbridge.transports.client_messages import ClientMessages

FRAMES_PER_SECOND = 20  # of any kind; further ones wait for the next second
READS_PER_SECOND = 1_000  # of the socket; then it is not read until the next second, so that TCP slows the peer down
MAX_WAITING = 65_536  # bytes that may wait; a client with more is closed with 1008


class Inbox(BaseConnection):
    """Handles no frames until it is opened. After the close of either side it handles a close only."""

    __slots__ = (
        "_count", "_is_open", "_messages", "_reader", "_reads", "_slowed", "_window", "invalid_at", "is_broken",
        "is_checking", "peer_has_closed",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, messages: ClientMessages) -> None:
        super().__init__(transport)
        self._messages = messages
        self._reader: FrameReader | None = None  # only while bytes wait, or fragments of a message
        self._is_open = False
        self.is_broken = False  # the following bytes cannot be parsed
        self._slowed: asyncio.TimerHandle | None = None  # runs while the client sends too fast
        self._window = time.monotonic()  # the begin of the second in which frames and reads are counted
        self._count = self._reads = 0
        self.peer_has_closed = False
        self.is_checking = False  # while a token of the client is verified, frames wait
        self.invalid_at: list[float] | None = None  # times of the latest invalid messages

    def open(self) -> None:
        """Handle the frames that have arrived, and later ones. Without a session, handle a close only."""
        self._is_open = True
        self.take_waiting()

    def data_received(self, data: bytes) -> None:
        if self.is_broken or self.is_over:
            super().data_received(data)
            return
        if self.session is not None:
            self.session.heard_at = time.monotonic()
        if self._reader is None:
            self._reader = FrameReader()
        self._reader.feed(data)
        self._reads += 1
        if self._reads >= READS_PER_SECOND:
            self._slow_down(reading=False)
        self.take_waiting()

    def over(self) -> None:
        if self._slowed is not None:
            self._slowed.cancel()
            self._slowed = None
        self._break()
        super().over()

    def take_waiting(self) -> None:
        """Handle the waiting frames, unless they must wait for the next second or for the check of a token."""
        try:
            while self._is_open and self._slowed is None and not self.is_checking and self._reader is not None:
                if (frame := self._reader.take()) is None:
                    break
                if frame.opcode == CLOSE:
                    self._take_close(close_of(frame.payload))
                elif self.session is not None:
                    self._messages.take(self, self.session, frame)
                self._count += 1
                if self._count >= FRAMES_PER_SECOND:
                    self._slow_down(reading=True)
        except FrameError as error:
            self._end(error.close)
        except Exception as error:  # the boundary to the loop, which would only log it
            if self.session is None:
                raise
            self.session.fail("client_frame", error)
        self._check_size()

    def _take_close(self, close: Close) -> None:
        self._break()
        self.peer_has_closed = True
        if self.session is not None:
            self.session.answer_close(close)
        if self.session is None or not self.session.is_pumped:
            self.over()

    def _slow_down(self, *, reading: bool) -> None:
        """Wait for the next second, if this one is not over yet. With `reading`, continue to read meanwhile."""
        now = time.monotonic()
        left = self._window + 1 - now
        if left <= 0:
            self._window, self._count, self._reads = now, 0, 0
        elif self.session is not None and self.session.state is State.CLOSED:
            self.abort()  # after the server's close, only the peer's close is expected
        elif self._slowed is None:
            if not reading and not self._transport.is_closing():
                self._transport.pause_reading()  # briefly, because only a read detects the end of the connection
            self._slowed = asyncio.get_running_loop().call_later(left, self._go_on)

    def _go_on(self) -> None:
        self._slowed = None
        self._window, self._count, self._reads = time.monotonic(), 0, 0
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self.take_waiting()

    def _check_size(self) -> None:
        if self._reader is not None and self._reader.is_empty:
            self._reader = None
        elif self._reader is not None and len(self._reader) > MAX_WAITING:
            self._end(POLICY)

    def _end(self, close: Close) -> None:
        self._break()
        if self.session is not None:
            self.session.end(close)
        else:
            self.abort()

    def _break(self) -> None:
        """Handle nothing more, and free the waiting bytes."""
        self.is_broken = True
        self._reader = None
