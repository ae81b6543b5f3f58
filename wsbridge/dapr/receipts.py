"""Publishes a receipt for each event that asks for one: whether it was handled, delivered or unseen when it was due."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import aiohttp

from wsbridge.broker.base import Broker, BrokerUnavailable, Outcome, Status, retried
from wsbridge.broker.receipts import ReceiptStore
from wsbridge.config.settings import Settings
from wsbridge.core.events import Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.receipts import Awaited, Fate, Reached, fate_of
from wsbridge.core.timestamps import timestamp
from wsbridge.dapr.publisher import Publisher, PublishFailed
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

LOOK = 1.0  # seconds between two looks for receipts that are due
GIVE_UP = 86_400.0  # seconds after which a receipt that could not be published is dropped
TYPE, SOURCE = "wsbridge.receipt", "wsbridge"
REFUSED, DROPPED = "refused", "dropped"  # in the metric, beside the fates
_NOWHERE = Position("", 0)  # of a history that is gone; no connection has reached it

Ask = Callable[[Collection[str]], Awaitable[Mapping[str, Sequence[Reached]]]]


@dataclass(eq=False)
class Receipts:
    """`ask` asks all replicas how far the connections of users have got. `after` is in seconds.

    A receipt is `done` only after the sidecar has confirmed it, so each is published at least once. Its id is always
    the same, so consumers can recognise a second one.
    """

    store: ReceiptStore
    broker: Broker
    publisher: Publisher
    metrics: Metrics
    ask: Ask
    _: KW_ONLY
    after: float
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.trouble: str | None = None  # why receipts cannot be published now, for the health check
        self.counts = Counter(dict.fromkeys([*Fate, REFUSED, DROPPED], 0))
        self.failures = Counter({"publish": 0, "store": 0})
        self.metrics.count("receipts", "Receipts, by what became of them.", self.counts, "outcome")
        self.metrics.count("receipt_failures", "Failed attempts, by what failed.", self.failures, "step")
        self.metrics.watch("receipts_pending", "Receipts that are not published yet.", lambda: self.store.pending)

    async def expect(self, topic: str, events: Sequence[Event], outcomes: list[Outcome], now: float) -> list[Outcome]:
        """Store a receipt for each event that asks for one. Returns the outcomes; without its receipt it is RETRIED."""
        asking = [
            place for place, event in enumerate(events) if event.receipt is not None and outcomes[place].reason is None
        ]
        if not asking:
            return outcomes
        try:
            refused = await self.store.expect(await self._awaited(topic, events, outcomes, asking, now))
        except BrokerUnavailable as why:
            failed = retried(Retry.REDIS_UNAVAILABLE, f"its receipt could not be stored: {why}")
            return [failed if place in asking else outcome for place, outcome in enumerate(outcomes)]
        if refused:
            self.counts[REFUSED] += refused
            log.warning("receipt.refused", topic=topic, count=refused)
        return outcomes

    async def run(self) -> None:
        """Publish what is due, for as long as the bridge runs."""
        async with self.publisher.session() as http:
            while True:
                await asyncio.sleep(LOOK)
                try:
                    while await self.publish_due(http):
                        pass
                except BrokerUnavailable:
                    self.failures["store"] += 1  # the health check of Redis names the reason
                except Exception as error:  # the task boundary: they are due again after the lease
                    self.metrics.internal("receipts", error)

    async def publish_due(self, http: aiohttp.ClientSession) -> bool:
        """Publish some receipts that are due. Returns False if there were none, or if one could not be published."""
        due = await self.store.due()
        if not due:
            self.trouble = self.trouble if self.store.pending else None
            return False
        users = {one.user for one in due}
        asked = await self.ask(users)  # before the store: a session that ends now tells the store
        noted = await self.store.reached(users)
        fates = [
            fate_of(one.position, (*asked.get(one.user, ()), *([noted[one.user]] if one.user in noted else ())))
            for one in due
        ]
        results = await asyncio.gather(*(self._publish(http, *pair) for pair in zip(due, fates, strict=True)))
        done = [one for one, is_done in zip(due, results, strict=True) if is_done]
        await self.store.done(done)
        return len(done) == len(due)

    async def _publish(self, http: aiohttp.ClientSession, one: Awaited, fate: Fate) -> bool:
        """Return whether the receipt is done."""
        try:
            await self.publisher.publish(http, receipt(one, fate), one.user)
        except PublishFailed as why:
            self.failures["publish"] += 1
            self.trouble = str(why)
            if self.clock() - one.due < GIVE_UP:
                return False
            self.counts[DROPPED] += 1
            log.warning("receipt.dropped", event_id=one.event_id, user=one.user, why=str(why))
            return True
        self.trouble = None
        self.counts[fate] += 1
        return True

    async def _awaited(
        self, topic: str, events: Sequence[Event], outcomes: Sequence[Outcome], asking: Sequence[int], now: float
    ) -> list[Awaited]:
        """The receipts of these events, one for each user.

        A user's history ends with the events of this delivery, so each position is known from the last one. That of a
        duplicate is not: the last position stands for it.
        """
        users = list(dict.fromkeys(user for place in asking for user in events[place].users))
        tops = dict(zip(users, await asyncio.gather(*map(self.broker.position, users)), strict=True))
        behind: Counter[str] = Counter()  # stored events after this one, by user
        found = []
        for place in range(len(events) - 1, asking[0] - 1, -1):
            event, is_new = events[place], outcomes[place].status is Status.STORED
            if place in asking:
                for user in event.users:
                    top = tops[user] or _NOWHERE
                    position = Position(top.epoch, top.offset - behind[user]) if is_new else top
                    found.append(_awaited(topic, event, user, position, event.receipt or self.after, now))
            if is_new:
                behind.update(event.users)
        return found[::-1]  # of two with the same id the first one counts: a stored event comes before its duplicates


def build(
    s: Settings, broker: Broker, store: ReceiptStore, metrics: Metrics, checks: Checks, ask: Ask
) -> Receipts | None:
    """The receipts of a bridge with their health check; None without `RECEIPTS_TOPIC`."""
    if s.receipts_topic is None:
        return None
    publisher = Publisher(port=s.dapr_http_port, pubsub=s.pubsub_name, topic=s.receipts_topic, token=s.dapr_api_token)
    receipts = Receipts(store, broker, publisher, metrics, ask, after=s.receipts_after)
    checks.add("receipts", lambda: receipts.trouble)
    return receipts


def receipt(one: Awaited, fate: Fate) -> dict[str, object]:
    """The CloudEvent of a receipt."""
    return {
        "specversion": "1.0",
        "id": one.id,
        "source": SOURCE,
        "type": TYPE,
        "subject": one.user,
        "time": timestamp(),
        "datacontenttype": "application/json",
        "data": {
            "outcome": fate,
            "user_id": one.user,
            "event_id": one.event_id,
            "event_source": one.source,
            "topic": one.topic,
            "position": str(one.position),
            "after_seconds": one.after,
        },
    }


def _awaited(topic: str, event: Event, user: str, position: Position, after: float, now: float) -> Awaited:
    key = event.key or f"{position}"
    name = hashlib.blake2b(f"{user}\n{key}".encode(errors="surrogatepass"), digest_size=16).hexdigest()
    source = event.key.rpartition("\n")[0]
    return Awaited(name, user, position, event.id, source, topic, after, now + after)
