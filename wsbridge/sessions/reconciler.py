"""Compares every connected session with the history: the loss of a last message leaves no gap in the positions.

Looks every few seconds, and at once after an interruption of the live stream. Does not depend on the transport.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.core.events import Position
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

INTERVAL = 3.0  # seconds
SLICE = 500  # users whose positions are compared before other tasks run
AGAIN = 0.25  # seconds until the next try, while the history is unavailable


class Watched(Protocol):
    """A broker whose messages may be lost."""

    async def wait_for_doubt(self, patience: float) -> frozenset[str]:
        """Wait until messages may have been lost, or for these seconds. Returns the users who may have missed some."""

    async def verify(self, known: Mapping[str, Position]) -> dict[str, Position | None]:
        """Check that these known positions still exist. Returns the present ones, None for a missing one."""

    async def sweep(self) -> None:
        """Unsubscribe users who are no longer connected."""


@dataclass(eq=False)
class Reconciler:
    broker: Watched
    registry: Registry
    metrics: Metrics
    # The positions at the last look, since newer ones may have been in flight.
    before: dict[str, Position | None] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        patience, missed = AGAIN, frozenset[str]()
        while True:
            missed |= await self.broker.wait_for_doubt(patience)
            try:
                await self.look(missed)
                await asyncio.sleep(0)  # the sweep looks at all users as well
                await self.broker.sweep()
                patience, missed = INTERVAL, frozenset()
            except BrokerUnavailable:
                patience = AGAIN
            except Exception as error:  # the task boundary: the next look may succeed
                patience = INTERVAL
                self.metrics.internal("watch", error)

    async def look(self, missed: frozenset[str]) -> None:
        """Let sessions catch up: at once if they may have missed an entry, else if they were behind before too.

        Raises `BrokerUnavailable` if the histories cannot be read now.
        """
        known: dict[str, Position] = {}
        async for user in _paced(self.registry.users()):
            if (session := self._furthest(user)) is not None:
                known[user] = session.position
        found = await self.broker.verify(known)
        async for user in _paced(found):
            position = found[user]
            due = position if user in missed else self.before.get(user)
            for session in self.registry.of(user):
                if session.state is State.LIVE and _has_missed(session, position, due):
                    session.fall_behind()
        self.before = found

    def _furthest(self, user: str) -> Session | None:
        live = [session for session in self.registry.of(user) if session.state is State.LIVE]
        return max(live, key=lambda session: session.offset, default=None)


async def _paced(users: Iterable[str]) -> AsyncIterator[str]:
    """Yield the users, and let other tasks run in between."""
    for place, user in enumerate(users):
        if place % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        yield user


def _has_missed(session: Session, present: Position | None, due: Position | None) -> bool:
    if present is None or session.epoch != present.epoch:
        return True
    return due is not None and session.epoch == due.epoch and session.offset < due.offset
