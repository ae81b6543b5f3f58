"""Metrics for Prometheus. The code calls a method per occurrence; a collector reads the counts at each scrape.

Counts are plain ints: an increment takes 62 ns, that of a labelled counter of prometheus-client 1,170 ns.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from wsbridge import __version__
from wsbridge.core.reasons import Drop, Retry
from wsbridge.telemetry.histogram import AGE, DURATION, LATENCY, STAGE, Histogram
from wsbridge.telemetry.log import log

OUTCOMES = ("stored", "duplicate", "dropped", "retried")
STAGES = ("kafka", "history", "socket", "handler")
ERRORS = ("internal", "auth", "denied", "bad_request", "timeout", "jwks")
REFUSALS = (
    "accept", "descriptors", "failures", "handshake_rate", "head_memory", "head_timeout", "header_bytes", "malformed",
    "pipelined", "silence", "unread",
)  # fmt: skip
Labels = TypeVar("Labels", str, tuple[str, str])  # the value of one label, or of two


class Metrics(Collector):
    """The metrics of one replica. Labels never contain user ids."""

    def __init__(self, closes: Iterable[tuple[str, str]] = (), topics: Iterable[str] = ()) -> None:
        """`closes` are all close codes and reasons: a series must exist before its first increment to show it."""
        self.registry = CollectorRegistry()
        self._families: list[Callable[[], Metric]] = []
        self.deliveries = self.sent = self.sent_bytes = self.received_bytes = self.opened = 0
        self.catch_ups = self.losses = 0
        self.loop = ""  # the name of the event loop
        self.subscription_read_at = self.delivered_at = self.lost_at = 0.0  # seconds since 1970; 0 means never
        self.last_drops: dict[Drop, str] = {}  # the last dropped event of each reason, with what was wrong
        self.watch(
            "last_subscription_read_timestamp_seconds",
            "When a sidecar last read the subscriptions, in seconds since 1970; 0 if it has not since the start.",
            lambda: self.subscription_read_at,
        )
        self.watch(
            "last_delivery_timestamp_seconds",
            "When a sidecar last posted a delivery, in seconds since 1970; 0 if it has not since the start.",
            lambda: self.delivered_at,
        )
        self._total("deliveries", "Events written to sockets, one for each socket.", lambda: self.deliveries)
        self._total("messages_sent", "Messages written to sockets.", lambda: self.sent)
        self._total("sent_bytes", "Bytes written to sockets.", lambda: self.sent_bytes)
        self._total("received_bytes", "Bytes of clients' text messages.", lambda: self.received_bytes)
        self._total("connections_opened", "Sessions that were opened.", lambda: self.opened)
        self._total("sessions_caught_up", "Sessions that missed a live event and read it.", lambda: self.catch_ups)
        self._total("history_losses", "Times that Redis had lost confirmed histories.", lambda: self.losses)
        self.events = self._counts(
            "events_received", "Events that the sidecar delivered, by outcome.", OUTCOMES, "outcome"
        )
        self.topics = self._counts(
            "topic_events",
            "Events of the deliveries that could be read, by topic and outcome.",
            ((topic, outcome) for topic in topics for outcome in OUTCOMES),
            "topic",
            "outcome",
        )
        self.retries = self._counts("events_retried", "Events that were answered RETRY, by reason.", Retry, "reason")
        self.drops = self._counts("events_dropped", "Events that were answered DROP, by reason.", Drop, "reason")
        self.messages = self._counts(
            "messages_received", "Messages of clients, by kind.", ("ping", "auth", "handled", "stale", "bad"), "kind"
        )
        self.gaps = self._counts(
            "gaps", "Clients that got a gap, by reason.", ("expired", "trimmed", "reset"), "reason"
        )
        self.closes = self._counts(
            "closes", "Connections that ended, by close code and reason.", closes, "code", "reason"
        )
        self.errors = self._counts("errors", "Errors, by kind.", ERRORS, "kind")
        self.refusals = self._counts(
            "connections_refused", "Connections refused, or cut before a response, by reason.", REFUSALS, "reason"
        )
        stages = {stage: Histogram(STAGE) for stage in STAGES}
        self._kafka, self._history, self._socket, self.handler = stages.values()
        self._histograms(
            "event_stage_seconds",
            "Stages of an event that was written to sockets: from Kafka's timestamp to the receipt, to the history and "
            "back, to the sockets; `handler` is to the end of a client's handlers, for the events that clients report. "
            "By the clocks of the machines; a negative time counts as 0.",
            stages,
            "stage",
        )
        self._age = self._histogram(
            "event_age_seconds",
            "From an event's time in Kafka to its receipt, by two machines' clocks; a negative age counts as 0.",
            AGE,
        )
        self._delivery = self._histogram(
            "event_delivery_seconds", "The sum of the first three stages, for events with a timestamp of Kafka.", STAGE
        )
        self.handled = self._histogram(
            "event_handled_seconds",
            "From the receipt of an event to the end of a client's handlers, if it reports.",
            STAGE,
        )
        self.redis_round_trip = self._histogram(
            "redis_round_trip_seconds",
            "From an append to Redis to its answer, including time-outs and the wait for the batch before it.",
            LATENCY,
        )
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "By how much a timer of the event loop was late, four times a second.", LATENCY
        )
        others = {"delivery": self._delivery, "redis": self.redis_round_trip, "loop_lag": self.loop_lag}
        self.latencies = {name: stages[name] for name in STAGES[:3]} | others
        self._duration = self._histogram("connection_duration_seconds", "Duration of sessions.", DURATION)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a gauge, which is read at each scrape."""
        self._families.append(lambda: GaugeMetricFamily(f"wsbridge_{name}", text, value=read()))

    def watch_each(self, name: str, text: str, read: Callable[[], Mapping[str, float]], label: str) -> None:
        """Register a gauge with a series for each item of the mapping, which is read at each scrape."""

        def family() -> Metric:
            found = GaugeMetricFamily(f"wsbridge_{name}", text, labels=[label])
            for value, number in read().items():
                found.add_metric([value], number)
            return found

        self._families.append(family)

    def count(self, name: str, text: str, counts: Mapping[Labels, int], *labels: str) -> None:
        """Register a counter of another part, whose `counts` contain every value of the labels from the start."""

        def family() -> Metric:
            found = CounterMetricFamily(f"wsbridge_{name}", text, labels=labels)
            for values, count in sorted(counts.items()):
                found.add_metric([values] if isinstance(values, str) else values, count)
            return found

        self._families.append(family)

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Without this method the registration would call `collect` before the gauges exist."""
        return []

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("wsbridge_info", "The version and the event loop.", labels=["version", "loop"])
        info.add_metric([__version__, self.loop], 1)
        yield info
        for family in self._families:
            yield family()

    def read(self, topic: str, events: int, outcomes: Sequence[tuple[str, Any, str]]) -> None:
        """Count the events of one delivery. Those without an outcome were dropped."""
        first = outcomes[0] if outcomes else None
        if first is not None and outcomes.count(first) == events:  # nearly always
            self.topics[topic, first[0]] += events
            return
        self.topics.update((topic, outcome[0]) for outcome in outcomes)
        self.topics[topic, "dropped"] += events - len(outcomes)

    def retried(self, reason: Retry, events: int = 1) -> None:
        self.events["retried"] += events
        self.retries[reason] += events

    def dropped(self, reason: Drop, events: int = 1) -> None:
        self.events["dropped"] += events
        self.drops[reason] += events

    def aged(self, seconds: float) -> None:
        """Record the age of a received event. It can be negative, since two clocks differ; then it counts as 0."""
        self._age.observe(max(0.0, seconds))

    def delivered(self, now: float, received: float, queued: float, produced: Sequence[float | None]) -> None:
        """Record the stages of events of one receipt that were written to sockets `now`.

        The first three times are by the loop's clock. `produced` are the times in Kafka in seconds since 1970, or None.
        """
        count = len(produced)
        self._history.observe(queued - received, count)
        self._socket.observe(now - queued, count)
        if produced.count(None) < count:
            wait = now - received
            received_at = time.time() - wait
            ages = [age if (age := received_at - at) > 0 else 0.0 for at in produced if at is not None]
            self._kafka.observe_each(ages)
            self._delivery.observe_each([age + wait for age in ages])

    def wrote(self, messages: int, size: int) -> None:
        self.sent += messages
        self.sent_bytes += size

    def message_received(self, kind: str, size: int) -> None:
        """Count a message of a client; `kind` is one of those above, `size` in bytes."""
        self.messages[kind] += 1
        self.received_bytes += size

    def session_closed(self, close: tuple[str, str], seconds: float | None) -> None:
        """Count a close by code and reason; `seconds` is the duration, None for a refused connection."""
        self.closes[close] += 1
        if seconds is not None:
            self._duration.observe(seconds)

    def connection_refused(self, reason: str) -> None:
        """Count a connection that was refused, or cut before its request was answered; `reason` is one of REFUSALS."""
        self.refusals[reason] += 1

    def failed(self, kind: str) -> None:
        """Count an error; `kind` is one of ERRORS."""
        self.errors[kind] += 1

    def internal(self, doing: str, error: object, **fields: object) -> None:
        """Log and count an internal error. This is the only place for it. `error` is an exception or its `exc_info`."""
        self.failed("internal")
        log.error("internal.error", doing=doing, **fields, exc_info=error)

    def _total(self, name: str, text: str, read: Callable[[], int]) -> None:
        """Register a counter without labels."""
        self._families.append(lambda: CounterMetricFamily(f"wsbridge_{name}", text, read()))

    def _counts(self, name: str, text: str, values: Iterable[Labels], *labels: str) -> Counter[Labels]:
        """Register a counter with a series for each of the values."""
        counts = Counter(dict.fromkeys(values, 0))
        self.count(name, text, counts, *labels)
        return counts

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        histogram = Histogram(bounds)
        self._histograms(name, text, {"": histogram})
        return histogram

    def _histograms(self, name: str, text: str, histograms: Mapping[str, Histogram], *label: str) -> None:
        """Register one histogram for each value of the label, or a single one without a label."""

        def family() -> Metric:
            found = HistogramMetricFamily(f"wsbridge_{name}", text, labels=label)
            for value, histogram in histograms.items():
                found.add_metric([value] if label else [], histogram.buckets(), histogram.sum)
            return found

        self._families.append(family)
