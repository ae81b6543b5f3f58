"""Compares every connected session with the history: the loss of a last message leaves no gap in the positions.

Looks every few seconds, and at once after an interruption of the live stream. Does not depend on the transport.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.core.events import Position
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

INTERVAL = 3.0  # seconds
SLICE = 500  # sessions whose positions are compared before other tasks run
AGAIN = 0.25  # seconds until the next try, while the history is unavailable
_LIVE, _REPLAYING = State.LIVE, State.REPLAYING  # looking up a member of an enum takes as long as a call


class Watched(Protocol):
    """A broker whose messages may be lost."""

    async def wait_for_doubt(self, patience: float) -> frozenset[str]:
        """Wait until messages may have been lost, or for these seconds. Returns the users who may have missed some."""

    async def verify(self, known: Collection[tuple[str, Position]]) -> dict[str, Position | None]:
        """Check that these users' positions still exist. Returns the present ones by user, None for a missing one."""

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
                self.metrics.internal("reconcile", error)

    async def look(self, missed: frozenset[str]) -> None:
        """Let sessions catch up: at once if they may have missed an entry, else if they were behind before too.

        Raises `BrokerUnavailable` if the histories cannot be read now.
        """
        found = await self.broker.verify(await self._known())
        await self._compare(found, missed)
        self.before = found

    async def _known(self) -> list[tuple[str, Position]]:
        """The position of each user's furthest session, in each epoch that a session of the user is in.

        Sessions that replay are part of it: after a loss they stay in the lost epoch until they are live, and must not
        seem to be another loss then.
        """
        known: dict[str, Position] = {}
        others: dict[tuple[str, str], Position] = {}  # of a user's further epochs: few, and only after a loss
        for batch in self.registry.slices(SLICE):
            for session in batch:
                if session.state is _LIVE or session.state is _REPLAYING:
                    user, epoch = session.user, session.epoch
                    position = known.get(user)
                    if position is None or (position.epoch == epoch and position.offset < session.offset):
                        known[user] = session.position
                    elif position.epoch != epoch:
                        other = others.get((user, epoch))
                        if other is None or other.offset < session.offset:
                            others[user, epoch] = session.position
            await asyncio.sleep(0)
        return [*known.items(), *((user, position) for (user, _), position in others.items())]

    async def _compare(self, found: Mapping[str, Position | None], missed: frozenset[str]) -> None:
        for batch in self.registry.slices(SLICE):
            for session in batch:
                user = session.user
                if session.state is _LIVE and user in found:
                    present = found[user]
                    if _has_missed(session, present, present if user in missed else self.before.get(user)):
                        session.fall_behind()
            await asyncio.sleep(0)


def _has_missed(session: Session, present: Position | None, due: Position | None) -> bool:
    if present is None or session.epoch != present.epoch:
        return True
    return due is not None and session.epoch == due.epoch and session.offset < due.offset
