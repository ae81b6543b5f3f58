"""Ends the sessions of peers that read too slowly, by two bounds on their unsent bytes.

Both bounds are about time, because a fast reader that is sent much at once is over a bound for a moment. A session is
ended only if its peer reads too little, whether it is over its own bound or among the slowest when memory is short.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

from wsbridge.core.close_codes import SLOW_CONSUMER, Close
from wsbridge.sessions.outbox import Ledger
from wsbridge.telemetry.metrics import Metrics

LOOK = 0.25  # seconds between two looks at the sessions with unsent bytes
LATE = 1.0  # seconds; if a look is later than this, the process was paused, and no peer is blamed
PATIENCE = 1.0  # seconds within which a peer over its bound must read a `SHARE` of the bound
REPLAY_PATIENCE = 30.0  # the same during a replay, which is sent at the peer's pace; also below the bound
SHARE = 16
HEALTHY = 5.0  # seconds; a peer that will have read everything by then is never ended for lack of memory


class Waiting(Protocol):
    """The part of a session that `SlowConsumers` needs."""

    @property
    def is_replaying(self) -> bool: ...

    def unsent(self) -> int:
        """Bytes that wait for the peer, without missed entries."""

    def buffered(self) -> int:
        """The part of them in the write buffer of the transport."""

    def taken(self) -> int:
        """Bytes that the kernel has taken so far; ascending."""

    def alive(self, now: float) -> None:
        """Note that the peer is alive, because it has read bytes."""

    def end(self, close: Close) -> None: ...


class Progress:
    """The progress of a peer at the last look, and when it last read as much as it must."""

    __slots__ = ("at", "goal", "pace", "seen", "taken")
    pace: float  # bytes a second, between the last two looks

    def __init__(self, taken: int, now: float, goal: int) -> None:
        self.at = now
        self.goal = goal
        self.seen = self.taken = taken

    def look(self, taken: int, now: float, seconds: float) -> bool:
        """Note the progress. Returns whether the peer has read anything since the last look."""
        self.pace = (taken - self.seen) / seconds
        self.seen = taken
        if taken - self.taken >= self.goal:
            self.taken, self.at = taken, now
        return self.pace > 0


class SlowConsumers:
    """The sessions with unsent bytes. Bounds: `max_session` bytes for one peer, `max_total` for all of them."""

    def __init__(
        self, metrics: Metrics, *, max_session: int, max_total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ledger = Ledger()
        self._metrics = metrics
        self._max_session = max_session
        self._max_total = max_total
        self._clock = clock
        self._waiting: dict[Waiting, Progress] = {}
        self._looked = clock()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """All unsent bytes: shared frames count once; the write buffers of the transports are included."""
        return self.ledger.bytes + sum(session.buffered() for session in self._waiting)

    def add(self, session: Waiting) -> None:
        if session not in self._waiting:
            goal = max(1, self._max_session // SHARE)
            self._waiting[session] = Progress(session.taken(), self._clock(), goal)

    def is_pressed(self) -> bool:
        """Whether much data waits for peers: a quarter of what all sessions may have."""
        return self.ledger.bytes > self._max_total // 4

    def discard(self, session: Waiting) -> None:
        if self._waiting.pop(session, None) is not None:
            session.alive(self._clock())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                self.look()
            except Exception as error:  # the task boundary: the next look may succeed
                self._metrics.internal("slow_consumers", error)

    def look(self) -> None:
        """End the sessions whose peers are too slow for their own bound, then the slowest ones if memory is short."""
        now = self._clock()
        seconds = max(now - self._looked, 0.001)
        self._looked = now
        self._metrics.loop_lag.observe(max(0.0, seconds - LOOK))  # no other timer of a bridge is as frequent
        paused = seconds > LOOK + LATE
        for session, progress in list(self._waiting.items()):
            if progress.look(session.taken(), now, seconds):
                session.alive(now)
            if paused:  # peers could not read while this process was paused
                progress.at = now
            elif self._is_too_slow(session, now - progress.at):
                session.end(SLOW_CONSUMER)
        if not paused:
            self._relieve()

    def _is_too_slow(self, session: Waiting, idle: float) -> bool:
        if session.unsent() > self._max_session:
            return idle >= PATIENCE
        return session.is_replaying and idle >= REPLAY_PATIENCE

    def _relieve(self) -> None:
        if self.bytes <= self._max_total:
            return
        left = {  # seconds until the peer has read everything
            session: session.unsent() / progress.pace if progress.pace > 0 else math.inf
            for session, progress in self._waiting.items()
        }
        worst = sorted(left, key=lambda session: (left[session], session.unsent()), reverse=True)
        for session in worst:
            if left[session] <= HEALTHY or self.bytes <= self._max_total:
                return
            session.end(SLOW_CONSUMER)
