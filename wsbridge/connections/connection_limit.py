"""All TCP connections of the process: how many there may be, and which one goes when there are too many."""

from typing import Protocol

from wsbridge.telemetry.metrics import Metrics

MAX_HEAD_BYTES = 33_554_432  # of all unfinished heads together; above, the connection that waits longest is cut
MARGIN = 32  # connections above the limit: probes and sidecars get an answer while everything else is refused


class LimitedConnection(Protocol):
    """A connection."""

    def cut(self, reason: str) -> None:
        """End it at once: it holds nothing and waits for nothing from now on."""
        ...

    def close(self) -> None:
        """End it, since the server stops."""
        ...


class ConnectionLimit:
    """`limit` is the number of connections from which on none may become a session."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._metrics = metrics
        self._size = 0
        self._head_bytes = 0
        # Those that wait for a request, the one that waits longest first; unknown peers go before known ones.
        self._waiting: dict[bool, dict[LimitedConnection, None]] = {False: {}, True: {}}
        self._unfinished: dict[LimitedConnection, int] = {}  # bytes that each holds, in the order in which they began
        metrics.watch("sockets", "Open TCP connections.", lambda: self._size)
        metrics.watch("head_bytes", "Memory for unfinished request heads.", lambda: self._head_bytes)

    @property
    def is_full(self) -> bool:
        return self._size > self.limit

    @property
    def is_overflowing(self) -> bool:
        """Whether not even a probe can be taken."""
        return self._size >= self.limit + MARGIN

    def enter(self, member: LimitedConnection, *, known: bool) -> None:
        """A new connection. Of those that are silent one is cut if there are too many."""
        self._size += 1
        if self.is_full:
            self.make_room()
        self.wait(member, known=known)

    def leave(self, member: LimitedConnection, *, known: bool) -> None:
        self._size -= 1
        self._waiting[known].pop(member, None)

    def wait(self, member: LimitedConnection, *, known: bool) -> None:
        """It waits for a request."""
        self._waiting[known][member] = None

    def work(self, member: LimitedConnection, *, known: bool) -> None:
        """A request of it is being answered: nothing takes its place."""
        self._waiting[known].pop(member, None)

    def hold(self, member: LimitedConnection, size: int) -> None:
        """Its unfinished head has that many bytes now; 0 is none."""
        self._head_bytes += size - self._unfinished.get(member, 0)
        if size:
            self._unfinished[member] = size
        else:
            self._unfinished.pop(member, None)
        while self._head_bytes > MAX_HEAD_BYTES:
            next(iter(self._unfinished)).cut("head_memory")

    def close(self) -> None:
        """The server stops: nobody has to wait for a request any more."""
        for member in [member for waiting in self._waiting.values() for member in waiting]:
            member.close()

    def make_room(self) -> None:
        """Cut the connection that waits longest, if one waits."""
        for waiting in self._waiting.values():
            if waiting:
                next(iter(waiting)).cut("descriptors")
                break
