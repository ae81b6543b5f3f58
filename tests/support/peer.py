"""A session on a fake connection, and entries to offer to it."""

from collections.abc import Callable

from tests.support.fake_connection import FakeConnection
from wsbridge.core.events import Entry, Position
from wsbridge.core.recovery import Resume
from wsbridge.sessions.session import Session, Shared
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.telemetry.metrics import Metrics

HELLO = b'{"type":"connected"}'
BACKLOG = 10_000  # bytes that may wait for one peer


class Peer:
    """A session on a fake connection."""

    def __init__(
        self,
        user: str = "u",
        now: float = 0.0,
        metrics: Metrics | None = None,
        slow_consumers: SlowConsumers | None = None,
    ) -> None:
        self.connection = FakeConnection()
        self.metrics = metrics or Metrics()
        self.behind: list[Session] = []  # sessions for which `mend` was called
        self.on_missed: Callable[[Session], object] = self.behind.append
        self.now = now
        if slow_consumers is None:
            slow_consumers = SlowConsumers(self.metrics, max_session=BACKLOG, max_total=10**9, clock=lambda: self.now)
        self.slow_consumers = slow_consumers
        self.left: list[Session] = []  # one for each call of `leave`
        shared = Shared(
            metrics=self.metrics,
            slow_consumers=slow_consumers,
            on_missed=self._missed,
            on_leave=self.left.append,
        )
        self.session = self.connection.session = Session(
            user, self.connection, shared, now=now, peer="10.0.0.9", agent="x"
        )

    def _missed(self, session: Session) -> None:
        self.on_missed(session)

    @classmethod
    def live(
        cls,
        user: str = "u",
        now: float = 0.0,
        metrics: Metrics | None = None,
        slow_consumers: SlowConsumers | None = None,
    ) -> "Peer":
        """A session that is attached at e:0, before the first event."""
        peer = cls(user, now, metrics, slow_consumers)
        peer.session.attach(Resume(Position("e", 0)), HELLO)
        return peer

    async def attach(self, resume: Resume) -> None:
        """Attach, and wait until the replay is complete, if there is one."""
        self.session.attach(resume, HELLO)
        await self.pumped()

    async def catch_up(self, resume: Resume) -> None:
        self.session.catch_up(resume)
        await self.pumped()

    async def pumped(self) -> None:
        if self.connection.pumping is not None:
            await self.connection.pumping

    def offer(self, *offsets: int, epoch: str = "e") -> list[bool]:
        return [
            self.session.offer(e, self.connection.update(e))
            for e in (entry(n, epoch, self.session.user) for n in offsets)
        ]

    @property
    def ids(self) -> list[str]:
        """Positions of the updates that were written."""
        return [message["id"] for message in self.connection.messages if "id" in message]


def entry(offset: int, epoch: str = "e", user: str = "u", data: bytes = b"{}") -> Entry:
    return Entry(user, epoch, offset, "task_update", data, "2026-02-07T12:00:00.000Z", 0.0, f"id-{offset}")


def resume(last: int, *, top: int = 0, epoch: str = "e") -> Resume:
    """The entries after `last` up to `top`."""
    return Resume(Position(epoch, last), tuple(entry(n, epoch) for n in range(last + 1, top + 1)), recovered=True)
