"""What the sidecar asks and posts: the subscription list, single and bulk deliveries, SUCCESS, RETRY, DROP."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from wsbridge.broker import Broker, Outcome
from wsbridge.cloudevents import EventReader
from wsbridge.event import Dropped, Event
from wsbridge.log import debugging, log
from wsbridge.metrics import Metrics

BODY_TIMEOUT = 10.0  # seconds from the headers to the end of the body
BULK_MESSAGES = 100  # events that the sidecar may put into one request
BULK_WAIT_MS = 20  # how long it may wait for them; its own default with Kafka is 10,000
SMALL_BODY = 65_536  # bytes: under every limit
BROKER_BYTES = 1_048_588  # of a message, that Kafka takes unless told otherwise (message.max.bytes)
ENVELOPE_BYTES = 16_384
CLOUDEVENT = "application/cloudevents+json"  # the content type of a single delivery
SUCCESS, RETRY, DROP = "SUCCESS", "RETRY", "DROP"
SHOWN = 5  # ids in a log line about several events
_STATUS = {Outcome.STORED: SUCCESS, Outcome.DUPLICATE: SUCCESS, Outcome.RETRIED: RETRY}
_SINGLE = {status: msgspec.json.encode({"status": status}) for status in (SUCCESS, RETRY, DROP)}


def max_body(max_event_bytes: int) -> int:
    """Bytes that a bulk may have: each of its messages, in base64, is the largest that can be meant for us.

    Also what is too large an event has to be read, to be dropped alone.
    """
    message = max(max_event_bytes * 4 // 3 + ENVELOPE_BYTES, BROKER_BYTES)
    return BULK_MESSAGES * (message * 4 // 3 + ENVELOPE_BYTES)


class DaprDoor:
    """`GET /dapr/subscribe` and `POST /events/{topic}`."""

    def __init__(
        self,
        reader: EventReader,
        broker: Broker,
        metrics: Metrics,
        *,
        pubsub: str,
        topics: Sequence[str],
        dead_letter_topic: str | None,
    ) -> None:
        self._reader = reader
        self._broker = broker
        self._metrics = metrics
        self._topics = frozenset(topics)
        # As it is in the broker. Else the sidecar decodes each message, and one that is no JSON object blocks the
        # others for ever without ever getting here; in bulk it also rounds integers and sorts the fields: docs/dapr.md.
        raw = {"rawPayload": "true"}
        dead_letter = {"deadLetterTopic": dead_letter_topic} if dead_letter_topic else {}
        bulk = {"enabled": True, "maxMessagesCount": BULK_MESSAGES, "maxAwaitDurationMs": BULK_WAIT_MS}
        self._subscriptions = msgspec.json.encode(
            [
                {
                    "pubsubname": pubsub,
                    "topic": topic,
                    "route": f"/events/{topic}",
                    "metadata": raw,
                    "bulkSubscribe": bulk,
                    **dead_letter,
                }
                for topic in topics
            ]
        )

    async def subscriptions(self, request: web.Request) -> web.Response:
        """Asked once in a sidecar's life: right from the first moment that the port is open."""
        log.info("subscriptions.read", peer=request.remote, topics=sorted(self._topics))
        return _json(self._subscriptions)

    async def events(self, request: web.Request) -> web.Response:
        """One delivery, single or bulk."""
        topic = request.match_info["topic"]
        if topic not in self._topics:
            log.warning("topic.unknown", topic=topic, peer=request.remote)
            raise web.HTTPNotFound(text="This topic is not among WSBRIDGE_TOPICS.")
        try:
            body = await self._body(request)
        except web.HTTPRequestEntityTooLarge as error:
            return _json(self._too_large(request, topic, error.text or ""))
        try:
            return _json(await self._take(body, topic, request))
        except Exception as error:  # the door: never a 404 or a 500 for a fault that passes
            self._metrics.failed("internal")
            self._metrics.received("retried")
            log.error("internal.error", doing="take event", topic=topic, exc_info=error)
            log.warning("event.retried", topic=topic, count=1, why="internal error")
            return _json(_SINGLE[RETRY])

    async def _body(self, request: web.Request) -> bytes:
        """The body, within 10 s.

        Raises:
            web.HTTPRequestTimeout: it came too slowly; the sidecar delivers again.

        """
        content = request.content
        if content.is_eof() and content.total_bytes <= SMALL_BODY:  # it came with the headers: the usual case
            return content.read_nowait()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                return await request.read()
        except TimeoutError:
            self._metrics.failed("timeout")
            log.warning("request.timeout", path=request.path, peer=request.remote, seconds=BODY_TIMEOUT)
            raise web.HTTPRequestTimeout(text=f"The body did not arrive within {BODY_TIMEOUT:g} s.") from None

    def _too_large(self, request: web.Request, topic: str, why: str) -> bytes:
        """A bulk that has not been read cannot be answered entry by entry, and most of it may be sound."""
        if request.content_type == CLOUDEVENT:
            return _SINGLE[self._dropped(Dropped("too_large", why), topic)]
        self._metrics.received("retried")
        log.warning("event.retried", topic=topic, count=1, why=f"{why} Raise WSBRIDGE_MAX_EVENT_BYTES.")
        return _SINGLE[RETRY]

    async def _take(self, body: bytes, topic: str, request: web.Request) -> bytes:
        if request.content_type != CLOUDEVENT:
            bulk = self._reader.read_bulk(body, topic)
            if bulk is not None:
                statuses = await self._store([event for _, event in bulk], topic)
                return msgspec.json.encode(
                    {"statuses": [{"entryId": e, "status": s} for (e, _), s in zip(bulk, statuses, strict=True)]}
                )
        return _SINGLE[(await self._store([self._read(body, topic, request.headers)], topic))[0]]

    def _read(self, body: bytes, topic: str, headers: Mapping[str, Any]) -> Event | Dropped:
        try:
            return self._reader.read(body, topic, headers)
        except Dropped as dropped:
            return dropped

    async def _store(self, taken: Sequence[Event | Dropped], topic: str) -> list[str]:
        """A status for each, in order."""
        events = [event for event in taken if type(event) is Event]
        outcomes = await self._broker.append(events) if events else []
        self._tell(events, outcomes, topic)
        rest = iter(outcomes)
        return [_STATUS[next(rest)] if type(event) is Event else self._dropped(event, topic) for event in taken]

    def _tell(self, events: Sequence[Event], outcomes: Sequence[Outcome], topic: str) -> None:
        """The usual outcome only at debug; the others a line a request, not a line an event."""
        stored = outcomes.count(Outcome.STORED)
        self._metrics.received(Outcome.STORED, stored)
        if debugging():
            for event, outcome in zip(events, outcomes, strict=True):
                users, trace = event.users[:SHOWN], {"traceparent": event.trace} if event.trace else {}
                log.debug("event.received", event_id=event.id, topic=topic, users=users, outcome=outcome, **trace)
        if stored == len(outcomes):
            return
        self._tell_of(Outcome.DUPLICATE, log.info, "event.duplicate", events, outcomes, topic=topic)
        why = "the queue is full"
        self._tell_of(Outcome.RETRIED, log.warning, "event.retried", events, outcomes, topic=topic, why=why)

    def _tell_of(
        self,
        outcome: Outcome,
        write: Callable[..., object],
        name: str,
        events: Sequence[Event],
        outcomes: Sequence[Outcome],
        **fields: str,
    ) -> None:
        ids = [event.id for event, became in zip(events, outcomes, strict=True) if became is outcome]
        if ids:
            self._metrics.received(outcome, len(ids))
            write(name, count=len(ids), events=ids[:SHOWN], **fields)

    def _dropped(self, event: Event | Dropped, topic: str) -> str:
        if isinstance(event, Dropped):
            self._metrics.received("dropped")
            log.warning("event.dropped", topic=topic, event_id=event.event_id, reason=event.reason, why=str(event))
        return DROP


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
