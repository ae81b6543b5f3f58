"""The log lines about events, and the traces in them."""

import pytest
from structlog.testing import capture_logs

from wsbridge.broker.base import DUPLICATE, STORED, retried
from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Drop, Retry
from wsbridge.dapr.event_log import EventLog
from wsbridge.telemetry.metrics import Metrics

OWN, PUBLISHER = "a" * 32, "b" * 32


def traceparent(trace: str) -> str:
    return f"00-{trace}-00f067aa0ba902b7-01"


def event(name: str, **fields: str) -> Event:
    return Event(("u",), b"{}", "task_update", name, "", **fields)  # type: ignore[arg-type] # only texts


@pytest.mark.parametrize(
    ("has_traces", "one", "several"), [(True, [PUBLISHER], [[PUBLISHER], [OWN, ""]]), (False, [None], [None, None])]
)
def test_lines_have_the_own_trace_or_that_of_the_publisher(
    has_traces: bool, one: list[str | None], several: list[list[str] | None]
) -> None:
    metrics = Metrics()
    log = EventLog(metrics, has_traces=has_traces)
    events = [
        event("1", trace=traceparent(PUBLISHER)),
        event("2", trace=traceparent(PUBLISHER), span=traceparent(OWN)),
        event("3", trace="hostile"),
        event("4"),
    ]
    full = retried(Retry.QUEUE_FULL)
    with capture_logs() as lines:
        log.outcomes(events, [DUPLICATE, full, full, STORED], "t")
        log.dropped(Rejected(Drop.NO_USER, "no user", "5", traceparent(PUBLISHER)), "t")
    lines = [line for line in lines if line["log_level"] != "debug"]
    assert [(line["event"], line.get("events")) for line in lines] == [
        ("event.duplicate", ["1"]),
        ("event.retried", ["2", "3"]),
        ("event.dropped", None),
    ]
    assert [line.get("trace_ids") for line in lines[:2]] == several
    assert [line.get("trace_id") for line in lines[2:]] == one
    assert [metrics.events[status] for status in ("stored", "duplicate")] == [1, 1]
