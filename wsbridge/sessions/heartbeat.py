"""One loop over all sessions for pings, silence and expired tokens. Sessions have no timers for these.

If this process was paused (a frozen VM, a blocked loop), its peers were not silent: after a late look, all of them get
the full time again. Tokens that expired meanwhile still end their sessions.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from wsbridge.core.close_codes import TOKEN_EXPIRED
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

SLICE = 500  # sessions that are handled before other tasks run
PINGS = 64  # sent before other tasks run, because as many answers arrive at once
ENDING = 8  # an end counts as this many pings: freeing the kernel's buffer of a stalled peer takes a millisecond
SWEEP = 1.0  # seconds between two looks at a session, at most; a session outlives its token by less than that


class Heartbeat:
    """`interval` and `timeout` are in seconds, `clock` is the loop's."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        interval: float,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._sweep = min(SWEEP, interval / 4, timeout / 4)
        self._looked = clock()
        self._resumed = float("-inf")  # when this process continued after its last pause

    async def run(self) -> None:
        """Look at all sessions again and again, for as long as the bridge runs."""
        while True:
            self._notice_pause(self._clock())
            await self._look_at_all()
            await asyncio.sleep(self._sweep)

    async def _look_at_all(self) -> None:
        """Separate from `run`, whose local variables would keep ended sessions in memory."""
        for batch in self._registry.slices(SLICE):
            await self._look(batch)
            await asyncio.sleep(0)

    async def _look(self, batch: Iterable[Session]) -> None:
        """Do what is due. Much may be due at once: all sessions behind a broken link become silent together."""
        now, done = self._clock(), 0
        self._notice_pause(now)
        for session in batch:
            close, pinged = session.close, session.pinged_at
            try:
                self.check(session, now)
            except Exception as error:  # an error with one session must not affect the others
                self._metrics.internal("heartbeat", error, session=session.id)
                session.drop("internal")
            done += ENDING if session.close is not close else session.pinged_at != pinged
            if done >= PINGS:
                await asyncio.sleep(0)
                now, done = self._clock(), 0
                self._notice_pause(now)

    def _notice_pause(self, now: float) -> None:
        """A pause is longer than half of the time-out. After a shorter one, a peer still has the other half."""
        if now - self._looked > self._sweep + self._timeout / 2:
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
            >= min(self._interval, session.connection.ping_interval or self._interval) - self._sweep
        ):
            session.pinged_at = now
            session.ping()

    def _is_silent(self, session: Session, now: float) -> bool:
        """A replay has its own deadline."""
        listened = session.state is State.LIVE and session.connection.answers
        return listened and now - max(session.heard_at, self._resumed) > self._interval + self._timeout
