"""Spans of events: one for the receipt of each, and below it one for each replica that passes it to sessions.

Attributes have the names of the semantic conventions for messaging and CloudEvents. They contain no data and no user.
They contain neither Kafka's key nor the CloudEvent's subject either, because both often are a user.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from wsbridge.core.events import Event, Rejected
from wsbridge.telemetry.stations.records import Outcome
from wsbridge.telemetry.traces.tracing import Delivered, Delivery, Read

SCHEMA = "https://opentelemetry.io/schemas/1.45.0"  # the version of the attributes' names
OFFSET_DIGITS = 18  # a larger number could not be exported
INTERNAL: Outcome = "retried", "internal", ""  # the outcome if the broker raises
_parse = TraceContextTextMapPropagator().extract


class Spans:
    """Makes spans with the tracer. With `sends_all`, events that are not sampled get a `span` too, for their frames.

    `failed` is called with an error of the library or of one of its plug-ins.
    """

    def __init__(self, tracer: Tracer, failed: Callable[[Exception], object], *, sends_all: bool) -> None:
        self._tracer = tracer
        self._failed = failed
        self._sends_all = sends_all
        self._fields = propagate.get_global_textmap().fields - {"baggage"}  # the headers of OTEL_PROPAGATORS

    def begin(self, topic: str, read: Read, headers: Mapping[str, str]) -> Delivery:
        try:
            return self._begin(topic, read, headers)
        except Exception as error:  # the boundary: no event is lost because of its trace
            self._failed(error)
            return Delivery(read)

    def delivered(self, entries: Sequence[Delivered]) -> None:
        try:
            self._delivered(entries)
        except Exception as error:  # the boundary: the broadcaster continues
            self._failed(error)

    def _begin(self, topic: str, read: Read, headers: Mapping[str, str]) -> Delivery:
        at, delivery = time.time_ns(), propagate.extract(self._carried(headers))
        name, common = f"process {topic}", _common(topic)
        spans, traced = dict[int, Span](), list[Event | Rejected]()
        for place, event in enumerate(read):
            parent, links = _parent(event.trace, delivery) if event.trace else (delivery, ())
            span = self._tracer.start_span(name, parent, SpanKind.CONSUMER, common, links, at)
            is_recording = span.is_recording()
            if is_recording:
                spans[place] = span
            if is_recording or self._sends_all:
                traced.append(_with_span(event, span))
            else:
                traced.append(event)
        return _Traced(traced, spans, self._failed)

    def _carried(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with the trace. Not baggage: it is of no use here, and its parser fails for some text."""
        found = ((name, headers.get(name)) for name in self._fields)
        return {name: value for name, value in found if value and value.isascii()}

    def _delivered(self, entries: Sequence[Delivered]) -> None:
        """Make one span for each event. It has several entries if it is for several users."""
        groups: dict[str, list[Delivered]] = {}
        for delivered in entries:
            span = delivered[0].span
            if int(span[-2:], 16) & 1:  # it is sampled
                groups.setdefault(span, []).append(delivered)
        end = time.time_ns()
        for traceparent, group in groups.items():
            first = group[0][0]
            attributes: dict[str, AttributeValue] = {
                "messaging.message.id": first.event_id,
                "wsbridge.message.type": first.type,
                "wsbridge.users": len(group),
                "wsbridge.sessions": sum(sessions for _, sessions, _ in group),
            }
            start = end - int(max(seconds for _, _, seconds in group) * 1e9)
            self._tracer.start_span(
                f"deliver {first.type}", _parse({"traceparent": traceparent}), attributes=attributes, start_time=start
            ).end(end)


class _Traced(Delivery):
    """A delivery whose elements at some places have a span that is recorded."""

    def __init__(self, read: Read, spans: Mapping[int, Span], failed: Callable[[Exception], object]) -> None:
        super().__init__(read)
        self._spans = spans
        self._failed = failed

    def end(self) -> None:
        try:
            if self._spans:
                self._end()
        except Exception as error:  # the boundary: the events are stored
            self._failed(error)

    def _end(self) -> None:
        at = time.time_ns()
        outcomes = itertools.repeat(INTERNAL) if self.outcomes is None else iter(self.outcomes)
        for place, event in enumerate(self.read):
            outcome = ("dropped", event.reason, event.text) if isinstance(event, Rejected) else next(outcomes)
            span = self._spans.get(place)
            if span is not None:
                _end(span, event, outcome, at)


def _end(span: Span, event: Event | Rejected, outcome: Outcome, at: int) -> None:
    status, reason, text = outcome
    attributes = _attributes(event) | {"wsbridge.outcome": status}
    if reason is not None:
        attributes["error.type"] = reason
        span.set_status(Status(StatusCode.ERROR, _encodable(text) or None))
    span.set_attributes(attributes)
    span.end(at)


def _with_span(event: Event | Rejected, span: Span) -> Event | Rejected:
    own = _traceparent(span.get_span_context())
    return event._replace(trace=own) if isinstance(event, Rejected) else replace(event, span=own)


def _parent(own: str, delivery: Context) -> tuple[Context, Sequence[Link]]:
    """The context of a span's parent, and its links.

    The event's own trace wins over that of the delivery, since a delivery may have events of several traces.
    """
    context = propagate.extract({"traceparent": own})
    found, other = _span_context(context), _span_context(delivery)
    if not found.is_valid:
        return delivery, ()
    is_other = (other.trace_id, other.span_id) != (found.trace_id, found.span_id)
    return context, (Link(other),) if other.is_valid and is_other else ()


def _span_context(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def _traceparent(context: SpanContext) -> str:
    """The text of version 00. Of the flags it has only the one that says whether the trace is sampled."""
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-0{context.trace_flags & 1}"


def _common(topic: str) -> dict[str, AttributeValue]:
    return {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
    }


def _attributes(event: Event | Rejected) -> dict[str, AttributeValue]:
    if isinstance(event, Rejected):
        return {"messaging.message.id": event.event_id} if event.event_id else {}
    found: dict[str, AttributeValue] = {
        "messaging.system.name": "kafka" if event.partition else "dapr",
        "messaging.message.body.size": len(event.data),
        "wsbridge.users": len(event.users),
    }
    if event.id:
        found["messaging.message.id"] = event.id
    source, separator, event_id = event.key.partition("\n")
    if source and separator:
        found |= {"cloudevents.event_id": event_id, "cloudevents.event_source": source}
    if event.partition:
        found["messaging.destination.partition.id"] = event.partition
    if event.offset.isdecimal() and event.offset.isascii() and len(event.offset) <= OFFSET_DIGITS:
        found["kafka.offset"] = int(event.offset)
    return found


def _encodable(text: str) -> str:
    """The text without lone surrogates, for which a whole batch of spans could not be exported."""
    return text.encode(errors="replace").decode()
