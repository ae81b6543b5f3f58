"""One clock over all sessions: pings, silence, the end of tokens. Keeps no timer for any of them.

A pause of this process (a frozen VM, a blocked loop) is not a silence of its peers: a look that is late gives all of
them a fresh window. A token that has ended meanwhile has ended.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from wsbridge.core.close_codes import TOKEN_EXPIRED
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

SLICE = 500  # sessions looked at before others may run
PINGS = 64  # sent before others may run: as many answers come back at once
ENDING = 8  # pings that an end counts as: what the kernel holds for a stalled peer takes a millisecond to free
SWEEP = 1.0  # seconds between two looks at a session, at most: a token ends within that


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
        self._resumed = float("-inf")  # when this process went on after its last pause

    async def run(self) -> None:
        """Walk over the sessions for as long as the bridge lives."""
        while True:
            self._notice_pause(self._clock())
            await self._look_at_all()
            await asyncio.sleep(self._sweep)

    async def _look_at_all(self) -> None:
        """Separate from `run`, where local variables would keep the last sessions in memory after their end."""
        for batch in self._registry.slices(SLICE):
            await self._look(batch)
            await asyncio.sleep(0)

    async def _look(self, batch: Iterable[Session]) -> None:
        """Do what is due. Much may be due at once: all those behind a link that broke are silent since one moment."""
        now, done = self._clock(), 0
        self._notice_pause(now)
        for session in batch:
            close, pinged = session.close, session.pinged_at
            self._try(session, now)
            done += ENDING if session.close is not close else session.pinged_at != pinged
            if done >= PINGS:
                await asyncio.sleep(0)
                now, done = self._clock(), 0
                self._notice_pause(now)

    def _notice_pause(self, now: float) -> None:
        """Half of the time-out is always left to a peer, which is why a shorter pause is none."""
        if now - self._looked > self._sweep + self._timeout / 2:
            self._resumed = now
        self._looked = now

    def _try(self, session: Session, now: float) -> None:
        try:
            self.check(session, now)
        except Exception as error:  # one session must not stop the clock of the others
            self._metrics.internal("heartbeat", error, session=session.id)
            session.drop("internal")

    def check(self, session: Session, now: float) -> None:
        """Do for one session what is due at that time."""
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
        """A peer that takes its replay has a deadline of its own."""
        listened = session.state is State.LIVE and session.connection.answers
        return listened and now - max(session.heard_at, self._resumed) > self._interval + self._timeout
