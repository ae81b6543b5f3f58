"""One connection, whatever its transport: its state, its bounds, the seam from replay to live. Knows no HTTP.

Everything but `attach` and `catch_up` is synchronous: nothing else here waits for a peer.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from wsbridge.event import Entry, Position
from wsbridge.history import Resume
from wsbridge.metrics import Metrics
from wsbridge.protocol import (
    FORCE_DISCONNECT,
    LOST,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    Close,
    gap,
    goodbye,
)

REPLAY_PORTION, REPLAY_BYTES = 64, 262_144  # entries, or bytes, written before the replay waits for the peer
REPLAY_TIMEOUT = 30.0  # seconds that the peer has to take a portion


class State(Enum):
    """Where a session is."""

    REPLAYING = auto()  # live entries are held back until the replay is out
    LIVE = auto()
    CLOSED = auto()  # nothing is written any more


NEXT = {
    State.REPLAYING: {State.LIVE, State.CLOSED},
    State.LIVE: {State.REPLAYING, State.CLOSED},  # back, where a live entry was missed
    State.CLOSED: set[State](),
}


class Wire(Protocol):
    """What a transport has to offer. None of it but `drain` waits."""

    kind: str

    @property
    def ping_interval(self) -> float | None:
        """Seconds between two pings, at most; None is the bridge's own."""
        ...

    @property
    def answers(self) -> bool:
        """Whether a peer that is there answers a ping."""
        ...

    def update(self, entry: Entry) -> bytes:
        """An entry as it stands on this wire; the same for all sessions of the kind."""
        ...

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        """A message as it stands on this wire."""
        ...

    def write(self, data: bytes) -> None: ...

    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""
        ...

    def is_gone(self) -> bool:
        """Whether the peer has left unnoticed."""
        ...

    def ping(self) -> None: ...

    def end(self, close: Close) -> None:
        """Say goodbye in the transport's way and free everything within 2 s, whatever the peer does."""
        ...

    def abort(self) -> None: ...

    async def drain(self) -> None:
        """Wait until the peer has taken most of it."""
        ...


class Session:
    """A user's connection. Times are in seconds of the loop's clock.

    `mend` is called when a live entry was missed; who hears it reads the history and lets the session `catch_up`.
    """

    __slots__ = (
        "__weakref__", "_backlog", "_held", "_held_bytes", "_mend", "_metrics", "_pending", "agent", "close", "epoch",
        "expires", "heard", "id", "offset", "opened", "peer", "pinged", "received", "sent", "state", "user", "wire",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        wire: Wire,
        metrics: Metrics,
        *,
        now: float,
        max_backlog: int,
        mend: Callable[["Session"], None],
        peer: str,
        agent: str,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.user = user
        self.wire = wire
        self.peer = peer
        self.agent = agent
        self.state = State.REPLAYING
        self.opened = self.heard = self.pinged = now
        self.expires = float("inf")  # when its token ends it
        self.epoch = ""
        self.offset = 0
        self.sent = self.received = 0
        self.close: Close | None = None  # how we ended it, if we did
        self._metrics = metrics
        self._backlog = max_backlog
        self._mend = mend
        self._pending: list[bytes] = []
        self._held: list[tuple[Entry, bytes]] | None = None
        self._held_bytes = 0

    @property
    def position(self) -> Position:
        """The last event that was written, or the one before the first."""
        return Position(self.epoch, self.offset)

    def enter(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise RuntimeError(f"a session cannot go from {self.state.name} to {state.name}")
        self.state = state

    def offer(self, entry: Entry, frame: bytes) -> bool:
        """Take a published entry; True if it is to be flushed. What the session has already is skipped."""
        if self.state is State.LIVE:
            if entry.epoch == self.epoch and entry.offset <= self.offset:
                return False
            if entry.epoch != self.epoch or entry.offset > self.offset + 1:
                self.fall_behind()  # what was missed is in the history, and this entry, too
                return False
            self.offset = entry.offset
            self._pending.append(frame)
            return True
        if self.state is State.REPLAYING:
            self._hold(entry, frame)
        return False

    def fall_behind(self) -> None:
        """A live entry was missed: hold those that come until the history has given it back."""
        self.flush()
        if self.state is State.LIVE:
            self.enter(State.REPLAYING)
            self._mend(self)

    def send(self, payload: bytes, position: Position | None = None) -> None:
        """A message that is no update, at once; `position` if a client is to resume after it."""
        if self.state is not State.CLOSED:
            self._pending.append(self.wire.frame(payload, position))
            self.flush()

    def flush(self) -> None:
        """Write what was offered, in one piece; over the bound the session ends."""
        pending = self._pending
        if not pending or self.state is State.CLOSED:
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        self.sent += len(pending)
        self._metrics.wrote(len(pending), len(data))
        pending.clear()
        self.wire.write(data)
        self.bound()

    def bound(self) -> None:
        """A live session whose peer does not take what is written ends here."""
        if self.state is State.LIVE and self.wire.unsent() > self._backlog:
            self.end(SLOW_CONSUMER)

    def end(self, close: Close) -> None:
        """Close the connection; only the first close counts."""
        if self.state is not State.CLOSED:
            self.close = close
            self.leave()
            self.wire.end(close)

    def drop(self, reason: str) -> None:
        """Let go of a peer that is not there any more."""
        self.close = self.close or Close(LOST.code, reason)
        self.leave()
        self.wire.abort()

    def leave(self) -> None:
        """Nothing is written from now on."""
        if self.state is not State.CLOSED:
            self.enter(State.CLOSED)
        self._pending.clear()
        self._held = None

    def dismiss(self, close: Close) -> None:
        """Close it with a word of explanation just before."""
        self.send(goodbye(close))
        self.end(close)

    def disconnect(self) -> None:
        """An operator ends it."""
        self.dismiss(FORCE_DISCONNECT)

    def expire(self) -> None:
        """Its token has ended."""
        self.dismiss(TOKEN_EXPIRED)

    async def attach(self, resume: Resume, hello: bytes) -> None:
        """Send `connected`, then as `catch_up`."""
        self.epoch, self.offset = resume.position.epoch, resume.position.offset
        self.send(hello, resume.position)
        await self.catch_up(resume)

    async def catch_up(self, resume: Resume) -> None:
        """Send a gap or what was missed, then what was held meanwhile; from then on it is live."""
        if self.state is not State.REPLAYING:
            return
        if resume.gap:
            self.epoch, self.offset = resume.position.epoch, resume.position.offset
            self.send(gap(resume.gap.after, resume.position, resume.gap.reason), resume.position)
            self._metrics.gap(resume.gap.reason)
        await self._replay(resume.entries)
        self._go_live()

    async def _replay(self, entries: Sequence[Entry]) -> None:
        """At the peer's pace: a healthy reader that is given megabytes at once looks like a slow one."""
        size = 0
        for count, entry in enumerate(entries, 1):
            if self.state is not State.REPLAYING:
                return
            frame = self.wire.update(entry)
            self._pending.append(frame)
            self.offset = entry.offset
            size += len(frame)
            if size >= REPLAY_BYTES or count % REPLAY_PORTION == 0 or count == len(entries):
                size = 0
                self.flush()
                await self._drained()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(REPLAY_TIMEOUT):
                await self.wire.drain()
        except TimeoutError:
            self.end(SLOW_CONSUMER)
        except ConnectionError:
            self.drop(LOST.reason)

    def _go_live(self) -> None:
        if self.state is State.REPLAYING:
            self.enter(State.LIVE)
            self._offer_held()
            self.flush()

    def _offer_held(self) -> None:
        held, self._held, self._held_bytes = self._held or (), None, 0
        for entry, frame in held:
            if self.state is not State.LIVE:
                return  # there was another hole: the history will give all of them
            self.offer(entry, frame)

    def _hold(self, entry: Entry, frame: bytes) -> None:
        self._held = self._held or []
        self._held.append((entry, frame))
        self._held_bytes += len(frame)
        if self._held_bytes > self._backlog:
            self.end(SLOW_CONSUMER)
