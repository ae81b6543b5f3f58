"""The broker on Redis or Valkey: one history for all replicas. Its atomic steps are in `history.lua`.

Entries reach sockets only through the live stream, even those that this replica has appended itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field

from wsbridge.broker.base import Answerer, BrokerUnavailable, Outcome, Sink, always
from wsbridge.broker.redis.append import Appender, Limits
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import DISCONNECT, decode_entries, keys_of, parse_position
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.errors import Declined
from wsbridge.broker.redis.forwarder import Forwarder, received_at
from wsbridge.broker.redis.loss_detector import LossDetector, portions
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.poll import Replicas
from wsbridge.broker.redis.reader import Reader
from wsbridge.broker.redis.receipts import RedisReceipts
from wsbridge.broker.redis.server import TIMEOUT, Server
from wsbridge.broker.redis.subscriber import Subscriber
from wsbridge.core.events import Event, Position
from wsbridge.core.recovery import Resume
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

DAY = 86_400.0  # seconds
POSITION_TTL = 2 * DAY  # seconds by which a position outlives its events
TOUCH = DAY / 4  # seconds after which the expiry of a connected user's position is renewed
GRACE = 15.0  # seconds for which a user stays subscribed after the last session has ended


@dataclass(slots=True)
class _Subscription:
    user: str
    wanted: float  # when the user last had a session
    touched: float  # when the expiry of its position was last renewed


@dataclass(eq=False)
class RedisBroker:
    """Durations in seconds. `clock` is in seconds, too: without one, time is what the server says.

    `answer` answers a question of any replica. Without it, this replica neither asks nor answers.
    """

    server: Server
    sink: Sink
    _: KW_ONLY
    prefix: str
    size: int
    max_bytes_per_user: int
    ttl: float
    dedupe_ttl: float
    clock: Callable[[], float] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    is_pressed: Callable[[], bool] = lambda: False
    answer: Answerer | None = None

    def __post_init__(self) -> None:
        server, sink, prefix, ttl = self.server, self.sink, self.prefix, self.ttl
        limits = Limits(self.size, _ms(ttl), _ms(self.dedupe_ttl), _ms(ttl + POSITION_TTL), self.max_bytes_per_user)
        self._subscriber = Subscriber(server, self)
        self._loss_detector = LossDetector(server, prefix, self.metrics)
        self._reads = Pipeline(server)
        self._bodies = Bodies(server, prefix, limits.ttl)
        self._reader = Reader(pipeline=self._reads, bodies=self._bodies, prefix=prefix, limits=limits, now=self._now)
        self._appender = Appender(
            pipeline=Pipeline(server), bodies=self._bodies, sink=sink, prefix=prefix, limits=limits,
            metrics=self.metrics, now=self._now, slot_of=server.slot_of,
            wait_until_trusted=self._wait_until_trusted, on_confirmed=self._loss_detector.record,
            on_failed=self._on_append_failed,
        )  # fmt: skip
        self._forwarder = Forwarder(
            sink=sink, complete=self._bodies.completed, is_pressed=self.is_pressed, missed=self.on_resubscribed,
            failed=self.on_error,
        )  # fmt: skip
        self.receipts = RedisReceipts(pipeline=self._reads, prefix=prefix, known_ttl=limits.dedupe_ttl, now=self._now)
        self.replicas = Replicas(self._reads, prefix, self.answer, self.on_error) if self.answer else None
        if self.replicas is not None:
            self._subscriber.add(self.replicas.channel)
        self._subscriptions: dict[str, _Subscription] = {}  # by channel
        self._trusted = asyncio.Event()  # nothing else is sent to an unchecked server
        self._doubt = asyncio.Event()
        self._rejoined: set[str] = set()  # users whose channel was subscribed again, so that entries may be missing
        self._since: float | None = None  # when the outage began
        self.trouble: str | None = "not connected yet"

    @property
    def subscriptions(self) -> int:
        return len(self._subscriber.channels) - (self.replicas is not None)

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

    async def find(self, user: str, event_id: str) -> Position | None:
        return await self._reader.find(user, event_id)

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        if not self._trusted.is_set():
            raise BrokerUnavailable(self.trouble or "not verified yet")
        return await self._reader.resume(user, after, wait=wait)

    async def disconnect(self, user: str) -> None:
        await self._reads.ask(call("tell", [self._channel(user)], DISCONNECT))

    # Callbacks of the subscriber.

    async def on_message(self, channel: str, payload: bytes) -> None:
        if self.replicas is not None and channel == self.replicas.channel:
            await self.replicas.take(payload)
            return
        subscription = self._subscriptions[channel]
        if payload == DISCONNECT:
            self.sink.disconnect(subscription.user)
            return
        await self._forwarder.take(channel, decode_entries(subscription.user, payload, received_at))

    def on_interrupted(self, why: str) -> None:
        self._distrust(why)
        self._doubt.set()

    def on_error(self, doing: str, error: Exception) -> None:
        self.metrics.internal(doing, error)

    def on_resubscribed(self, channel: str) -> None:
        subscription = self._subscriptions.get(channel)
        if subscription is not None:
            self._rejoined.add(subscription.user)
            self._doubt.set()

    # The background job and the interface of the reconciler.

    async def run(self) -> None:
        """Run the subscriptions for as long as the bridge runs."""
        try:
            with contextlib.suppress(BrokerUnavailable):
                await self.server.refresh()
            self._doubt.set()
            await self._subscriber.run()
        finally:
            if self.replicas is not None:
                await self.replicas.close()
            for part in (self._forwarder, self._bodies, self._appender.pipeline, self._reads, self._loss_detector):
                await part.close()
            await self.server.close()

    async def wait_for_doubt(self, patience: float) -> frozenset[str]:
        """Wait until entries may have been missed, or for this many seconds.

        Returns the users who may have missed some.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._doubt.wait()
        self._doubt.clear()
        rejoined, self._rejoined = frozenset(self._rejoined), set()
        return rejoined

    async def verify(self, known: Collection[tuple[str, Position]]) -> dict[str, Position | None]:
        """Check that these users' positions still exist. Returns the present ones by user, None for a missing one.

        Raises `BrokerUnavailable` if the server cannot be reached now.
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
        """Unsubscribe users who are no longer followed; renew the positions of the others."""
        for part in portions(list(self._subscriptions.items())):
            await self._sweep(part)
            await asyncio.sleep(0)

    async def _sweep(self, subscriptions: Sequence[tuple[str, _Subscription]]) -> None:
        """Decide and unsubscribe without an await in between: a user could be followed again meanwhile."""
        now, left, due = time.monotonic(), [], []
        for channel, subscription in subscriptions:
            if self.sink.is_connected(subscription.user):
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
        """Raises `BrokerUnavailable` if it takes too long."""
        if self._trusted.is_set():
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._trusted.wait()
        except TimeoutError:
            raise BrokerUnavailable(self.trouble or "not verified yet") from None

    def _on_append_failed(self, why: BrokerUnavailable) -> None:
        self._doubt.set()
        if not isinstance(why, Declined):  # a server that declines a command has lost nothing
            self.on_interrupted(str(why))
            self._subscriber.refresh_soon()

    def _distrust(self, why: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.warning("redis.unavailable", why=why)
        self.trouble = why
        self._trusted.clear()

    def _channel(self, user: str) -> str:
        return keys_of(self.prefix, user).position

    def _now(self) -> str | int:
        return _ms(self.clock()) if self.clock else ""


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
