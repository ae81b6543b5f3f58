"""Metrics for Prometheus. The code calls a method per occurrence; a collector reads the counts at each scrape.

Counts are plain ints: an increment takes 62 ns, that of a labelled counter of prometheus-client 1,170 ns.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wsbridge import __version__
from wsbridge.core.reasons import Drop, Retry
from wsbridge.telemetry.histogram import AGE, DURATION, LATENCY, Histogram
from wsbridge.telemetry.log import log

ERRORS = ("internal", "auth", "denied", "bad_request", "timeout", "jwks")
REFUSALS = (
    "accept", "descriptors", "failures", "handshake_rate", "head_memory", "head_timeout", "header_bytes", "malformed",
    "pipelined", "silence",
)  # fmt: skip


class Metrics:
    """The metrics of one replica. Labels never contain user ids."""

    def __init__(self, closes: Iterable[tuple[str, str]] = ()) -> None:
        """`closes` are all close codes and reasons: a series must exist before its first increment to show it."""
        self.registry = CollectorRegistry()
        self.events: Counter[str] = Counter(stored=0, duplicate=0, dropped=0, retried=0)
        self.retries: Counter[str] = Counter(dict.fromkeys(Retry, 0))
        self.drops: Counter[str] = Counter(dict.fromkeys(Drop, 0))
        self.deliveries = 0
        self.sent = 0
        self.sent_bytes = self.received_bytes = 0
        self.messages: Counter[str] = Counter(ping=0, auth=0, bad=0)
        self.opened = self.mends = 0
        self.gaps: Counter[str] = Counter(expired=0, trimmed=0, reset=0)
        self.closes: Counter[tuple[str, str]] = Counter(dict.fromkeys(closes, 0))
        self.refusals: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.errors: Counter[str] = Counter(dict.fromkeys(ERRORS, 0))
        self.subscription_read_at = self.delivered_at = 0.0  # seconds since 1970; 0 means never
        self._latency = Histogram(LATENCY)
        self._age = Histogram(AGE)
        self._way = Histogram(AGE)
        self._redis = Histogram(LATENCY)
        self._duration = Histogram(DURATION)
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._counters: list[tuple[str, str, Counter[str], str]] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_MetricsCollector(self))

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a gauge, which is read at each scrape."""
        self._gauges.append((name, text, read))

    def count(self, name: str, text: str, counts: Counter[str], label: str) -> None:
        """Register a counter of another part, whose `counts` contain every value of the label from the start."""
        self._counters.append((name, text, counts, label))

    def events_received(self, outcome: str, events: int = 1) -> None:
        """Count events that are in the history now; `outcome` is stored or duplicate."""
        self.events[outcome] += events

    def retried(self, reason: Retry, events: int = 1) -> None:
        self.events["retried"] += events
        self.retries[reason] += events

    def dropped(self, reason: Drop, events: int = 1) -> None:
        self.events["dropped"] += events
        self.drops[reason] += events

    def subscription_read(self) -> None:
        self.subscription_read_at = time.time()

    def delivery_came(self) -> None:
        """Record that the sidecar has posted a delivery, with any outcome."""
        self.delivered_at = time.time()

    def aged(self, seconds: float) -> None:
        """Record the age of a received event. It can be negative, since two clocks differ; then it counts as 0."""
        self._age.observe(max(0.0, seconds))

    def arrived(self, produced: Iterable[float]) -> None:
        """Record a write of events to sockets now; `produced` are their times in Kafka, in seconds since 1970."""
        now = time.time()
        for at in produced:
            self._way.observe(max(0.0, now - at))

    def redis_answered(self, seconds: float) -> None:
        self._redis.observe(seconds)

    def delivered(self, latency: float, events: int, sockets: int) -> None:
        """Record a batch of events: seconds from receipt to write, number of events, number of writes to sockets."""
        self.deliveries += sockets
        self._latency.observe(latency, events)

    def wrote(self, messages: int, size: int) -> None:
        self.sent += messages
        self.sent_bytes += size

    def heard(self, kind: str, size: int) -> None:
        """Count a message of a client; `kind` is ping, auth or bad, `size` in characters."""
        self.messages[kind] += 1
        self.received_bytes += size

    def session_opened(self) -> None:
        self.opened += 1

    def session_closed(self, close: tuple[str, str], seconds: float | None) -> None:
        """Count a close by code and reason; `seconds` is the duration, None for a refused connection."""
        self.closes[close] += 1
        if seconds is not None:
            self._duration.observe(seconds)

    def closed(self, code: str) -> int:
        """The number of closes with that code, over all reasons."""
        return sum(count for (known, _), count in self.closes.items() if known == code)

    def session_mended(self) -> None:
        """Count a session that missed a live entry and read it from the history."""
        self.mends += 1

    def gap(self, reason: str) -> None:
        """Count a client that was told of lost events."""
        self.gaps[reason] += 1

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

    def families(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("wsbridge_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield GaugeMetricFamily(
            "wsbridge_last_subscription_read_timestamp_seconds",
            "When a sidecar last read the subscriptions, in seconds since 1970; 0 if it has not since the start.",
            value=self.subscription_read_at,
        )
        yield GaugeMetricFamily(
            "wsbridge_last_delivery_timestamp_seconds",
            "When a sidecar last posted a delivery, in seconds since 1970; 0 if it has not since the start.",
            value=self.delivered_at,
        )
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(f"wsbridge_{name}", text, value=read())
        for name, text, counts, label in self._counters:
            yield _counter(name, text, counts, label)
        yield _counter(
            "events_received",
            "Events that the sidecar delivered, by what became of them.",
            self.events,
            "outcome",
        )
        yield _counter("events_retried", "Events that were answered RETRY, by reason.", self.retries, "reason")
        yield _counter("events_dropped", "Events that were answered DROP, by reason.", self.drops, "reason")
        yield CounterMetricFamily(
            "wsbridge_deliveries", "Events written to sockets, one for each socket.", self.deliveries
        )
        yield CounterMetricFamily("wsbridge_messages_sent", "Messages written to sockets.", self.sent)
        yield CounterMetricFamily("wsbridge_sent_bytes", "Bytes written to sockets.", self.sent_bytes)
        yield _counter("messages_received", "Messages of clients, by kind.", self.messages, "kind")
        yield CounterMetricFamily("wsbridge_connections_opened", "Sessions that were opened.", self.opened)
        yield CounterMetricFamily(
            "wsbridge_sessions_mended", "Sessions that missed a live event and read the history.", self.mends
        )
        yield _counter("gaps", "Clients that were told of a gap, by reason.", self.gaps, "reason")
        yield CounterMetricFamily("wsbridge_received_bytes", "Text of clients' messages.", self.received_bytes)
        closes = CounterMetricFamily(
            "wsbridge_closes", "Connections that ended, by close code and reason.", labels=["code", "reason"]
        )
        for labels, count in sorted(self.closes.items()):
            closes.add_metric(labels, count)
        yield closes
        yield _counter("errors", "What went wrong, by kind.", self.errors, "kind")
        yield _counter(
            "connections_refused",
            "Connections that were refused or cut before a request of theirs was answered, by reason.",
            self.refusals,
            "reason",
        )
        yield self._latency.family(
            "wsbridge_event_latency_seconds",
            "From an event's receipt to its write to the sockets. With Redis the receipt is that of the replica which "
            "took it, by that machine's clock; what is negative by it counts as 0.",
        )
        yield self._age.family(
            "wsbridge_event_age_seconds",
            "From an event's time in Kafka to its receipt, by two machines' clocks; what is negative counts as 0.",
        )
        yield self._way.family(
            "wsbridge_event_delivery_age_seconds",
            "From an event's time in Kafka to its write to the sockets, by two machines' clocks; what is negative "
            "counts as 0.",
        )
        yield self._redis.family(
            "wsbridge_redis_round_trip_seconds",
            "From a call to Redis to its answer, with the wait for the batch before; time-outs count, too.",
        )
        yield self._duration.family("wsbridge_connection_duration_seconds", "How long sessions lasted.")


def _counter(name: str, text: str, counts: Counter[str], label: str) -> Metric:
    family = CounterMetricFamily(f"wsbridge_{name}", text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


class _MetricsCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Without this method the registration would call `collect` before the gauges exist."""
        return []

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()
