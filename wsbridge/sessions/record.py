"""Facts about one session: its user, its position, its times and how it ended."""

import secrets

from wsbridge.core.close_codes import LOST, Close
from wsbridge.core.events import Entry, Position

NEVER = float("inf")


class Record:
    """Times are in seconds of the loop's clock."""

    __slots__ = (
        "__weakref__", "agent", "close", "closes_at", "epoch", "expires_at", "handled", "heard_at", "id",
        "messages_received", "offset", "opened_at", "peer", "peers_close", "pinged_at", "round_trip",
        "user",
    )  # fmt: skip

    def __init__(self, user: str, *, peer: str, agent: str, now: float) -> None:
        self.id = secrets.token_hex(6)
        self.user = user
        self.peer = peer  # address
        self.agent = agent
        self.opened_at = self.heard_at = self.pinged_at = now
        self.round_trip: float | None = None  # seconds from the last ping to its pong; NEVER if it was not sent
        self.expires_at = NEVER  # the end of its token
        self.closes_at = NEVER  # the time of its close in a graceful shutdown
        self.epoch = ""
        self.offset = 0
        self.handled: Position | None = None  # the client has reported it, or resumed after it
        self.messages_received = 0
        self.close: Close | None = None  # the server's close
        self.peers_close: Close | None = None

    @property
    def position(self) -> Position:
        """The position of the last written entry, or the one before the first."""
        return Position(self.epoch, self.offset)

    def is_at(self, entry: Entry) -> bool:
        """Whether the entry, or a later one, was written."""
        return self.offset >= entry.offset and self.epoch == entry.epoch

    @property
    def ended_by(self) -> str:
        """The side that closed the connection first: `server` or `client`, or `network` if neither did."""
        if self.close is not None and self.close.code != LOST.code:
            return "server"
        return "client" if self.peers_close is not None else "network"

    @property
    def final_close(self) -> Close:
        return self.close or self.peers_close or LOST

    def ponged(self, now: float) -> None:
        """Note the answer to the last ping. A further pong changes nothing."""
        if self.round_trip is None:
            self.round_trip = now - self.pinged_at

    def alive(self, now: float) -> None:
        self.heard_at = now
