"""Takes the reports of clients about what they have handled, and passes them on to the store of receipts."""

import asyncio
import time
from collections.abc import Collection
from typing import Literal

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.receipts import ReceiptStore
from wsbridge.core.events import Position
from wsbridge.core.messages import LONGEST, Sample
from wsbridge.core.receipts import Reached
from wsbridge.sessions.record import NEVER
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.telemetry.metrics import Metrics

INTERVAL = 1.0  # seconds between two calls of the store; all reports in between are one call
SLICE = 500  # sessions that are looked at together
MOST = 100_000  # users with news for the store; beyond that, those whose news came first are dropped


class Reports:
    """Without a `store`, reports are kept with their sessions only."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self.store: ReceiptStore | None = None
        self._news: dict[str, Reached] = {}  # by user, not in the store yet

    def take(self, session: Session, position: Position, sample: Sample | None) -> Literal["handled", "stale", "bad"]:
        """Note what a client has handled.

        A position of another epoch is `stale`: the client may not have got the gap yet. One after the last event that
        was sent is `bad`.
        """
        if position.epoch != session.epoch:
            return "stale"
        if position.offset > session.offset:
            return "bad"
        self._measure(session, sample)
        if _handled(session) < position.offset:
            session.handled = position
            self._note(session)
        return "handled"

    def left(self, session: Session) -> None:
        """Note how far a session has got that has ended."""
        self._note(session)

    def reached(self, users: Collection[str]) -> dict[str, list[Reached]]:
        """How far the connections of these users have got on this replica, as far as the store may not know."""
        found = {user: [_reached(session) for session in self._registry.of(user)] for user in users}
        for user in users:
            if user in self._news:
                found[user].append(self._news[user])
        return {user: reached for user, reached in found.items() if reached}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.flush()

    async def finish(self) -> None:
        """Pass on how far all connections have got, also those that are still open at the end of the process."""
        for batch in self._registry.slices(SLICE):
            for session in batch:
                self._note(session)
        await self.flush()

    async def flush(self) -> None:
        """Pass the news on. They are kept while the store is unavailable."""
        if self.store is None or not self._news:
            return
        news = self._news.copy()
        try:
            await self.store.note(news)
        except BrokerUnavailable:
            return
        except Exception as error:  # the task boundary: the next reports are passed on all the same
            self._metrics.internal("reports", error)
        for user, reached in news.items():
            if self._news.get(user) == reached:
                del self._news[user]

    def _note(self, session: Session) -> None:
        if self.store is None or not session.epoch:
            return
        self._news[session.user] = _reached(session).joined(self._news.pop(session.user, None))
        if len(self._news) > MOST:
            del self._news[next(iter(self._news))]

    def _measure(self, session: Session, sample: Sample | None) -> None:
        """Count a sample of a client. The way over the network is half of the last ping's round trip, if it is known.

        All times but the client's two durations are of this bridge's clocks.
        """
        round_trip = session.round_trip
        if sample is not None and round_trip is not None and round_trip < NEVER:
            way = round_trip / 2
            since = time.time() - sample.timestamp - sample.held - way
            self._metrics.handler.observe(way + sample.handlers)
            self._metrics.handled.observe(min(max(0.0, since), LONGEST))


def _handled(session: Session) -> int:
    """The offset in the epoch of the session up to which its client has handled all events, or 0."""
    handled = session.handled
    return handled.offset if handled is not None and handled.epoch == session.epoch else 0


def _reached(session: Session) -> Reached:
    return Reached(session.epoch, session.offset, _handled(session))
