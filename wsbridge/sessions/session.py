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
from collections.abc import Callable, Sequence
from enum import Enum, auto

from wsbridge.core.close_codes import FORCE_DISCONNECT, LOST, SLOW_CONSUMER, TOKEN_EXPIRED, Close
from wsbridge.core.events import Entry, Position
from wsbridge.core.messages import gap, goodbye
from wsbridge.core.recovery import Resume
from wsbridge.sessions.backlog import Backlog
from wsbridge.sessions.replay import Replay
from wsbridge.sessions.sender import Connection, Sender
from wsbridge.telemetry.metrics import Metrics


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


class Session:
    """A user's connection. Times are in seconds of the loop's clock.

    Calls `on_missed(session)` when it detects a missed entry. The callee must read the missed entries from the history
    and pass them to `catch_up()`.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_metrics",
        "_on_missed",
        "_pending",
        "_replay",
        "_sender",
        "agent",
        "close",
        "connection",
        "epoch",
        "expires",
        "heard",
        "id",
        "leaves",
        "offset",
        "opened",
        "peer",
        "pinged",
        "received",
        "rest",
        "sent",
        "state",
        "user",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        connection: Connection,
        metrics: Metrics,
        backlog: Backlog,
        *,
        now: float,
        on_missed: Callable[["Session"], None],
        peer: str,
        agent: str,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.user = user
        self.connection = connection
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
        self._on_missed = on_missed
        self._pending: list[bytes] = []  # offered since the last flush
        self._sender = Sender(connection, backlog.ledger)
        self._replay: Replay | None = None  # until it is live, if there is anything to say before
        self.rest = 0  # entries that the history has beyond those of the replay, to be read when these are out

    @property
    def position(self) -> Position:
        """The last event that was written, or the one before the first."""
        return Position(self.epoch, self.offset)

    @property
    def is_replaying(self) -> bool:
        return self._replay is not None and self._replay.has_begun

    @property
    def is_pumped(self) -> bool:
        """Whether `pump` has something to do."""
        return self._sender.is_waiting or self.is_replaying

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
            if not self._pending and self._sender.queue_entry(entry, len(frame)):
                self._count(1, len(frame))
            else:
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
            self._on_missed(self)

    def send(self, payload: bytes, position: Position | None = None) -> None:
        """A message that is no update, at once; `position` if a client is to resume after it."""
        if self.state is not State.CLOSED:
            self._pending.append(self.connection.frame(payload, position))
            self.flush()

    def pong(self, frame: bytes) -> None:
        """Answer a ping of the protocol; this is no message and not counted as one."""
        if self.state in (State.REPLAYING, State.LIVE):
            self._hand_over([frame], len(frame))

    def ping(self) -> None:
        """Ask whether the peer is there. While something waits for it, what it takes of that is the answer."""
        if not self._sender.is_waiting and self.state in (State.REPLAYING, State.LIVE):
            self.connection.ping()

    def alive(self, now: float) -> None:
        self.heard = now

    def flush(self) -> None:
        """Write what was offered, in one piece where the transport is free to take it."""
        pending = self._pending
        if not pending or self.state is State.CLOSED or self.state is State.JOINING:
            return
        size = len(pending[0]) if len(pending) == 1 else sum(map(len, pending))
        self._count(len(pending), size)
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
        self.connection.abort()

    def leave(self) -> None:
        """Nothing is written from now on, and nothing is kept."""
        if self.state is not State.CLOSED:
            self.enter(State.CLOSED)
        self._sender.clear()
        self._forget()

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
        self._pending.insert(0, self.connection.frame(hello, resume.position))
        self.flush()
        if self.close:
            self._finish(self.close)
        else:
            self.catch_up(resume)

    def catch_up(self, resume: Resume) -> None:
        """Send a gap or what was missed, then what was held meanwhile; from then on it is live."""
        if self.state is not State.REPLAYING or self.is_replaying:
            return
        if resume.gap:
            self.epoch, self.offset = resume.position.epoch, resume.position.offset
            self.send(gap(resume.gap.after, resume.position, resume.gap.reason), resume.position)
            self._metrics.gap(resume.gap.reason)
        self.rest = resume.rest
        if resume.entries:
            self._before_live().begin(resume.entries)
            self._wait()
        else:
            self._end_replay(self._replay)

    async def pump(self) -> None:
        """Write what waits, at the peer's pace, until nothing does.

        Raises:
            ConnectionError: the peer is gone.

        """
        while self.is_pumped:
            await self.connection.drain()
            self._write_portion()
            await asyncio.sleep(0)  # a peer that takes everything at once must not keep the others waiting

    def unsent(self) -> int:
        """Bytes that wait for the peer, but those that it missed earlier."""
        held = self._replay.held_bytes if self._replay else 0
        return self.connection.unsent() + held + self._sender.waiting

    def buffered(self) -> int:
        return self.connection.unsent()

    def taken(self) -> int:
        """Bytes that the kernel has taken while something waits for the peer; only differences count."""
        return self._sender.written - self.connection.unsent()

    def _count(self, messages: int, size: int) -> None:
        self.sent += messages
        self._metrics.wrote(messages, size)

    def _hand_over(self, frames: Sequence[bytes], size: int) -> None:
        if self._sender.send(frames, size):
            self._wait()

    def _wait(self) -> None:
        self._backlog.add(self)
        self.connection.wake()

    def _write_portion(self) -> None:
        if not self._sender.is_waiting and self._replay is not None and self._replay.has_begun:
            if self._replay.is_done:
                self._end_replay(self._replay)
                return
            self._make_frames(self._replay)
        self._sender.write_portion()
        self._settle()

    def _settle(self) -> None:
        if not self._sender.is_waiting and self._replay is None:
            self._backlog.discard(self)

    def _make_frames(self, replay: Replay) -> None:
        frames, self.offset = replay.take(self.connection.update)
        self._count(len(frames), sum(map(len, frames)))
        self._sender.queue(frames)

    def _end_replay(self, replay: Replay | None) -> None:
        if not self.rest:
            self._go_live()
            return
        self._replay = replay if replay and replay.end() else None
        self._settle()
        self._on_missed(self)

    def _go_live(self) -> None:
        self.enter(State.LIVE)
        replay, self._replay = self._replay, None
        for entry in replay.take_held() if replay else ():
            if self.state is not State.LIVE:
                break  # another entry was missed: the history has all of these
            self.offer(entry, self.connection.update(entry))
        self.flush()
        self._settle()

    def _hold(self, entry: Entry, frame: bytes) -> None:
        if self.close:
            return  # it ends as soon as it is attached
        self._before_live().hold(entry, len(frame))
        self._backlog.add(self)

    def _before_live(self) -> Replay:
        if self._replay is None:
            self._replay = Replay(self._backlog.ledger)
        return self._replay

    def _finish(self, close: Close, *, cut: bool = False) -> None:
        """No more messages; the close goes behind what waits, or behind the frame that has begun."""
        self.enter(State.CLOSED)
        if cut or close is SLOW_CONSUMER:
            self._sender.cut()
        self._forget()
        self.connection.abort_later(soon=close is SLOW_CONSUMER)
        self._sender.end(close)

    def _forget(self) -> None:
        """What was not handed to the sender yet."""
        self._pending.clear()
        if self._replay is not None:
            self._replay.clear()
            self._replay = None
        self._settle()
