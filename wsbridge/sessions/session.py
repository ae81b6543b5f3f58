"""One connection of a user, over any transport: its state, and the order of its frames.

No method waits for the peer. A session ends in one of these ways:

| method | caller | what the peer gets |
|---|---|---|
| `end(close)` | any part of the server | a goodbye if `explain`, then the close, after all waiting frames |
| `answer_close(close)` | the transport, when the peer closes first | the peer's own code |
| `drop(reason)` | any part of the server, when the peer does not answer or is lost | nothing: the connection is reset |

After each of them the connection ends. Then it calls `leave`, which frees the session's memory; the session is removed
from the registry, counted and logged, once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from wsbridge.core.close_codes import INTERNAL, LOST, SLOW_CONSUMER, Close
from wsbridge.core.events import Entry, Position
from wsbridge.core.messages import gap, goodbye
from wsbridge.core.recovery import Resume
from wsbridge.sessions.connection import Connection
from wsbridge.sessions.record import NEVER, Record
from wsbridge.sessions.run import Run
from wsbridge.sessions.sender import Sender
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.sessions.state import TRANSITIONS, State
from wsbridge.telemetry.metrics import Metrics

_LIVE = State.LIVE  # looking up a member of an enum takes as long as a call


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The parts that all sessions of a replica share."""

    metrics: Metrics
    slow_consumers: SlowConsumers
    on_missed: Callable[["Session"], object]  # must read the missed entries from the history, for `catch_up`
    on_leave: Callable[["Session"], object]  # is called when the connection has ended


class Session(Record):
    """A connection of an admitted user."""

    __slots__ = ("_sender", "_shared", "connection", "rest", "state")

    def __init__(self, user: str, connection: Connection, shared: Shared, *, now: float, peer: str, agent: str) -> None:
        super().__init__(user, peer=peer, agent=agent, now=now)
        self.connection = connection
        self.state = State.JOINING
        self.rest = 0  # number of entries after those of the replay; they are read when the replay is written
        self._shared = shared
        self._sender = Sender(connection, shared.slow_consumers.ledger, shared.metrics)

    @property
    def messages_sent(self) -> int:
        return self._sender.messages

    @property
    def is_replaying(self) -> bool:
        return self._sender.is_replaying

    @property
    def is_pumped(self) -> bool:
        """Whether `pump` has something to do."""
        return self._sender.is_waiting or self._sender.is_replaying

    def enter(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a session cannot go from {self.state.name} to {state.name}")
        self.state = state

    def deliver(self, run: Run) -> int:
        """Take published entries and write them. Returns how many: not duplicates, and none after a missed entry."""
        if self.state is _LIVE and run.after == self.offset and run.epoch == self.epoch:
            self.offset = run.last
            if self._sender.send_run(run):
                self._wait()
            return len(run.frames)
        taken = sum([self.offer(entry, frame) for entry, frame in zip(run.entries, run.frames, strict=True)])
        self.flush()
        return taken

    def offer(self, entry: Entry, frame: bytes) -> bool:
        """Take a published entry, unless it is a duplicate. Return True if the session must be flushed."""
        if self.state is _LIVE:
            if entry.offset == self.offset + 1 and entry.epoch == self.epoch:
                self.offset = entry.offset
                self._sender.add_entry(entry, frame)
                return True
            if entry.offset > self.offset or entry.epoch != self.epoch:
                self.fall_behind()  # the history has the missed entries and this one
            return False
        if self.state is not State.CLOSED and not self.close:
            self._sender.hold(entry, len(frame))
            self._shared.slow_consumers.add(self)
        return False

    def fall_behind(self) -> None:
        """Hold live entries back until the missed ones were read from the history."""
        self.flush()
        if self.state is State.LIVE:
            self.enter(State.REPLAYING)
            self._shared.on_missed(self)

    def send(self, payload: bytes, position: Position | None = None) -> None:
        """Send a message that is not an update, after `connected`. A client that got it resumes from `position`."""
        if self.state is not State.CLOSED:
            self._sender.add(self.connection.frame(payload, position))
            self.flush()

    def pong(self, frame: bytes) -> None:
        """Answer a ping of the protocol, which is not counted as a message."""
        if self.state in (State.REPLAYING, State.LIVE) and self._sender.send([frame], len(frame)):
            self._wait()

    def ping(self) -> None:
        """Ping the peer. While frames wait for it, the bytes that it reads are the answer."""
        self.round_trip = NEVER if self._sender.is_waiting else None
        if not self._sender.is_waiting and self.state in (State.REPLAYING, State.LIVE):
            self.connection.ping()

    def flush(self) -> None:
        """Write the offered entries, in one piece if the connection can take them."""
        if (self.state is _LIVE or self.state is State.REPLAYING) and self._sender.flush():
            self._wait()

    def attach(self, resume: Resume, hello: bytes) -> None:
        """Send `connected`, then the messages or the close of the meantime, or else what `catch_up` sends."""
        if self.state is not State.JOINING:
            return
        self.enter(State.REPLAYING)
        self.epoch, self.offset = resume.position.epoch, resume.position.offset
        self._sender.add(self.connection.frame(hello, resume.position), first=True)
        self.flush()
        if self.close:
            self._close(self.close)
        else:
            self.catch_up(resume)

    def catch_up(self, resume: Resume) -> None:
        """Send a gap or the missed entries, then the held ones. Then the session is live."""
        if self.state is not State.REPLAYING or self.is_replaying:
            return
        if resume.gap:
            self.epoch, self.offset = resume.position.epoch, resume.position.offset
            self.send(gap(resume.gap.after, resume.position, resume.gap.reason), resume.position)
            self._shared.metrics.gaps[resume.gap.reason] += 1
        self.rest = resume.rest
        if resume.entries:
            self._sender.begin_replay(resume.entries)
            self._wait()
        else:
            self._end_replay()

    def pump(self) -> None:
        """Write a portion of the waiting frames. Must be called while `is_pumped`, at the peer's pace."""
        if self._sender.has_replayed:
            self._end_replay()
            return
        self.offset = self._sender.write_portion() or self.offset
        self._settle()

    def end(self, close: Close, *, explain: bool = False) -> None:
        """Close the connection, after `connected`. Only the first close counts. `explain` sends a goodbye first."""
        if self.state is State.CLOSED or self.close:
            return
        if explain:
            self.send(goodbye(close))
        self.close = close
        if self.state is not State.JOINING:
            self._close(close)

    def fail(self, doing: str, error: Exception) -> None:
        """End the session because of an internal error, which is counted and logged."""
        self._shared.metrics.internal(doing, error, session=self.id)
        if self.state is State.JOINING:  # the error was in making `connected`
            self.close = INTERNAL
            self._close(INTERNAL)
        else:
            self.end(INTERNAL)

    def answer_close(self, close: Close) -> None:
        """Note the peer's close and answer with its code, unless the server has closed first."""
        self.peers_close = close
        if self.state is not State.CLOSED:
            self._close(Close(close.code, ""), cut=True)

    def drop(self, reason: str) -> None:
        """Reset the connection of a peer that does not answer or is gone."""
        self.close = self.close or Close(LOST.code, reason)
        self._release()
        self.connection.abort()

    def leave(self) -> None:
        """Free what is left of a session whose connection has ended."""
        self._release()
        self._shared.on_leave(self)

    def unsent(self) -> int:
        """Return the bytes that wait for the peer, without missed entries."""
        return self.connection.unsent() + self._sender.waiting

    def buffered(self) -> int:
        return self.connection.unsent()

    def taken(self) -> int:
        """Return the bytes that the kernel has taken while frames waited; only differences are meaningful."""
        return self._sender.written - self.connection.unsent()

    def _wait(self) -> None:
        self._shared.slow_consumers.add(self)
        self.connection.wake()

    def _end_replay(self) -> None:
        self._sender.end_replay()
        if not self.rest:
            self._go_live()
            return
        self._settle()
        self._shared.on_missed(self)

    def _go_live(self) -> None:
        self.enter(State.LIVE)
        for entry in self._sender.take_held():
            if self.state is not State.LIVE:
                break  # another entry was missed, and the history has all of these
            self.offer(entry, self.connection.update(entry))
        self.flush()
        self._settle()

    def _close(self, close: Close, *, cut: bool = False) -> None:
        """Accept no more messages. Write the close after the waiting frames, or if `cut` after the partly sent one."""
        is_slow = close is SLOW_CONSUMER
        self.enter(State.CLOSED)
        self.connection.abort_later(soon=is_slow)
        self._sender.send_close(close, cut=cut or is_slow)
        self._settle()

    def _release(self) -> None:
        if self.state is not State.CLOSED:
            self.enter(State.CLOSED)
        self._sender.clear()
        self._settle()

    def _settle(self) -> None:
        """Leave `SlowConsumers` if no frames wait for the peer any more."""
        if not self._sender.has_any:
            self._shared.slow_consumers.discard(self)
