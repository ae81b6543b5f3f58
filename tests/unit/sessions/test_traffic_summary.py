"""One line a minute while anything happens."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.fake_time import Time
from tests.support.peer import Peer
from tests.support.running import until
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.traffic_summary import INTERVAL, TrafficSummary
from wsbridge.telemetry.metrics import Metrics

FIELDS = {
    "events_stored", "events_duplicate", "events_dropped", "events_retried", "deliveries", "opened", "closed", "errors",
    "connections", "users", "event", "log_level",
}  # fmt: skip


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def told(lines: list[Any]) -> list[dict[str, int]]:
    """The numbers in the lines, without zeros. Each line must be a summary."""
    assert {(line["event"], line["log_level"]) for line in lines} <= {("traffic.summary", "info")}
    names = ("event", "log_level")
    return [{name: count for name, count in line.items() if count and name not in names} for line in lines]


def test_traffic_summary_counts_since_the_last_line(lines: list[Any]) -> None:
    metrics, registry = Metrics(), Registry()
    summary = TrafficSummary(metrics, registry)
    peers = [Peer.live("a"), Peer.live("a")]  # the registry has weak references only
    for peer in peers:
        registry.add(peer.session)
    metrics.events["stored"] += 5
    metrics.events["dropped"] += 1
    metrics.deliveries += 9
    metrics.opened += 1
    summary.write()
    metrics.events["stored"] += 2
    metrics.events["retried"] += 3
    metrics.events["duplicate"] += 1
    metrics.session_closed(("1000", "client"), 3.0)
    metrics.session_closed(("4401", "token_missing"), None)
    metrics.failed("auth")
    summary.write()
    now = {"connections": 2, "users": 1}
    assert told(lines) == [
        {"events_stored": 5, "events_dropped": 1, "deliveries": 9, "opened": 1, **now},
        {"events_stored": 2, "events_retried": 3, "events_duplicate": 1, "closed": 2, "errors": 1, **now},
    ]
    assert all(set(line) == FIELDS for line in lines)


def test_traffic_summary_leaves_out_traffic_before_its_start(lines: list[Any]) -> None:
    metrics = Metrics()
    metrics.events["stored"] += 1
    TrafficSummary(metrics, Registry()).write()
    assert lines == []


def test_traffic_summary_without_traffic_logs_nothing(lines: list[Any]) -> None:
    registry = Registry()
    peer = Peer.live()
    registry.add(peer.session)
    summary = TrafficSummary(Metrics(), registry)
    summary.write()
    summary.write()
    assert lines == []


async def test_traffic_summary_logs_every_minute_and_at_the_end(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    time = Time(lambda: metrics.events.update(stored=1))
    monkeypatch.setattr("wsbridge.sessions.traffic_summary.asyncio", time)
    job = asyncio.ensure_future(TrafficSummary(metrics, Registry()).run())
    await until(lambda: len(lines) >= 3)
    assert set(time.slept) == {INTERVAL} == {60.0}
    metrics.events["dropped"] += 1
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    *before, last = told(lines)
    assert before == [{"events_stored": 1}] * 3
    assert last["events_dropped"] == 1
