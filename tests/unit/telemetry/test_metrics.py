"""The output for Prometheus, read with Prometheus' own parser."""

import re
import time
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from wsbridge import __version__
from wsbridge.core.reasons import Drop, Retry
from wsbridge.telemetry.histogram import STAGE
from wsbridge.telemetry.metrics import OUTCOMES, STAGES, Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(metrics: Metrics) -> Samples:
    """(name, labels) → value of the metrics of the bridge."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("wsbridge_")
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return scraped(metrics)[f"wsbridge_{name}", tuple(sorted(labels.items()))]


def test_metrics_at_the_start_contain_all_series() -> None:
    metrics = Metrics()
    for outcome in ("stored", "duplicate", "dropped", "retried"):
        assert value(metrics, "events_received_total", outcome=outcome) == 0
    for retry in Retry:
        assert value(metrics, "events_retried_total", reason=retry) == 0
    for drop in Drop:
        assert value(metrics, "events_dropped_total", reason=drop) == 0
    for kind in ("ping", "auth", "bad"):
        assert value(metrics, "messages_received_total", kind=kind) == 0
    for name in ("deliveries_total", "messages_sent_total", "sent_bytes_total", "connections_opened_total"):
        assert value(metrics, name) == 0
    assert value(metrics, "info", version=__version__, loop="") == 1
    for stage in STAGES:
        assert value(metrics, "event_stage_seconds_count", stage=stage) == 0
    assert value(metrics, "connection_duration_seconds_count") == 0


def test_metrics_include_process_and_interpreter() -> None:
    text = generate_latest(Metrics().registry).decode()
    for name in ("process_resident_memory_bytes", "process_open_fds", "python_gc_collections_total", "python_info"):
        assert f"\n{name}" in text


VERBS: dict[str, tuple[Callable[[Metrics], None], dict[str, float]]] = {
    "received": (lambda m: m.events.update(duplicate=5), {'events_received_total{outcome="duplicate"}': 5}),
    "retried": (
        lambda m: m.retried(Retry.QUEUE_FULL, 3),
        {'events_received_total{outcome="retried"}': 3, 'events_retried_total{reason="queue_full"}': 3},
    ),
    "dropped": (
        lambda m: m.dropped(Drop.NO_USER),
        {'events_received_total{outcome="dropped"}': 1, 'events_dropped_total{reason="no_user"}': 1},
    ),
    "delivered": (
        lambda m: m.delivered(9.0, 7.0, 8.0, [time.time(), None, time.time()]),
        {
            'event_stage_seconds_count{stage="kafka"}': 2,
            'event_stage_seconds_count{stage="history"}': 3,
            'event_stage_seconds_count{stage="socket"}': 3,
            "event_delivery_seconds_count": 2,
        },
    ),
    "wrote": (lambda m: m.wrote(3, 512), {"messages_sent_total": 3, "sent_bytes_total": 512}),
    "message_received": (
        lambda m: m.message_received("ping", 15),
        {'messages_received_total{kind="ping"}': 1, "received_bytes_total": 15},
    ),
    "opened": (lambda m: setattr(m, "opened", 1), {"connections_opened_total": 1}),
    "lost": (lambda m: setattr(m, "losses", 1), {"history_losses_total": 1}),
    "caught up": (lambda m: setattr(m, "catch_ups", 1), {"sessions_caught_up_total": 1}),
    "closed": (
        lambda m: m.session_closed(("1012", "shutdown"), 30),
        {"closes_total": 1, "connection_duration_seconds_count": 1, "connection_duration_seconds_sum": 30},
    ),
    "refused": (lambda m: m.session_closed(("4401", "token_missing"), None), {"closes_total": 1}),
    "aged": (lambda m: m.aged(20), {"event_age_seconds_count": 1, "event_age_seconds_sum": 20}),
    "aged by a clock that is behind": (lambda m: m.aged(-20), {"event_age_seconds_count": 1}),
    "redis": (lambda m: m.redis_round_trip.observe(0.5), {"redis_round_trip_seconds_count": 1}),
    "failed": (lambda m: m.failed("internal"), {'errors_total{kind="internal"}': 1}),
}


@pytest.mark.parametrize(("verb", "expected"), VERBS.values(), ids=VERBS)
def test_metrics_method_changes_its_own_series_only(
    verb: Callable[[Metrics], None], expected: dict[str, float]
) -> None:
    metrics = Metrics()
    before = scraped(metrics)
    verb(metrics)
    after = scraped(metrics)
    moved = {
        name.removeprefix("wsbridge_") + (f'{{{labels[0][0]}="{labels[0][1]}"}}' if len(labels) == 1 else ""): number
        for (name, labels), number in after.items()
        if number != before.get((name, labels), 0)
    }
    derived = {name for name in moved if "_bucket" in name or "_sum" in name} - set(expected)
    assert {name: number for name, number in moved.items() if name not in derived} == expected


STORED, RETRIED = ("stored", None, ""), ("retried", Retry.QUEUE_FULL, "")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([STORED] * 3, {"stored": 3}),
        ([], {"dropped": 3}),
        ([STORED, RETRIED], {"stored": 1, "retried": 1, "dropped": 1}),
    ],
)
def test_events_of_a_delivery_are_counted_by_topic(
    outcomes: list[tuple[str, Retry | None, str]], expected: dict[str, int]
) -> None:
    metrics = Metrics(topics=["t"])
    metrics.read("t", 3, outcomes)
    counts = {o: value(metrics, "topic_events_total", topic="t", outcome=o) for o in OUTCOMES}
    assert counts == dict.fromkeys(OUTCOMES, 0) | expected


def test_gauge_is_read_at_each_scrape() -> None:
    metrics, depth = Metrics(), [3]
    metrics.watch("queue_depth", "Entries in the bus.", lambda: depth[0])
    assert value(metrics, "queue_depth") == 3
    depth[0] = 4
    assert value(metrics, "queue_depth") == 4


@pytest.mark.parametrize(("age", "kafka"), [(20.0, 20.0), (-20.0, 0.0)])
def test_stages_of_an_event_add_up_to_its_delivery(age: float, kafka: float) -> None:
    metrics, now = Metrics(), time.monotonic()
    metrics.delivered(now, now - 3, now - 2, [time.time() - 3 - age])
    stages = [value(metrics, "event_stage_seconds_sum", stage=stage) for stage in STAGES[:3]]
    assert stages == pytest.approx([kafka, 1, 2], abs=0.1)
    assert value(metrics, "event_delivery_seconds_sum") == pytest.approx(sum(stages))


def test_metrics_of_two_bridges_are_separate() -> None:
    first, second = Metrics(), Metrics()
    first.failed("internal")
    assert value(first, "errors_total", kind="internal") == 1
    assert value(second, "errors_total", kind="internal") == 0


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, "0.0005"), (0.0005, "0.0005"), (0.00051, "0.001"), (4.9, "5.0"), (3600.1, "+Inf"), (-0.1, "0.0005")],
)
def test_stage_counts_in_its_bucket_and_all_above(seconds: float, bucket: str) -> None:
    metrics = Metrics()
    metrics.delivered(seconds, 0.0, 0.0, [None])
    bounds = [*map(str, STAGE), "+Inf"]
    counts = [value(metrics, "event_stage_seconds_bucket", le=le, stage="socket") for le in bounds]
    assert counts == [0.0] * bounds.index(bucket) + [1.0] * (len(bounds) - bounds.index(bucket))


def test_metrics_names_and_help_texts_follow_prometheus_conventions() -> None:
    metrics = Metrics()
    metrics.watch("connections", "Open sessions.", lambda: 0)
    for family in metrics.collect():
        assert re.fullmatch(r"wsbridge_[a-z_]+", family.name)
        assert re.fullmatch(r"[A-Z].*\.", family.documentation)
