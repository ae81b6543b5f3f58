"""Counts and logs what became of the events of a delivery."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from wsbridge.broker.base import STORED, Outcome, Status
from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Retry
from wsbridge.core.traceparents import trace_id
from wsbridge.telemetry.log import debugging, log
from wsbridge.telemetry.metrics import Metrics

SHOWN = 5  # ids in a log line about several events; the others are left out
SHOWN_TEXTS = 3  # different texts of one reason in a log line; the others are left out


@dataclass(eq=False)
class EventLog:
    """With `has_traces`, the lines have the ids of the events' traces."""

    metrics: Metrics
    _: KW_ONLY
    has_traces: bool

    def outcomes(self, events: Sequence[Event], outcomes: Sequence[Outcome], topic: str) -> None:
        """Count and log outcomes: each event at debug level only, else one line for each reason."""
        if debugging():
            for event, outcome in zip(events, outcomes, strict=True):
                log.debug(
                    "event.received", event_id=event.id, topic=topic, users=event.users[:SHOWN], outcome=outcome.status,
                    **({"traceparent": event.trace} if event.trace else {}), **self._trace_id(event),
                )  # fmt: skip
        if outcomes and outcomes.count(STORED) == len(outcomes):
            self.metrics.events[Status.STORED] += len(outcomes)  # nearly always
            return
        groups: dict[tuple[Status, Retry | None], list[int]] = {}
        for place, outcome in enumerate(outcomes):
            groups.setdefault(outcome[:2], []).append(place)
        for (status, reason), places in groups.items():
            count, shown = len(places), [events[place] for place in places[:SHOWN]]
            ids, traces = [event.id for event in shown], self._trace_ids(shown)
            if reason is not None:
                self.metrics.retried(reason, count)
                texts = dict.fromkeys(outcomes[place].detail for place in places if outcomes[place].detail)
                detail = {"detail": "; ".join(list(texts)[:SHOWN_TEXTS])} if texts else {}
                log.warning("event.retried", topic=topic, count=count, events=ids, **traces, why=reason, **detail)
                continue
            self.metrics.events[status] += count
            if status is Status.DUPLICATE:
                log.info("event.duplicate", topic=topic, count=count, events=ids, **traces)

    def dropped(self, event: Rejected, topic: str) -> None:
        self.metrics.dropped(event.reason)
        self.metrics.last_drops[event.reason] = f"{event.event_id or 'an event without an id'} of {topic}: {event.text}"
        trace = self._trace_id(event)
        log.warning("event.dropped", topic=topic, event_id=event.event_id, **trace, reason=event.reason, why=event.text)

    def _trace_id(self, event: Event | Rejected) -> dict[str, str]:
        """The field with the event's trace, if it has one."""
        own = trace_id(_traceparent(event)) if self.has_traces else ""
        return {"trace_id": own} if own else {}

    def _trace_ids(self, events: Sequence[Event]) -> dict[str, list[str]]:
        """The field with the traces of several events, in their order; "" for one without a trace."""
        return {"trace_ids": [trace_id(_traceparent(event)) for event in events]} if self.has_traces else {}


def _traceparent(event: Event | Rejected) -> str:
    """Of the event's own span, or of its publisher's."""
    return (event.span or event.trace) if isinstance(event, Event) else event.trace
