"""A bounded list of the latest records. Writing costs one append for each batch; a search reads all of it."""

import asyncio
import secrets
import socket
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, NamedTuple

from wsbridge.core.events import Entry, Event, Position, Rejected
from wsbridge.telemetry.stations.records import (
    TAGS,
    Closed,
    Outcome,
    Received,
    Record,
    Refused,
    Relayed,
    Resumed,
    decode,
    encode,
    tag_of,
)

RATE = 1_000  # events a second. Up to this rate all are recorded, above it one delivery or batch in SAMPLE
SAMPLE = 16
PARTITIONS = 10_000  # in `deliveries`, at most. Further ones are left out
OVERHEAD = 41  # bytes of the object and the reference for each record, in addition to its content
WINDOW, LONGEST = 1.0, 2.0  # seconds in which events are counted; a longer rest means that the clock was set back
SLICE = 2_000  # records that are searched before other tasks run

_RECEIVED, _RELAYED = TAGS[Received], TAGS[Relayed]


class Connected(NamedTuple):
    """The facts about a session that its records have in common."""

    user: str
    session: str
    transport: str
    opened_at: float  # in seconds since 1970


class Stations:
    """Records of this replica, in the order of time. Over `max_bytes` the oldest are dropped. 0 records nothing."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.time) -> None:
        self.replica = f"{socket.gethostname()}-{secrets.token_hex(2)}"
        self.started_at = clock()
        self.bytes = 0
        self.has_forgotten = False  # whether records were dropped
        self.has_sampled = False  # whether deliveries or batches were left out
        self.deliveries: dict[str, float] = {}  # topic and partition → time of the last delivery
        self.denials, self.denied_at = 0, 0.0  # calls to routes of the sidecar that were refused, time of the last one
        self.drops = 0  # events that can never be accepted; time, reason and text of the last one
        self.last_drop: tuple[float, str, str] | None = None
        self._max_bytes = max_bytes
        self._clock = clock
        self._records: deque[bytes] = deque()
        self._received_until, self._received = 0.0, 0  # events within the second that ends at `…_until`
        self._relayed_until, self._relayed = 0.0, 0

    @property
    def is_on(self) -> bool:
        return self._max_bytes > 0

    def received(self, at: float, topic: str, events: Sequence[Event], outcomes: Sequence[Outcome] | None) -> None:
        """Record the events of a delivery. `outcomes` is None if all were stored."""
        if not 0.0 < self._received_until - at <= LONGEST:  # also if the clock was set back
            self._received_until, self._received = at + WINDOW, 0
        self._received += len(events)
        partition = f"{topic}/{events[-1].partition}"
        if partition in self.deliveries or len(self.deliveries) < PARTITIONS:
            self.deliveries[partition] = at
        if self._received > RATE and self._leaves_out(events[0].id):
            return
        if len(events) == 1:  # for one event, the call of each comprehension would cost more than its work
            (e,) = events
            self._add((_RECEIVED, at, topic, (e.id,), (e.users,), (e.partition,), (e.offset,), (e.produced,), outcomes))
            return
        self._add(
            (
                _RECEIVED,
                at,
                topic,
                [event.id for event in events],
                [event.users for event in events],
                [event.partition for event in events],
                [event.offset for event in events],
                [event.produced for event in events],
                outcomes,
            )
        )

    def dropped(self, topic: str, event: Rejected) -> None:
        """Count an event that can never be accepted, and record it if it has an id."""
        self.drops, self.last_drop = self.drops + 1, (self._clock(), event.reason, event.text)
        if event.event_id:
            self._add(Refused(self._clock(), topic, event.event_id, event.reason, event.text, place=event.place))

    def retried(self, topic: str, event_id: str, reason: str, text: str) -> None:
        """Record an event that was answered RETRY with its whole delivery, if its id can be read."""
        if event_id:
            self._add(Refused(self._clock(), topic, event_id, reason, text, "retried"))

    def denied(self) -> None:
        """Count a refused call to a route of the sidecar. Nothing else is kept, because its caller is not trusted."""
        self.denials, self.denied_at = self.denials + 1, self._clock()

    def relayed(self, entries: Sequence[Entry]) -> None:
        """Record a batch that was passed to the sessions of its users."""
        at = self._clock()
        if not 0.0 < self._relayed_until - at <= LONGEST:
            self._relayed_until, self._relayed = at + WINDOW, 0
        self._relayed += len(entries)
        if self._relayed > RATE and self._leaves_out(entries[0].event_id):
            return
        if len(entries) == 1:
            (e,) = entries
            self._add((_RELAYED, at, (e.event_id,), (e.user,), (e.epoch,), (e.offset,)))
            return
        self._add(
            (
                _RELAYED,
                at,
                [entry.event_id for entry in entries],
                [entry.user for entry in entries],
                [entry.epoch for entry in entries],
                [entry.offset for entry in entries],
            )
        )

    def resumed(
        self, session: Connected, *, is_start: bool, asked: str | None, position: Position, replayed: int,
        gap: str | None,
    ) -> None:  # fmt: skip
        """Record that a session has read the history."""
        self._add(Resumed(self._clock(), *session, is_start, asked, position, replayed, gap))

    def closed(
        self, session: Connected, *, code: int, reason: str, position: Position, handled: Position | None = None
    ) -> None:
        """Record that a session has ended."""
        self._add(Closed(self._clock(), *session, code, reason, position, handled))

    async def search(self, text: str, tags: Collection[int]) -> AsyncIterator[Record]:
        """Yield the records with one of the tags that contain the text anywhere, newest first.

        Other tasks run in between.
        """
        wanted = text.encode(errors="replace")
        for place, packed in enumerate(reversed(list(self._records)), 1):
            if place % SLICE == 0:
                await asyncio.sleep(0)
            if tag_of(packed) in tags and wanted in packed:
                yield decode(packed)

    def since(self) -> float:
        """The time from which on all events are recorded."""
        return decode(self._records[0]).at if self.has_forgotten and self._records else self.started_at

    def _leaves_out(self, event_id: str) -> bool:
        """Whether a delivery or batch above the rate is left out; decided by its first event."""
        is_left_out = zlib.crc32(event_id.encode(errors="replace")) % SAMPLE != 0
        self.has_sampled |= is_left_out
        return is_left_out

    def _add(self, record: Record | tuple[Any, ...]) -> None:
        """Add a record, or its fields behind its tag: a tuple costs less than an object."""
        if not self._max_bytes:
            return
        try:
            packed = encode(record)
        except (UnicodeEncodeError, TypeError, OverflowError):  # an invalid header must not stop the event
            return
        self._records.append(packed)
        self.bytes += len(packed) + OVERHEAD
        while self.bytes > self._max_bytes:
            self.bytes -= len(self._records.popleft()) + OVERHEAD
            self.has_forgotten = True
