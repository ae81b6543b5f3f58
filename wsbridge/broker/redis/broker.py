"""The seam on Redis or Valkey: one history for all replicas. Knows no session; `history.lua` has the atomic steps.

What is appended, here or elsewhere, comes back through the live stream: nothing reaches a socket any other way.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from wsbridge.broker.base import DUPLICATE, STORED, Away, Gate, Outcome, Sink, Status, retried
from wsbridge.broker.redis.arrivals import Arrivals
from wsbridge.broker.redis.bodies import Bodies, is_large
from wsbridge.broker.redis.codec import DISCONNECT, Referenced, body, entries, keys_of, position, remembered
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.loss_detector import Evidence
from wsbridge.broker.redis.pipeline import Lane
from wsbridge.broker.redis.subscriber import Stream
from wsbridge.broker.redis.topology import TIMEOUT, Declined, Server
from wsbridge.core.events import Entry, Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.recovery import Gap, Resume, decide_resume
from wsbridge.core.timestamps import seconds_of, timestamp
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

DAY = 86_400.0  # seconds
POSITION_TTL = 2 * DAY  # seconds that a position outlives its events
TOUCH = DAY / 4  # seconds after which the position of a connected user is made to last again
SLICE = 524_288  # bytes of one delivery that go to the server at a time
ENTRY_BYTES = 250  # what an entry costs on its way beside its data
PORTION = 262_144  # bytes of a history that are read at a time
LOADED = 1_048_576  # the same with data that is elsewhere
GRACE = 15.0  # seconds that a user is followed after the last session has ended


class _Followed:
    __slots__ = ("touched", "user", "wanted")

    def __init__(self, user: str, now: float) -> None:
        self.user = user
        self.wanted = now  # when somebody was connected last
        self.touched = now  # when its position was made to last


class RedisBroker:
    """Durations in seconds. `clock` is in seconds, too: without one, time is what the server says."""

    def __init__(
        self,
        server: Server,
        sink: Sink,
        *,
        prefix: str,
        size: int,
        ttl: float,
        dedupe_ttl: float,
        clock: Callable[[], float] | None = None,
        metrics: Metrics | None = None,
        is_pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._server = server
        self._sink = sink
        self._prefix = prefix
        self._size = size
        self._ttl, self._dedupe_ttl, self._position_ttl = map(_ms, (ttl, dedupe_ttl, ttl + POSITION_TTL))
        self._clock = clock
        self._stream = Stream(server, self)
        self._evidence = Evidence(server, prefix)
        self._appends, self._reads = Lane(server), Lane(server)
        self._bodies = Bodies(server, prefix, self._ttl)
        self._arrivals = Arrivals(
            sink, complete=self._bodies.completed, is_pressed=is_pressed, missed=self.rejoined, failed=self.failed
        )
        self._followed: dict[str, _Followed] = {}  # by channel
        self._waiting = self._waiting_bytes = 0  # entries on their way to the server, and their data
        self._trusted = asyncio.Event()  # nothing is asked of a server before it was seen to have lost nothing
        self._doubt = asyncio.Event()
        self._rejoined: set[str] = set()  # users of whom something may have been missed
        self._since: float | None = None  # when the trouble began
        self.trouble: str | None = "not connected yet"

    @property
    def subscriptions(self) -> int:
        return len(self._stream)

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """A slice after the other: others come in between, and what follows duplicates gets their room."""
        gate = Gate(self._sink, self._waiting, self._waiting_bytes)
        outcomes: list[Outcome] = []
        while len(outcomes) < len(events):
            part = _slice(gate, events[len(outcomes) :] if outcomes else events)
            if part:
                outcomes += await self._take(part, gate)
            else:
                outcomes.append(gate.refusal(events[len(outcomes)]) or DUPLICATE)
        return outcomes

    async def _take(self, events: Sequence[Event], gate: Gate) -> list[Outcome]:
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
        gate.block(failed)
        fresh = sum(
            [len(event.data) for event, became in zip(events, outcomes, strict=True) if became is not DUPLICATE]
        )
        gate.give_back(entries - stored, size - fresh)
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

    async def follow(self, user: str) -> None:
        channel, now = self._channel(user), time.monotonic()
        followed = self._followed.setdefault(channel, _Followed(user, now))
        followed.wanted = now
        await self._stream.join(channel)

    async def position(self, user: str) -> Position | None:
        key = keys_of(self._prefix, user).position
        (reply,) = await self._reads.do([Command(key, ("GET", key))])
        if isinstance(reply, Away):
            raise reply
        return position(reply)

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        if not self._trusted.is_set():
            raise Away(self.trouble or "not verified yet")
        asked = Position.parse(after) if after else None
        keys = keys_of(self._prefix, user)
        known = (asked.epoch, asked.offset) if asked else ("", 0)
        (reply,) = await self._reads.do(
            [call("resume", keys[:2], self._now(), _seed(), self._size, self._ttl, self._position_ttl, *known, PORTION)]
        )
        if isinstance(reply, Away):
            raise reply
        epoch, offset, trimmed, kept, packed = reply
        top = Position(epoch.decode(), offset)
        resume = decide_resume(after, top, kept, trimmed)
        if not (resume.recovered and packed):
            return resume
        return await self._completed(resume, top, entries(user, b"".join(packed), _receipts()), wait=wait)

    async def _completed(
        self, resume: Resume, top: Position, found: Iterable[Entry | Referenced], *, wait: bool
    ) -> Resume:
        """With a portion of the entries: all data up to a bound, or that of one entry that is larger."""
        portion, size = list[Entry | Referenced](), 0
        for entry in found:
            if isinstance(entry, Referenced):
                if not wait and self._bodies.known(entry.reference) is None:
                    break
                size += entry.reference.size
            else:
                size += len(entry.data)
            if portion and size > LOADED:
                break
            portion.append(entry)
        complete = await self._bodies.completed(portion)
        if complete is None:  # the server has lost some: what is behind it is no use without it
            return Resume(top, (), False, Gap(resume.position, "expired"))  # noqa: FBT003 - `recovered`
        rest = top.offset - resume.position.offset - len(portion)
        return resume._replace(entries=tuple(complete), rest=rest)

    async def disconnect(self, user: str) -> None:
        (reply,) = await self._reads.do([call("tell", [self._channel(user)], DISCONNECT)])
        if isinstance(reply, Away):
            raise reply

    # What the stream tells.

    async def hear(self, channel: str, payload: bytes) -> None:
        followed = self._followed[channel]
        if payload == DISCONNECT:
            self._sink.disconnect(followed.user)
            return
        await self._arrivals.take(channel, list(entries(followed.user, payload, _receipts())))

    def interrupted(self, why: str) -> None:
        self._distrust(why)
        self._doubt.set()

    def failed(self, doing: str, error: Exception) -> None:
        self._metrics.internal(doing, error)

    def rejoined(self, channel: str) -> None:
        followed = self._followed.get(channel)
        if followed is not None:
            self._rejoined.add(followed.user)
            self._doubt.set()

    # Its life.

    async def run(self) -> None:
        """Listen for as long as the bridge lives."""
        try:
            with contextlib.suppress(Away):
                await self._server.refresh()
            self._doubt.set()
            await self._stream.run()
        finally:
            for part in (self._arrivals, self._bodies, self._appends, self._reads, self._evidence):
                await part.close()
            await self._server.close()

    async def doubtful(self, patience: float) -> frozenset[str]:
        """Wait until something is in doubt, or for so many seconds; users of whom something may have been missed."""
        try:
            async with asyncio.timeout(patience):
                await self._doubt.wait()
        except TimeoutError:
            pass
        self._doubt.clear()
        rejoined, self._rejoined = frozenset(self._rejoined), set()
        return rejoined

    async def verify(self, known: Mapping[str, Position]) -> dict[str, Position | None]:
        """The positions of these users, who are known to have been that far; None where there is none any more.

        Raises:
            Away: the server cannot be asked now.

        """
        try:
            found, lost = await self._evidence.check(known)
        except Away as away:
            self._distrust(str(away))
            raise
        self._trusted.set()
        if self.trouble and self._stream.is_complete():
            if self._since is None:
                log.info("redis.connected")
            else:
                log.info("redis.resynced", seconds=round(time.monotonic() - self._since, 3), lost=lost)
            self._since = self.trouble = None
        return found

    async def sweep(self) -> None:
        """Leave those whom nobody here follows any more; make the positions of the others last.

        Who is left is decided and told to the stream without a pause: in one, somebody could follow them again.
        """
        now, left, due = time.monotonic(), [], []
        for channel, followed in self._followed.items():
            if self._sink.wants(followed.user):
                followed.wanted = now
                if now - followed.touched > TOUCH:
                    due.append(followed)
            elif now - followed.wanted > GRACE:
                left.append(channel)
        await self._stream.leave(left)
        for channel in left:
            if channel not in self._stream.channels:
                self._followed.pop(channel, None)
        for followed in due:
            await self.resume(followed.user, None)
            followed.touched = now

    def _distrust(self, why: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.warning("redis.unavailable", why=why)
        self.trouble = why
        self._trusted.clear()

    async def _append(self, events: Sequence[Event], places: Mapping[str, list[int]]) -> Sequence[Any]:
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._trusted.wait()
        except TimeoutError:
            return [Away(self.trouble or "not verified yet")] * len(places)
        stamp, now, seed = timestamp(), self._now(), _seed()
        try:
            references = [await self._bodies.store(event) if is_large(event) else None for event in events]
        except Away as why:
            return [why] * len(places)
        packed = [(remembered(e), body(e, stamp, reference)) for e, reference in zip(events, references, strict=True)]
        return await self._timed(
            self._appends,
            [
                call(
                    "append", keys_of(self._prefix, user), now, seed, self._size, self._ttl, self._dedupe_ttl,
                    self._position_ttl, *(part for place in own for part in packed[place]),
                )
                for user, own in places.items()
            ]
        )  # fmt: skip

    async def _timed(self, lane: Lane, commands: Sequence[Command]) -> Sequence[Any]:
        began = time.monotonic()
        try:
            return await lane.do(commands)
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
            if isinstance(reply, Away):
                failed[user] = retried(Retry.REDIS_UNAVAILABLE, str(reply))
                self._doubt.set()
                if not isinstance(reply, Declined):  # that is said by a server that has lost nothing
                    self.interrupted(str(reply))
                    self._stream.look_around()
                continue
            epoch, offset, news = reply.decode().split(" ")
            confirmed[user] = Position(epoch, int(offset))
            stored += news.count("1")
            for place, is_new in zip(own, news, strict=True):
                if is_new == "1":
                    outcomes[place] = STORED
        self._evidence.confirmed(confirmed)
        return failed, stored

    def _channel(self, user: str) -> str:
        return keys_of(self._prefix, user).position

    def _now(self) -> str | int:
        return _ms(self._clock()) if self._clock else ""


def _receipts() -> Callable[[str], float]:
    """From an event's timestamp, which is its receipt at some replica, to that time on the loop's clock here."""
    now, wall = time.monotonic(), time.time()

    def receipt(stamp: str) -> float:
        return now - max(0.0, wall - seconds_of(stamp))

    return receipt


def _slice(gate: Gate, events: Sequence[Event]) -> list[Event]:
    """The first of them that fit the queue, and one call of the server: perhaps none."""
    part, size = list[Event](), 0
    for event in events:
        size += len(event.data) * (1 if is_large(event) else len(event.users)) + ENTRY_BYTES * len(event.users)
        if (part and size > SLICE) or not gate.fits(event):
            break
        gate.refusal(event)
        part.append(event)
    return part


def _seed() -> str:
    return secrets.token_hex(8)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
