"""One loop over all sessions for pings, silence and expired tokens. Sessions have no timers for these.

If this process was paused (a frozen VM, a blocked loop), its peers were not silent: after a late look, all of them get
the full time again. Tokens that expired meanwhile still end their sessions.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass

from wsbridge.core.close_codes import TOKEN_EXPIRED
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

SLICE = 500  # sessions that are handled before other tasks run
PINGS = 64  # sent before other tasks run, because as many answers arrive at once
ENDING = 8  # an end counts as this many pings: freeing the kernel's buffer of a stalled peer takes a millisecond
SWEEP = 1.0  # seconds between two looks at a session, at most; a session outlives its token by less than that


@dataclass(eq=False)
class Heartbeat:
    """`interval` and `timeout` are in seconds, `clock` is the loop's."""

    registry: Registry
    metrics: Metrics
    _: KW_ONLY
    interval: float
    timeout: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._sweep = min(SWEEP, self.interval / 4, self.timeout / 4)
        self._looked = self.clock()
        self._resumed = float("-inf")  # when this process continued after its last pause

    async def run(self) -> None:
        while True:
            self._notice_pause(self.clock())
            await self._look_at_all()
            await asyncio.sleep(self._sweep)

    async def _look_at_all(self) -> None:
        """Separate from `run`, whose local variables would keep ended sessions in memory."""
        for batch in self.registry.slices(SLICE):
            await self._look(batch)
            await asyncio.sleep(0)

    async def _look(self, batch: Iterable[Session]) -> None:
        """Do what is due. Much may be due at once: all sessions behind a broken link become silent together."""
        now, done = self.clock(), 0
        self._notice_pause(now)
        for session in batch:
            close, pinged = session.close, session.pinged_at
            try:
                self.check(session, now)
            except Exception as error:  # an error with one session must not affect the others
                self.metrics.internal("heartbeat", error, session=session.id)
                session.drop("internal")
            done += ENDING if session.close is not close else session.pinged_at != pinged
            if done >= PINGS:
                await asyncio.sleep(0)
                now, done = self.clock(), 0
                self._notice_pause(now)

    def _notice_pause(self, now: float) -> None:
        """A pause is longer than half of the time-out. After a shorter one, a peer still has the other half."""
        if now - self._looked > self._sweep + self.timeout / 2:
            self._resumed = now
        self._looked = now

    def check(self, session: Session, now: float) -> None:
        """Do what is due for one session at that time."""
        if session.state is State.CLOSED:
            return
        if now >= session.expires_at:
            session.end(TOKEN_EXPIRED, explain=True)
        elif self._is_silent(session, now):
            session.drop("ping_timeout")
        elif (
            now - session.pinged_at
            >= min(self.interval, session.connection.ping_interval or self.interval) - self._sweep
        ):
            session.pinged_at = now
            session.ping()

    def _is_silent(self, session: Session, now: float) -> bool:
        """A replay has its own deadline."""
        listened = session.state is State.LIVE and session.connection.answers
        return listened and now - max(session.heard_at, self._resumed) > self.interval + self.timeout
