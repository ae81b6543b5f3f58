"""HTTP handlers for the Dapr sidecar: the subscription list, and deliveries, answered SUCCESS, RETRY or DROP."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

import msgspec
from aiohttp import hdrs, web

from wsbridge.broker.base import STORED, Broker, Outcome, retried
from wsbridge.connections.client_address import address_of
from wsbridge.core.event_ids import LONGEST_ID
from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Drop, Retry
from wsbridge.dapr.attributes import id_of
from wsbridge.dapr.delivery import DeliveryReader
from wsbridge.dapr.event_log import EventLog
from wsbridge.dapr.receipts import Receipts
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.telemetry.tail import Tail
from wsbridge.telemetry.traces.tracing import Delivery, Traces

BODY_TIMEOUT = 10.0  # seconds from the headers to the end of the body; then 408, and the sidecar delivers again
BULK_MESSAGES = 100  # events that the sidecar may put into one request
SMALL_BODY = 65_536  # bytes; less than every limit
BROKER_BYTES = 1_048_588  # of a message: the default of Kafka's message.max.bytes
ENVELOPE_BYTES = 16_384  # of everything around the data of one message
CLOUDEVENT = "application/cloudevents+json"  # the content type of a single delivery
SUCCESS, RETRY, DROP = "SUCCESS", "RETRY", "DROP"


class Answer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """The answer for one event. The sidecar acts on the status and ignores the reason, which is for people.

    `entry_id` is that of the entry of a bulk.
    """

    status: str
    reason: str = ""
    entry_id: str | None = None


_STORED = Answer(SUCCESS)


def max_body(max_event_bytes: int) -> int:
    """The bound of a request's body, in bytes: a bulk whose messages, in base64, all have the largest size.

    A message that is too large must be read all the same, so that it alone is dropped.
    """
    message = max(max_event_bytes * 4 // 3 + ENVELOPE_BYTES, BROKER_BYTES)
    return BULK_MESSAGES * (message * 4 // 3 + ENVELOPE_BYTES)


class UnknownTopic(web.HTTPNotFound):
    """404. The problem document lists the topics that the bridge has, for people who use `wsbridge publish`."""

    def __init__(self, topic: str, topics: list[str]) -> None:
        super().__init__(text=f"The topic {topic} is not in WSBRIDGE_TOPICS.")
        self.members = {"topics": topics}


@dataclass(eq=False)
class DaprHandler:
    """`GET /dapr/subscribe` and `POST /events/{topic}`.

    `topics` maps topics to message types. `bulk_wait` is in seconds: how long the sidecar may wait to fill a request.
    Dapr's unit is whole ms.
    """

    reader: DeliveryReader
    broker: Broker
    metrics: Metrics
    _: KW_ONLY
    pubsub: str
    topics: Mapping[str, str]
    dead_letter_topic: str | None
    bulk_wait: float
    stations: Stations
    tail: Tail
    receipts: Receipts | None = None
    traces: Traces | None = None

    def __post_init__(self) -> None:
        self._log = EventLog(self.metrics, has_traces=self.traces is not None)

    async def subscriptions(self, request: web.Request) -> web.Response:
        """The subscription list. A sidecar reads it once in its life, so it must be right from the start."""
        if request.method == hdrs.METH_GET:  # `wsbridge doctor` sends a HEAD, which is not a subscription
            self.metrics.subscription_read_at = time.time()
            log.info("subscriptions.read", peer=address_of(request), topics=sorted(self.topics))
        # Messages verbatim. Otherwise the sidecar decodes each message, and one that is not a JSON object never gets
        # here and blocks the others forever. In bulk it would also round integers and sort fields (docs/dapr.md).
        settings: dict[str, object] = {"pubsubname": self.pubsub, "metadata": {"rawPayload": "true"}}
        wait = round(self.bulk_wait * 1000)
        settings["bulkSubscribe"] = {"enabled": True, "maxMessagesCount": BULK_MESSAGES, "maxAwaitDurationMs": wait}
        if self.dead_letter_topic:
            settings["deadLetterTopic"] = self.dead_letter_topic
        return _json(
            msgspec.json.encode([settings | {"topic": topic, "route": f"/events/{topic}"} for topic in self.topics])
        )

    def events(self, request: web.Request) -> Awaitable[web.Response]:
        """One delivery, single or bulk."""
        self.metrics.delivered_at = time.time()
        return self.take(request)

    async def take(self, request: web.Request) -> web.Response:
        """Take events from the sidecar, or one that an operator publishes in the same form."""
        topic = request.match_info["topic"]
        is_known, body = topic in self.topics, b""
        topic = topic if is_known else topic[:LONGEST_ID]  # a name in Kafka has 249 characters at most
        try:
            body = await self._body(request, topic)
        except web.HTTPRequestEntityTooLarge as error:
            if is_known:
                return _json(self._too_large(request, topic, error.text or ""))
        except (web.RequestPayloadError, ConnectionError):
            self.stations.retried(topic, id_of(topic, request.headers), Retry.ABANDONED, "its body is incomplete")
            raise
        try:
            if is_known:
                return _json(await self._answer(body, topic, request))
            self._drop_unknown(body, topic, request)
        except Exception as error:  # the boundary: a 404 would drop the events, a RETRY keeps them
            self.metrics.internal("take event", error, topic=topic)
            return _json(self._retried(Retry.INTERNAL, topic, "see internal.error", request))
        raise UnknownTopic(topic, list(self.topics))

    def _drop_unknown(self, body: bytes, topic: str, request: web.Request) -> None:
        """Record the events of a topic that is not a setting. The answer is 404, which a sidecar treats as a drop."""
        log.warning("topic.unknown", topic=topic, peer=address_of(request))
        for event_id in self.reader.ids(body, topic, request.headers, is_single=_is_single(request)):
            self._dropped(Rejected(Drop.UNKNOWN_TOPIC, "its topic is not in WSBRIDGE_TOPICS", event_id), topic)

    async def _body(self, request: web.Request, topic: str) -> bytes:
        """The body. Raises `web.HTTPRequestTimeout` after `BODY_TIMEOUT`. Then the sidecar delivers again."""
        content = request.content
        if content.is_eof() and content.total_bytes <= SMALL_BODY:  # it came with the headers, as usual
            return content.read_nowait()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                return await request.read()
        except TimeoutError:
            self.metrics.failed("timeout")
            log.warning("request.timeout", path=request.path, peer=address_of(request), seconds=BODY_TIMEOUT)
            self.metrics.retried(Retry.BODY_TIMEOUT)
            text = f"its body did not arrive within {BODY_TIMEOUT:g} s"
            self.stations.retried(topic, id_of(topic, request.headers), Retry.BODY_TIMEOUT, text)
            raise web.HTTPRequestTimeout(text=f"The body did not arrive within {BODY_TIMEOUT:g} s.") from None

    def _too_large(self, request: web.Request, topic: str, why: str) -> bytes:
        """A bulk that was not read is retried: it cannot be answered by entry, and most of its events may be good."""
        if request.content_type == CLOUDEVENT:
            rejected = Rejected(Drop.TOO_LARGE, why, id_of(topic, request.headers))
            return msgspec.json.encode(self._dropped(rejected, topic))
        return self._retried(Retry.BODY_TOO_LARGE, topic, f"{why} Raise WSBRIDGE_MAX_EVENT_BYTES.", request)

    def _retried(self, reason: Retry, topic: str, detail: str, request: web.Request) -> bytes:
        """Retry a whole delivery. It counts as one event, because the number of events in it is not known."""
        self.metrics.retried(reason)
        self.stations.retried(topic, id_of(topic, request.headers), reason, detail)
        log.warning("event.retried", topic=topic, count=1, why=reason, detail=detail)
        return msgspec.json.encode(Answer(RETRY, reason))

    async def _answer(self, body: bytes, topic: str, request: web.Request) -> bytes:
        store = self._store if self.traces is None else partial(self._store_traced, self.traces)
        if not _is_single(request):
            bulk = self.reader.read_bulk(body, topic)
            if bulk is not None:
                answers = await store([event for _, event in bulk], topic, request)
                return msgspec.json.encode(
                    {"statuses": [Answer(a.status, a.reason, e) for (e, _), a in zip(bulk, answers, strict=True)]}
                )
        (answer,) = await store([self.reader.read(body, topic, request.headers)], topic, request)
        return msgspec.json.encode(answer)

    async def _store_traced(
        self, traces: Traces, read: Sequence[Event | Rejected], topic: str, request: web.Request
    ) -> list[Answer]:
        delivery = traces.begin(topic, read, request.headers)
        try:
            return await self._store(delivery.read, topic, request, delivery)
        finally:
            delivery.end()

    async def _store(
        self, read: Sequence[Event | Rejected], topic: str, request: web.Request, delivery: Delivery | None = None
    ) -> list[Answer]:
        """Append the events to the history. Returns an answer for each event and rejection, in order."""
        events = [event for event in read if type(event) is Event]
        now = time.time()
        for event in events:
            if event.produced is not None:
                self.metrics.aged(now - event.produced)
        outcomes = await self._append(events, topic, request) if events else []
        if self.receipts is not None:
            outcomes = await self.receipts.expect(topic, events, outcomes, now)
        if delivery is not None:
            delivery.outcomes = outcomes
        self.metrics.read(topic, len(read), outcomes)
        self._log.outcomes(events, outcomes, topic)
        if self.stations.is_on and events:
            self.stations.received(now, topic, events, None if outcomes.count(STORED) == len(outcomes) else outcomes)
        if self.tail.is_on:
            self.tail.received(now, topic, events, outcomes)
        rest = iter(outcomes)
        return [self._dropped(event, topic) if isinstance(event, Rejected) else _answer(next(rest)) for event in read]

    async def _append(self, events: Sequence[Event], topic: str, request: web.Request) -> list[Outcome]:
        try:
            return await self.broker.append(events, lambda: request.transport is not None)
        except Exception as error:  # the boundary: what was stored nevertheless is a duplicate then
            self.metrics.internal("append", error, topic=topic)
            return [retried(Retry.INTERNAL, "see internal.error")] * len(events)

    def _dropped(self, event: Rejected, topic: str) -> Answer:
        self.stations.dropped(topic, event)
        self.tail.dropped(time.time(), topic, self.topics.get(topic, ""), event)
        self._log.dropped(event, topic)
        return Answer(DROP, event.reason)


def _is_single(request: web.Request) -> bool:
    sent = request.headers.get(hdrs.CONTENT_TYPE)
    return sent == CLOUDEVENT or request.content_type == CLOUDEVENT  # noqa: PLR1714 - aiohttp parses it for each


def _answer(outcome: Outcome) -> Answer:
    return _STORED if outcome.reason is None else Answer(RETRY, outcome.reason)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
