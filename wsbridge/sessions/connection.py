"""The interface that a session needs from a connection of any transport."""

from typing import Protocol

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Position


class Connection(Protocol):
    """One connection of one transport (WebSocket or SSE). No method waits."""

    transport_name: str  # "websocket" or "sse", as in logs and metrics

    @property
    def is_paused(self) -> bool:
        """Whether the write buffer must drain before more is written."""

    @property
    def ping_interval(self) -> float | None:
        """The most seconds between two pings; None for the interval of the settings."""

    @property
    def answers(self) -> bool:
        """Whether a live peer answers pings."""

    def update(self, entry: Entry) -> bytes:
        """Return the frame of an entry. It is the same for all sessions with this transport."""

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        """Return the frame of a message; `position` is the one from which a client resumes after it."""

    def write(self, data: bytes | memoryview) -> None: ...

    def unsent(self) -> int:
        """Return the number of bytes in the write buffer."""

    def ping(self) -> None: ...

    def wake(self) -> None:
        """Call `Session.pump` in a later turn of the loop, whenever the write buffer is nearly empty."""

    def abort_later(self, *, soon: bool = False) -> None:
        """Abort in 2 s, or in 0.5 to 1 s, if the connection has not ended by then."""

    def send_close(self, close: Close) -> None:
        """Close the connection in the way of its transport. Nothing is written afterwards."""

    def abort(self) -> None:
        """Reset the connection and free its memory."""
