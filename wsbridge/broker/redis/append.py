"""Events on their way into the histories on the server: one call for each user, atomic there (`history.lua`)."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wsbridge.broker.base import DUPLICATE, STORED, BrokerUnavailable, Outcome, Reservation, Sink, Status, retried
from wsbridge.broker.redis.bodies import Bodies, is_large
from wsbridge.broker.redis.codec import body, keys_of, remembered
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.core.events import Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.timestamps import timestamp
from wsbridge.telemetry.metrics import Metrics

SLICE = 524_288  # bytes of one delivery that go to the server at a time
ENTRY_BYTES = 250  # what an entry costs on its way beside its data


class Limits(NamedTuple):
    """Of each user's history. Beyond `size` entries and `max_bytes` of weight the oldest go. Times are in ms."""

    size: int
    max_bytes: int
    ttl: int
    dedupe_ttl: int
    position_ttl: int


class Appender:
    """`trusted` waits until the server may be asked, and raises `BrokerUnavailable` if it takes too long.

    `confirmed` is called with the positions that the server has confirmed, `failed` for each user of whom it has not
    stored the events. `now` is in ms, or empty where the server's clock counts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        bodies: Bodies,
        sink: Sink,
        *,
        prefix: str,
        limits: Limits,
        now: Callable[[], str | int],
        metrics: Metrics,
        trusted: Callable[[], Awaitable[None]],
        confirmed: Callable[[Mapping[str, Position]], None],
        failed: Callable[[BrokerUnavailable], None],
    ) -> None:
        self._pipeline = pipeline
        self._bodies = bodies
        self._sink = sink
        self._prefix = prefix
        self._limits = limits
        self._now = now
        self._metrics = metrics
        self._trusted = trusted
        self._confirmed = confirmed
        self._failed = failed
        self._waiting = self._waiting_bytes = 0  # entries on their way to the server, and their data

    async def close(self) -> None:
        await self._pipeline.close()

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """A slice after the other: others come in between, and what follows duplicates gets their room."""
        reservation = Reservation(self._sink, self._waiting, self._waiting_bytes)
        outcomes: list[Outcome] = []
        while len(outcomes) < len(events):
            part = _slice(reservation, events[len(outcomes) :] if outcomes else events)
            if part:
                outcomes += await self._take(part, reservation)
            else:
                outcomes.append(reservation.reserve(events[len(outcomes)]) or DUPLICATE)
        return outcomes

    async def _take(self, events: Sequence[Event], reservation: Reservation) -> list[Outcome]:
        """Append events for which there is room; what that has found to be a duplicate does not take it."""
        outcomes = [DUPLICATE] * len(events)
        places: dict[str, list[int]] = {}  # user → its events, in order
        for place, event in enumerate(events):
            for user in event.users:
                places.setdefault(user, []).append(place)
        entries, size = sum(map(len, places.values())), sum([len(event.data) for event in events])
        self._waiting += entries
        self._waiting_bytes += size
        try:
            replies = await self._append(events, places)
        finally:
            self._waiting -= entries
            self._waiting_bytes -= size
        failed, stored = self._note(outcomes, places, replies)
        self._retry_behind(failed, events, outcomes)
        reservation.block(failed)
        fresh = sum(
            [len(event.data) for event, became in zip(events, outcomes, strict=True) if became is not DUPLICATE]
        )
        reservation.give_back(entries - stored, size - fresh)
        return outcomes

    @staticmethod
    def _retry_behind(failed: dict[str, Outcome], events: Sequence[Event], outcomes: list[Outcome]) -> None:
        """What failed for one of its users comes again for all of them, and so do later events of any of them."""
        for place, event in enumerate(events):
            own = next((failed[user] for user in event.users if user in failed), None)
            if own is not None and outcomes[place].status is not Status.RETRIED:
                outcomes[place] = own
            if own is not None:
                for user in event.users:
                    failed.setdefault(user, retried(Retry.FOLLOWS_RETRY))

    async def _append(self, events: Sequence[Event], places: Mapping[str, list[int]]) -> Sequence[Any]:
        try:
            await self._trusted()
            stamp, now = timestamp(), self._now()
            references = [await self._bodies.store(event) if is_large(event) else None for event in events]
        except BrokerUnavailable as why:
            return [why] * len(places)
        unique, limits = seed(), self._limits
        packed = [(remembered(e), body(e, stamp, reference)) for e, reference in zip(events, references, strict=True)]
        return await self._timed(
            [
                call(
                    "append", keys_of(self._prefix, user), now, unique, limits.size, limits.ttl, limits.dedupe_ttl,
                    limits.position_ttl, limits.max_bytes, *(part for place in own for part in packed[place]),
                )
                for user, own in places.items()
            ]
        )  # fmt: skip

    async def _timed(self, commands: Sequence[Command]) -> Sequence[Any]:
        began = time.monotonic()
        try:
            return await self._pipeline.do(commands)
        finally:
            self._metrics.redis_answered(time.monotonic() - began)

    def _note(
        self, outcomes: list[Outcome], places: Mapping[str, list[int]], replies: Sequence[Any]
    ) -> tuple[dict[str, Outcome], int]:
        """The users of whom nothing is stored, and why; and how many entries are new."""
        failed: dict[str, Outcome] = {}
        stored = 0
        confirmed: dict[str, Position] = {}
        for (user, own), reply in zip(places.items(), replies, strict=True):
            if isinstance(reply, BrokerUnavailable):
                failed[user] = retried(Retry.REDIS_UNAVAILABLE, str(reply))
                self._failed(reply)
                continue
            epoch, offset, news = reply.decode().split(" ")
            confirmed[user] = Position(epoch, int(offset))
            stored += news.count("1")
            for place, is_new in zip(own, news, strict=True):
                if is_new == "1":
                    outcomes[place] = STORED
        self._confirmed(confirmed)
        return failed, stored


def _slice(reservation: Reservation, events: Sequence[Event]) -> list[Event]:
    """The first of them that fit the queue, and one call of the server: perhaps none."""
    part, size = list[Event](), 0
    for event in events:
        size += len(event.data) * (1 if is_large(event) else len(event.users)) + ENTRY_BYTES * len(event.users)
        if (part and size > SLICE) or not reservation.fits(event):
            break
        reservation.reserve(event)
        part.append(event)
    return part


def seed() -> str:
    return secrets.token_hex(8)
