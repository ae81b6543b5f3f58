"""One connection, whatever its transport: its state, its backlog, the seam from replay to live. Knows no HTTP.

Everything but `pump` is synchronous: nothing else here waits for a peer. How a session ends:

| method | what the peer hears |
|---|---|
| `end` | the close, behind what waits for it |
| `dismiss`, `disconnect`, `expire` | a goodbye, then the same |
| `drop` | nothing: the peer is gone |
| `leave` | nothing: the connection has ended already |
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from wsbridge.backlog import Backlog
from wsbridge.event import Entry, Position
from wsbridge.history import Resume
from wsbridge.metrics import Metrics
from wsbridge.outbox import HIGH_WATER, PORTION, Outbox
from wsbridge.protocol import (
    FORCE_DISCONNECT,
    LOST,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    Close,
    gap,
    goodbye,
)

REPLAY_PORTION = 64  # entries, at most, that are made into frames at once


class State(Enum):
    """Where a session is."""

    JOINING = auto()  # admitted, but not attached: nothing may be written before its `connected`
    REPLAYING = auto()  # live entries are held back until the replay is out
    LIVE = auto()
    CLOSED = auto()  # no message is taken any more


NEXT = {
    State.JOINING: {State.REPLAYING, State.CLOSED},
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

    def write(self, data: bytes | memoryview) -> None: ...

    def unsent(self) -> int:
        """Bytes in the transport's buffer."""
        ...

    def is_gone(self) -> bool:
        """Whether the peer has left unnoticed."""
        ...

    def ping(self) -> None: ...

    def wake(self) -> None:
        """There is something to `pump`: whoever owns the connection does it."""
        ...

    def abort_later(self, *, soon: bool = False) -> None:
        """Free everything within 2 s, or half a second, whatever the peer does."""
        ...

    def end(self, close: Close) -> None:
        """Close in the transport's way; the last that is written."""
        ...

    def abort(self) -> None: ...

    async def drain(self) -> None:
        """Wait until the transport's buffer is nearly empty."""
        ...


class Session:
    """A user's connection. Times are in seconds of the loop's clock.

    Calls `mend(session)` when it detects a missed entry. The callee must read the missed entries from the history and
    pass them to `catch_up()`.
    """

    __slots__ = (
        "__weakref__", "_backlog", "_held", "_held_bytes", "_last", "_mend", "_metrics", "_missed", "_outbox",
        "_pending", "_written", "agent", "close", "epoch", "expires", "heard", "id", "leaves", "offset", "opened",
        "peer", "pinged", "received", "rest", "sent", "state", "user", "wire",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        wire: Wire,
        metrics: Metrics,
        backlog: Backlog,
        *,
        now: float,
        mend: Callable[["Session"], None],
        peer: str,
        agent: str,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.user = user
        self.wire = wire
        self.peer = peer
        self.agent = agent
        self.state = State.JOINING
        self.opened = self.heard = self.pinged = now
        self.expires = float("inf")  # when its token ends it
        self.leaves = float("inf")  # when a drain ends it
        self.epoch = ""
        self.offset = 0
        self.sent = self.received = 0
        self.close: Close | None = None  # how we ended it, if we did
        self._metrics = metrics
        self._backlog = backlog
        self._mend = mend
        self._pending: list[bytes] = []  # offered since the last flush
        self._outbox: Outbox | None = None  # what the transport could not be given yet
        self._written = 0  # bytes that went from there to the transport
        self._last: Close | None = None  # the close that is written when the outbox is empty
        self._missed: deque[Entry] | None = None  # the rest of the replay, once the history was read
        self.rest = 0  # entries that the history has beyond those, to be read when they are out
        self._held: list[tuple[Entry, bytes]] | None = None
        self._held_bytes = 0

    @property
    def position(self) -> Position:
        """The last event that was written, or the one before the first."""
        return Position(self.epoch, self.offset)

    @property
    def is_replaying(self) -> bool:
        return self._missed is not None

    @property
    def is_pumped(self) -> bool:
        """Whether `pump` has something to do."""
        return self._outbox is not None or self._missed is not None

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
        if self.state is not State.CLOSED:
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

    def pong(self, frame: bytes) -> None:
        """Answer a ping of the protocol; this is no message and not counted as one."""
        if self.state in (State.REPLAYING, State.LIVE):
            self._hand_over([frame], len(frame))

    def ping(self) -> None:
        """Ask whether the peer is there. While something waits for it, what it takes of that is the answer."""
        if self._outbox is None and self.state in (State.REPLAYING, State.LIVE):
            self.wire.ping()

    def alive(self, now: float) -> None:
        self.heard = now

    def flush(self) -> None:
        """Write what was offered, in one piece where the transport is free to take it."""
        pending = self._pending
        if not pending or self.state is State.CLOSED or self.state is State.JOINING:
            return
        size = len(pending[0]) if len(pending) == 1 else sum(map(len, pending))
        self.sent += len(pending)
        self._metrics.wrote(len(pending), size)
        self._hand_over(pending, size)
        pending.clear()

    def end(self, close: Close) -> None:
        """Close the connection; only the first close counts. One that is not attached yet ends after `connected`."""
        if self.state is State.CLOSED or self.close:
            return
        self.close = close
        if self.state is not State.JOINING:
            self._finish(close)

    def answer(self, close: Close) -> None:
        """The peer closes: its own code is all that it still gets, unless our close came first."""
        if self.state is not State.CLOSED:
            self._finish(close, cut=True)

    def drop(self, reason: str) -> None:
        """Let go of a peer that is not there any more."""
        self.close = self.close or Close(LOST.code, reason)
        self.leave()
        self.wire.abort()

    def leave(self) -> None:
        """Nothing is written from now on, and nothing is kept."""
        if self.state is not State.CLOSED:
            self.enter(State.CLOSED)
        self._last = None
        self._forget()
        self._drop_outbox()

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

    def attach(self, resume: Resume, hello: bytes) -> None:
        """Write `connected`, then as `catch_up`; what it was told to say or to end with meanwhile comes behind it."""
        if self.state is not State.JOINING:
            return
        self.enter(State.REPLAYING)
        self.epoch, self.offset = resume.position.epoch, resume.position.offset
        self._pending.insert(0, self.wire.frame(hello, resume.position))
        self.flush()
        if self.close:
            self._finish(self.close)
        else:
            self.catch_up(resume)

    def catch_up(self, resume: Resume) -> None:
        """Send a gap or what was missed, then what was held meanwhile; from then on it is live."""
        if self.state is not State.REPLAYING or self._missed is not None:
            return
        if resume.gap:
            self.epoch, self.offset = resume.position.epoch, resume.position.offset
            self.send(gap(resume.gap.after, resume.position, resume.gap.reason), resume.position)
            self._metrics.gap(resume.gap.reason)
        self.rest = resume.rest
        if resume.entries:
            self._begin_replay(resume.entries)
        else:
            self._end_replay()

    async def pump(self) -> None:
        """Write what waits, at the peer's pace, until nothing does.

        Raises:
            ConnectionError: the peer is gone.

        """
        while self.is_pumped:
            await self.wire.drain()
            self._write_portion()
            await asyncio.sleep(0)  # a peer that takes everything at once must not keep the others waiting

    def unsent(self) -> int:
        """Bytes that wait for the peer, but those that it missed earlier."""
        return self.wire.unsent() + self._held_bytes + (self._outbox.size if self._outbox else 0)

    def buffered(self) -> int:
        return self.wire.unsent()

    def taken(self) -> int:
        """Bytes that the kernel has taken while something waits for the peer; only differences count."""
        return self._written - self.wire.unsent()

    def _hand_over(self, frames: Sequence[bytes], size: int) -> None:
        """To the transport, if it is free; else they wait, as references to what others wait for too."""
        if self._outbox is None and size <= PORTION and self.wire.unsent() <= HIGH_WATER:
            self.wire.write(frames[0] if len(frames) == 1 else b"".join(frames))
            return
        if self._outbox is None:
            self._outbox = Outbox(self._backlog.ledger)
            self._wait()
        self._outbox.put(frames)

    def _wait(self) -> None:
        self._backlog.add(self)
        self.wire.wake()

    def _write_portion(self) -> None:
        if self._outbox is None and self._missed:
            self._make_frames(self._missed)
        if self._outbox is not None:
            data = self._outbox.take()
            self._written += len(data)
            self.wire.write(data)
            if not self._outbox.size:
                self._drop_outbox()
        elif self._missed is not None:
            self._missed = None
            self._end_replay()

    def _make_frames(self, missed: deque[Entry]) -> None:
        """Some of the replay: a portion, or one entry that is larger."""
        frames, size = list[bytes](), 0
        while missed and size < PORTION and len(frames) < REPLAY_PORTION:
            entry = missed.popleft()
            self._backlog.ledger.release(entry.data)
            frames.append(self.wire.update(entry))
            size += len(frames[-1])
            self.offset = entry.offset
        self.sent += len(frames)
        self._metrics.wrote(len(frames), size)
        self._outbox = Outbox(self._backlog.ledger)
        self._outbox.put(frames)

    def _begin_replay(self, entries: Sequence[Entry]) -> None:
        self._missed = deque(entries)
        for entry in entries:
            self._backlog.ledger.hold(entry.data)
        self._wait()

    def _end_replay(self) -> None:
        if self.rest:
            if self._outbox is None and not self._held:
                self._backlog.discard(self)
            self._mend(self)
        else:
            self._go_live()

    def _go_live(self) -> None:
        self.enter(State.LIVE)
        self._offer_held()
        self.flush()
        if self._outbox is None:
            self._backlog.discard(self)

    def _offer_held(self) -> None:
        held = self._take_held()
        for entry, frame in held:
            if self.state is not State.LIVE:
                return  # there was another hole: the history will give all of them
            self.offer(entry, frame)

    def _take_held(self) -> list[tuple[Entry, bytes]]:
        held, self._held, self._held_bytes = self._held or [], None, 0
        for _, frame in held:
            self._backlog.ledger.release(frame)
        return held

    def _hold(self, entry: Entry, frame: bytes) -> None:
        if self.close:
            return  # it ends as soon as it is attached
        if self._held is None:
            self._held = []
            self._backlog.add(self)
        self._held.append((entry, frame))
        self._held_bytes += len(frame)
        self._backlog.ledger.hold(frame)

    def _finish(self, close: Close, *, cut: bool = False) -> None:
        """No more messages; the close goes behind what waits, or behind the frame that has begun."""
        self.enter(State.CLOSED)
        self._forget()
        if self._outbox is not None and (cut or close is SLOW_CONSUMER):
            self._outbox.cut()
            if not self._outbox.size:
                self._drop_outbox()
        self.wire.abort_later(soon=close is SLOW_CONSUMER)
        self._last = close
        if self._outbox is None:
            self._say_last()

    def _say_last(self) -> None:
        close, self._last = self._last, None
        if close is not None:
            self.wire.end(close)

    def _drop_outbox(self) -> None:
        if self._outbox is not None:
            self._outbox.clear()
            self._outbox = None
        if self._missed is None and not self._held:
            self._backlog.discard(self)
        if self.state is State.CLOSED:
            self._say_last()

    def _forget(self) -> None:
        """What was not made into frames for the outbox yet."""
        self._pending.clear()
        self._take_held()
        for entry in self._missed or ():
            self._backlog.ledger.release(entry.data)
        self._missed = None
        if self._outbox is None:
            self._backlog.discard(self)
