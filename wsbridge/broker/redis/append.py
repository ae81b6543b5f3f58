"""Appends events to the histories on the server. All events of one user in a delivery are one atomic step."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wsbridge.broker.base import DUPLICATE, STORED, BrokerUnavailable, Outcome, Reservation, Sink, retried
from wsbridge.broker.redis.append_call import Replies, grouped
from wsbridge.broker.redis.bodies import Bodies, is_large
from wsbridge.broker.redis.codec import dedupe_key, encode_body
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.core.events import Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.timestamps import timestamp
from wsbridge.telemetry.metrics import Metrics

SLICE_BYTES = 524_288  # of one delivery, sent to the server at a time; other deliveries are served in between
ENTRY_BYTES = 250  # of a command for one entry, without its data
_NEW = ord("1")


class Limits(NamedTuple):
    """Bounds of each history. Over `size` entries or `max_bytes` of weight the oldest are dropped. Times are in ms."""

    size: int
    ttl: int
    dedupe_ttl: int
    position_ttl: int
    max_bytes: int


@dataclass(eq=False, slots=True, kw_only=True)
class Appender:
    """Callbacks:

    - `wait_until_trusted` waits until the server is known to have lost nothing. It raises `BrokerUnavailable` if that
      takes too long.
    - `slot_of` returns the slot of a key. Keys of one slot may be in one command.
    - `on_confirmed` is called with the last user and position that each call has confirmed.
    - `on_failed` is called for each user whose events were not stored.
    - `now` returns the time in ms, or "" to use the server's clock.
    """

    pipeline: Pipeline
    bodies: Bodies
    sink: Sink
    prefix: str
    limits: Limits
    metrics: Metrics
    now: Callable[[], str | int]
    slot_of: Callable[[str], int]
    wait_until_trusted: Callable[[], Awaitable[None]]
    on_confirmed: Callable[[str, Position], None]
    on_failed: Callable[[BrokerUnavailable], None]
    _in_flight: int = 0  # entries that are sent and not confirmed
    _in_flight_bytes: int = 0  # of their data

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool]) -> list[Outcome]:
        """Append slice by slice. The room that was reserved for duplicates is free for the next slice."""
        reservation = Reservation(self.sink, self._in_flight, self._in_flight_bytes)
        outcomes: list[Outcome] = []
        while len(outcomes) < len(events):
            # Stored events stay. Stop only after a new one: else deliveries that are always abandoned make no progress.
            if STORED in outcomes and not is_wanted():
                return [*outcomes, *[retried(Retry.ABANDONED)] * (len(events) - len(outcomes))]
            part = _next_slice(reservation, events[len(outcomes) :] if outcomes else events)
            if part:
                outcomes += await self._append_slice(part, reservation)
            else:
                outcomes.append(reservation.reserve(events[len(outcomes)]) or DUPLICATE)
        return outcomes

    async def _append_slice(self, events: Sequence[Event], reservation: Reservation) -> list[Outcome]:
        """Append events whose room is reserved, and release the room of duplicates."""
        outcomes = [DUPLICATE] * len(events)
        places: dict[str, list[int]] = {}  # user → its events, in order
        for place, event in enumerate(events):
            for user in event.users:
                places.setdefault(user, []).append(place)
        entries, size = sum(map(len, places.values())), sum([len(event.data) for event in events])
        self._in_flight += entries
        self._in_flight_bytes += size
        try:
            answers = await self._call(events, places)
        finally:
            self._in_flight -= entries
            self._in_flight_bytes -= size
        failed, stored = self._evaluate(outcomes, places, answers)
        if failed:
            self._retry_behind(failed, events, outcomes)
            reservation.block(failed)
        needed = sum([len(e.data) for e, outcome in zip(events, outcomes, strict=True) if outcome is not DUPLICATE])
        reservation.release(entries - stored, size - needed)
        return outcomes

    @staticmethod
    def _retry_behind(failed: dict[str, Outcome], events: Sequence[Event], outcomes: list[Outcome]) -> None:
        """Retry an event for all of its users if it failed for one, and retry later events of these users."""
        for place, event in enumerate(events):
            own = next((failed[user] for user in event.users if user in failed), None)
            if own is not None:
                outcomes[place] = own
                for user in event.users:
                    failed.setdefault(user, retried(Retry.FOLLOWS_RETRY))

    async def _call(self, events: Sequence[Event], places: Mapping[str, list[int]]) -> list[Replies]:
        """Return the replies to all calls."""
        try:
            await self.wait_until_trusted()
            stamp, now = timestamp(), self.now()
            references = [await self.bodies.store(event) if is_large(event) else None for event in events]
        except BrokerUnavailable as why:
            return [Replies(list(places), why)]
        bodies = [(dedupe_key(e), encode_body(e, stamp, r)) for e, r in zip(events, references, strict=True)]
        calls = grouped(places, bodies, self.prefix, self.slot_of)
        options = (now, seed(), *self.limits)
        began = time.monotonic()
        try:
            found = await self.pipeline.do([call.command(options) for call in calls])
        finally:
            self.metrics.redis_round_trip.observe(time.monotonic() - began)
        return [Replies(call.users, reply) for call, reply in zip(calls, found, strict=True)]

    def _evaluate(
        self, outcomes: list[Outcome], places: Mapping[str, list[int]], answers: Sequence[Replies]
    ) -> tuple[dict[str, Outcome], int]:
        """Set the outcomes of stored events. Returns the users whose call failed, and the number of new entries."""
        failed: dict[str, Outcome] = {}
        stored = 0
        for answer in answers:
            last: tuple[str, bytes] | None = None
            for user, reply in answer.by_user():
                if isinstance(reply, BrokerUnavailable):
                    failed[user] = retried(Retry.REDIS_UNAVAILABLE, str(reply))
                    self.on_failed(reply)
                    continue
                position, _, news = reply.rpartition(b" ")
                last = user, position
                stored += news.count(b"1")
                for place, is_new in zip(places[user], news, strict=True):
                    if is_new == _NEW:
                        outcomes[place] = STORED
            if last is not None:
                epoch, offset = last[1].decode().split(" ")
                self.on_confirmed(last[0], Position(epoch, int(offset)))
        return failed, stored


def _next_slice(reservation: Reservation, events: Sequence[Event]) -> list[Event]:
    """Reserve room for the first events, as many as the queue and one slice hold. May return none."""
    part, size = list[Event](), 0
    for event in events:
        size += len(event.data) * (1 if is_large(event) else len(event.users)) + ENTRY_BYTES * len(event.users)
        if (part and size > SLICE_BYTES) or not reservation.fits(event):
            break
        reservation.take(len(event.users), len(event.data))
        part.append(event)
    return part


def seed() -> str:
    return secrets.token_hex(8)
