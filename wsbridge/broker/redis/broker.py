"""The seam on Redis or Valkey: one history for all replicas. Knows no session; `history.lua` has the atomic steps.

What is appended, here or elsewhere, comes back through the live stream: nothing reaches a socket any other way.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from wsbridge.broker.base import Away, Outcome, Sink
from wsbridge.broker.redis.append import Appender, Limits
from wsbridge.broker.redis.arrivals import Arrivals, receipts
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import DISCONNECT, entries, keys_of
from wsbridge.broker.redis.commands import call
from wsbridge.broker.redis.loss_detector import Evidence
from wsbridge.broker.redis.pipeline import Lane
from wsbridge.broker.redis.reader import Reader
from wsbridge.broker.redis.subscriber import Stream
from wsbridge.broker.redis.topology import TIMEOUT, Declined, Server
from wsbridge.core.events import Event, Position
from wsbridge.core.recovery import Resume
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

DAY = 86_400.0  # seconds
POSITION_TTL = 2 * DAY  # seconds that a position outlives its events
TOUCH = DAY / 4  # seconds after which the position of a connected user is made to last again
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
        max_bytes_per_user: int,
        ttl: float,
        dedupe_ttl: float,
        clock: Callable[[], float] | None = None,
        metrics: Metrics | None = None,
        is_pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._metrics = metrics = metrics or Metrics()
        self._server = server
        self._sink = sink
        self._prefix = prefix
        limits = Limits(size, max_bytes_per_user, *map(_ms, (ttl, dedupe_ttl, ttl + POSITION_TTL)))
        self._clock = clock
        self._stream = Stream(server, self)
        self._evidence = Evidence(server, prefix)
        self._reads = Lane(server)
        self._bodies = Bodies(server, prefix, limits.ttl)
        self._reader = Reader(self._reads, self._bodies, prefix=prefix, limits=limits, now=self._now)
        self._appender = Appender(
            Lane(server), self._bodies, sink, prefix=prefix, limits=limits, now=self._now, metrics=metrics,
            trusted=self._wait_for_trust, confirmed=self._evidence.confirmed, failed=self._append_failed,
        )  # fmt: skip
        self._arrivals = Arrivals(
            sink, complete=self._bodies.completed, is_pressed=is_pressed, missed=self.rejoined, failed=self.failed
        )
        self._followed: dict[str, _Followed] = {}  # by channel
        self._trusted = asyncio.Event()  # nothing is asked of a server before it was seen to have lost nothing
        self._doubt = asyncio.Event()
        self._rejoined: set[str] = set()  # users of whom something may have been missed
        self._since: float | None = None  # when the trouble began
        self.trouble: str | None = "not connected yet"

    @property
    def subscriptions(self) -> int:
        return len(self._stream)

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        return await self._appender.append(events)

    async def follow(self, user: str) -> None:
        channel, now = self._channel(user), time.monotonic()
        followed = self._followed.setdefault(channel, _Followed(user, now))
        followed.wanted = now
        await self._stream.join(channel)

    async def position(self, user: str) -> Position | None:
        return await self._reader.position(user)

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        if not self._trusted.is_set():
            raise Away(self.trouble or "not verified yet")
        return await self._reader.resume(user, after, wait=wait)

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
        await self._arrivals.take(channel, list(entries(followed.user, payload, receipts())))

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
            for part in (self._arrivals, self._bodies, self._appender, self._reads, self._evidence):
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

    async def _wait_for_trust(self) -> None:
        """Raises `Away` where that takes too long."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._trusted.wait()
        except TimeoutError:
            raise Away(self.trouble or "not verified yet") from None

    def _append_failed(self, why: Away) -> None:
        self._doubt.set()
        if not isinstance(why, Declined):  # that is said by a server that has lost nothing
            self.interrupted(str(why))
            self._stream.look_around()

    def _distrust(self, why: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.warning("redis.unavailable", why=why)
        self.trouble = why
        self._trusted.clear()

    def _channel(self, user: str) -> str:
        return keys_of(self._prefix, user).position

    def _now(self) -> str | int:
        return _ms(self._clock()) if self._clock else ""


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
