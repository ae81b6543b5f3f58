"""Spans, read from memory as they would be exported."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON, Sampler

from wsbridge.core.events import Entry, Event, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.core.traceparents import trace_id
from wsbridge.dapr.attributes import short_id
from wsbridge.telemetry.traces.spans import Spans

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
STORED = ("stored", None, "")
ANYTHING = st.text(max_size=40) | st.sampled_from([PARENT, "\ud800", "9" * 30, "٣", "-1", "00-" + "a" * 10_000])
IDS = ANYTHING.map(short_id)


class Bench:
    def __init__(self, sampler: Sampler = DEFAULT_ON, *, sends_all: bool = False) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(sampler, Resource.get_empty(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.errors: list[Exception] = []
        self.traces = Spans(provider.get_tracer("test"), self.errors.append, sends_all=sends_all)

    def take(
        self, *read: Event | Rejected, headers: Mapping[str, str] | None = None, status: str = "stored"
    ) -> list[Event | Rejected]:
        """A whole delivery whose events have all the same outcome."""
        delivery = self.traces.begin("task-updates", read, headers or {})
        delivery.outcomes = [(status, None, "") for event in delivery.read if isinstance(event, Event)]
        delivery.end()
        return list(delivery.read)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All spans; each can be exported."""
        spans = self._memory.get_finished_spans()
        assert len(encode_spans(spans).SerializeToString()) > 0 or not spans
        return spans


def event(trace: str = "", **fields: str) -> Event:
    return Event(("alice",), b'{"user_id":"alice"}', "task_update", "e-1", "backend\ne-1", trace, **fields)  # type: ignore[arg-type] # only texts


def entry(span: str, user: str = "u") -> Entry:
    return Entry(user, "e", 1, "task_update", b"{}", "", 0.0, "e-1", None, span)


def test_begin_gives_each_sampled_event_the_traceparent_of_its_span() -> None:
    bench = Bench()
    sampled, dropped, unsampled = bench.take(
        event(PARENT), Rejected(Drop.NO_USER, "no user", trace=PARENT), event(f"{PARENT[:-2]}00")
    )
    assert isinstance(sampled, Event)
    assert isinstance(dropped, Rejected)
    assert isinstance(unsampled, Event)
    assert [f"00-{TRACE}-{span.context.span_id:016x}-01" for span in bench.spans if span.context] == [
        sampled.span,
        dropped.trace,
    ]
    assert unsampled.span == ""


def test_begin_that_sends_all_gives_a_traceparent_to_events_that_are_not_sampled() -> None:
    bench = Bench(ALWAYS_OFF, sends_all=True)
    (found,) = bench.take(event(PARENT))
    assert isinstance(found, Event)
    assert trace_id(found.span) == TRACE
    assert found.span.endswith("-00")
    assert found.span[36:52] != SPAN
    assert bench.spans == ()


def test_spans_contain_neither_data_nor_users() -> None:
    bench = Bench()
    bench.take(event(PARENT), headers={"baggage": "user=alice", "__key": "alice"})
    bench.traces.delivered([(entry(PARENT, "alice"), 1, 0.1)])
    assert len(bench.spans) == 2
    assert "alice" not in "".join(span.to_json() for span in bench.spans)


def test_end_after_an_error_of_the_broker_ends_the_spans_as_failed() -> None:
    bench = Bench()
    bench.traces.begin("task-updates", [event()], {}).end()
    (span,) = bench.spans
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.status.is_ok) == ("internal", False)


def test_delivered_for_several_users_is_one_span_of_the_event() -> None:
    bench = Bench()
    other = PARENT.replace(SPAN, "a" * 16)
    entries = [entry(PARENT, "a"), entry(other), entry(PARENT, "b"), entry(f"{PARENT[:-2]}00")]
    bench.traces.delivered([(one, 2, float(place)) for place, one in enumerate(entries)])
    assert [dict(span.attributes or {}) for span in bench.spans] == [
        {
            "messaging.message.id": "e-1",
            "wsbridge.message.type": "task_update",
            "wsbridge.users": u,
            "wsbridge.sessions": s,
        }
        for u, s in ((2, 4), (1, 2))
    ]
    assert [round((span.end_time or 0) - (span.start_time or 0), -7) for span in bench.spans] == [2e9, 1e9]


@given(st.lists(st.builds(event, ANYTHING, partition=IDS, offset=IDS), max_size=3), ANYTHING, ANYTHING)
def test_hostile_traces_and_coordinates_lose_no_event_and_no_span(
    events: list[Event], traceparent: str, baggage: str
) -> None:
    bench = Bench(ALWAYS_ON)
    headers = {"traceparent": traceparent, "baggage": baggage, "tracestate": baggage}
    rejected = Rejected(Drop.NO_USER, traceparent, "", traceparent)
    read = bench.take(*events, rejected, headers=headers)
    assert [(e.id, e.data, trace_id(e.span) != "") for e in read if isinstance(e, Event)] == [
        ("e-1", event().data, True)
    ] * len(events)
    assert len(bench.spans) == len(events) + 1
    assert bench.errors == []


def test_error_of_the_library_loses_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    bench = Bench()
    delivery = bench.traces.begin("task-updates", [event()], {})
    monkeypatch.setattr(propagate, "extract", broken)
    assert bench.take(event(PARENT)) == [event(PARENT)]
    delivery.outcomes = []  # fewer than there are events
    delivery.end()
    bench.traces.delivered([(entry("no traceparent"), 1, 0.0)])
    assert [type(error) for error in bench.errors] == [ZeroDivisionError, StopIteration, ValueError]
