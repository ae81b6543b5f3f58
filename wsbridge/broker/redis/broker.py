"""The broker on Redis or Valkey: one history for all replicas. Its atomic steps are in `history.lua`.

What is appended, here or elsewhere, comes back through the live stream: nothing reaches a socket any other way.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wsbridge.broker.base import BrokerUnavailable, Outcome, Sink, always
from wsbridge.broker.redis.append import Appender, Limits
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import DISCONNECT, decode_entries, keys_of, parse_position
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.errors import Declined
from wsbridge.broker.redis.forwarder import Forwarder, to_monotonic
from wsbridge.broker.redis.loss_detector import LossDetector
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.reader import Reader
from wsbridge.broker.redis.server import TIMEOUT, Server
from wsbridge.broker.redis.subscriber import Subscriber
from wsbridge.core.events import Event, Position
from wsbridge.core.recovery import Resume
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

DAY = 86_400.0  # seconds
POSITION_TTL = 2 * DAY  # seconds that a position outlives its events
TOUCH = DAY / 4  # seconds after which the position of a connected user is made to last again
GRACE = 15.0  # seconds that a user is followed after the last session has ended


@dataclass(slots=True)
class _Subscription:
    user: str
    wanted: float  # when somebody was connected last
    touched: float  # when its position was made to last


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
        limits = Limits(size, _ms(ttl), _ms(dedupe_ttl), _ms(ttl + POSITION_TTL), max_bytes_per_user)
        self._clock = clock
        self._subscriber = Subscriber(server, self)
        self._loss_detector = LossDetector(server, prefix)
        self._reads = Pipeline(server)
        self._bodies = Bodies(server, prefix, limits.ttl)
        self._reader = Reader(pipeline=self._reads, bodies=self._bodies, prefix=prefix, limits=limits, now=self._now)
        self._appender = Appender(
            pipeline=Pipeline(server), bodies=self._bodies, sink=sink, prefix=prefix, limits=limits, metrics=metrics,
            now=self._now, wait_until_trusted=self._wait_until_trusted, on_confirmed=self._loss_detector.record,
            on_failed=self._on_append_failed,
        )  # fmt: skip
        self._forwarder = Forwarder(
            sink=sink, complete=self._bodies.completed, is_pressed=is_pressed, missed=self.on_resubscribed,
            failed=self.on_error,
        )  # fmt: skip
        self._subscriptions: dict[str, _Subscription] = {}  # by channel
        self._trusted = asyncio.Event()  # nothing is asked of a server before it was seen to have lost nothing
        self._doubt = asyncio.Event()
        self._rejoined: set[str] = set()  # users of whom something may have been missed
        self._since: float | None = None  # when the trouble began
        self.trouble: str | None = "not connected yet"

    @property
    def subscriptions(self) -> int:
        return len(self._subscriber.channels)

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool] = always) -> list[Outcome]:
        return await self._appender.append(events, is_wanted)

    async def follow(self, user: str) -> None:
        channel, now = self._channel(user), time.monotonic()
        subscription = self._subscriptions.setdefault(channel, _Subscription(user, now, now))
        subscription.wanted = now
        await self._subscriber.subscribe(channel)

    async def position(self, user: str) -> Position | None:
        key = self._channel(user)
        (reply,) = await self._reads.ask(Command(key, ("GET", key)))
        return parse_position(reply)

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        if not self._trusted.is_set():
            raise BrokerUnavailable(self.trouble or "not verified yet")
        return await self._reader.resume(user, after, wait=wait)

    async def disconnect(self, user: str) -> None:
        await self._reads.ask(call("tell", [self._channel(user)], DISCONNECT))

    # Callbacks of the subscriber.

    async def on_message(self, channel: str, payload: bytes) -> None:
        subscription = self._subscriptions[channel]
        if payload == DISCONNECT:
            self._sink.disconnect(subscription.user)
            return
        await self._forwarder.take(channel, list(decode_entries(subscription.user, payload, to_monotonic())))

    def on_interrupted(self, why: str) -> None:
        self._distrust(why)
        self._doubt.set()

    def on_error(self, doing: str, error: Exception) -> None:
        self._metrics.internal(doing, error)

    def on_resubscribed(self, channel: str) -> None:
        subscription = self._subscriptions.get(channel)
        if subscription is not None:
            self._rejoined.add(subscription.user)
            self._doubt.set()

    # Its life.

    async def run(self) -> None:
        """Listen for as long as the bridge lives."""
        try:
            with contextlib.suppress(BrokerUnavailable):
                await self._server.refresh()
            self._doubt.set()
            await self._subscriber.run()
        finally:
            for part in (self._forwarder, self._bodies, self._appender.pipeline, self._reads, self._loss_detector):
                await part.close()
            await self._server.close()

    async def wait_for_doubt(self, patience: float) -> frozenset[str]:
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

        Raises `BrokerUnavailable` if the server cannot be asked now.
        """
        try:
            found, lost = await self._loss_detector.check(known)
        except BrokerUnavailable as unavailable:
            self._distrust(str(unavailable))
            raise
        self._trusted.set()
        if self.trouble and self._subscriber.is_complete():
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
        for channel, subscription in self._subscriptions.items():
            if self._sink.is_connected(subscription.user):
                subscription.wanted = now
                if now - subscription.touched > TOUCH:
                    due.append(subscription)
            elif now - subscription.wanted > GRACE:
                left.append(channel)
        await self._subscriber.unsubscribe(left)
        for channel in left:
            if channel not in self._subscriber.channels:
                self._subscriptions.pop(channel, None)
        for subscription in due:
            await self.resume(subscription.user, None)
            subscription.touched = now

    async def _wait_until_trusted(self) -> None:
        """Raises `BrokerUnavailable` where that takes too long."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._trusted.wait()
        except TimeoutError:
            raise BrokerUnavailable(self.trouble or "not verified yet") from None

    def _on_append_failed(self, why: BrokerUnavailable) -> None:
        self._doubt.set()
        if not isinstance(why, Declined):  # that is said by a server that has lost nothing
            self.on_interrupted(str(why))
            self._subscriber.refresh_soon()

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
