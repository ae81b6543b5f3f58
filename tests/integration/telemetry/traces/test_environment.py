"""Bridges in processes of their own, whose traces are configured by the standard variables and go to a collector."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.collector import PARENT, TRACE, Collector
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.running import receive, until
from tests.support.spawned import Spawn, Spawned
from tests.support.valkey import Valkey

TASK = {"user_id": "u1", "title": "what nobody but the user may read"}
JSON = "application/json"
CONSUMER, INTERNAL = 5, 1


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the variables of the machine. Spans are exported at once."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_PROPAGATORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    return monkeypatch


@pytest.fixture
def exported(environ: pytest.MonkeyPatch, collector: Collector) -> pytest.MonkeyPatch:
    environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    return environ


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nothing listens."""
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_bridge_with_an_endpoint_exports_a_span_of_each_event(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    bridge = await spawn(LOG_LEVEL="debug")
    ws, _ = await bridge.opened()
    body = cloud_event(TASK, id="e-1", traceparent=PARENT, subject="u1")
    headers = {"__partition": "2", "__offset": "41", "__key": "u1"}
    assert await bridge.post(body, **headers) == {"status": "SUCCESS"}
    assert "traceparent" not in await receive(ws)
    span = await collector.span("process", "task-updates")
    assert (span.trace, span.parent, span.kind, span.links) == (TRACE, PARENT.split("-")[2], CONSUMER, [])
    assert span.attributes == {
        "messaging.system.name": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "task-updates",
        "messaging.destination.partition.id": "2",
        "messaging.message.id": "e-1",
        "messaging.message.body.size": len('{"user_id": "u1", "title": "what nobody but the user may read"}'),
        "kafka.offset": 41,
        "cloudevents.event_id": "e-1",
        "cloudevents.event_source": "backend",
        "wsbridge.users": 1,
        "wsbridge.outcome": "stored",
    }
    assert span.error is None
    assert span.began <= span.ended
    assert (span.scope, span.schema) == ("wsbridge", "https://opentelemetry.io/schemas/1.45.0")
    assert span.resource["service.name"] == "wsbridge"
    delivered = await collector.span("deliver", "task_update")
    assert (delivered.trace, delivered.parent, delivered.kind) == (TRACE, span.id, INTERNAL)
    assert delivered.attributes == {
        "messaging.message.id": "e-1",
        "wsbridge.message.type": "task_update",
        "wsbridge.users": 1,
        "wsbridge.sessions": 1,
    }
    assert len(collector.spans) == 2
    await until(lambda: bridge.of("event.delivered"))
    for event in ("event.received", "event.delivered"):
        assert [line["trace_id"] for line in bridge.of(event)] == [TRACE]


async def test_span_of_an_event_that_is_not_stored_has_the_reason(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    bridge = await spawn()
    other = "a" * 32
    await bridge.post(cloud_event({"title": "x"}, id="e-1", traceparent=PARENT))
    await bridge.post(cloud_event(TASK, id="e-2", traceparent=PARENT))
    await bridge.post(cloud_event(TASK, id="e-2", traceparent=f"00-{other}-00f067aa0ba902b7-01"))
    dropped = await collector.span("process", wsbridge__outcome="dropped")
    assert (dropped.trace, dropped.attributes["error.type"]) == (TRACE, "no_user")
    assert "user_id has no user" in (dropped.error or "")
    duplicate = await collector.span("process", wsbridge__outcome="duplicate")
    assert (duplicate.trace, duplicate.error) == (other, None)
    await until(lambda: bridge.of("event.duplicate"))
    [line] = bridge.of("event.dropped")
    assert (line["event_id"], line["trace_id"]) == ("e-1", TRACE)
    [line] = bridge.of("event.duplicate")
    assert (line["events"], line["trace_ids"]) == (["e-2"], [other])


async def test_bulk_each_event_continues_its_own_trace_and_links_the_delivery(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    bridge = await spawn()
    traces = [f"{n:032x}" for n in (1, 2)]
    events = [cloud_event(TASK, id=t, traceparent=f"00-{t}-00f067aa0ba902b7-01") for t in traces]
    await bridge.post(bulk_of(*events, cloud_event(TASK, id="none")), JSON, traceparent=PARENT, baggage="user=alice")
    own = [await collector.span("process", messaging__message__id=trace) for trace in traces]
    assert [(span.trace, span.parent) for span in own] == [(trace, "00f067aa0ba902b7") for trace in traces]
    assert [span.links for span in own] == [[f"{TRACE}-00f067aa0ba902b7"]] * 2
    without = await collector.span("process", messaging__message__id="none")
    assert (without.trace, without.parent, without.links) == (TRACE, "00f067aa0ba902b7", [])
    assert "alice" not in str(collector.spans)


async def test_replicas_span_of_the_delivery_is_below_that_of_the_receipt(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch, valkey: Valkey
) -> None:
    receiver, deliverer = [await spawn(REDIS_URL=valkey.url, SEND_TRACEPARENT="true") for _ in range(2)]
    ws, _ = await deliverer.opened()
    await receiver.post(cloud_event(TASK, id="e-1", traceparent=PARENT))
    message = await receive(ws)
    received = await collector.span("process")
    assert message["traceparent"] == f"00-{TRACE}-{received.id}-01"
    delivered = await collector.span("deliver", wsbridge__sessions=1)
    assert (delivered.trace, delivered.parent) == (TRACE, received.id)
    instances = {span.resource["service.instance.id"] for span in (received, delivered)}
    assert len(instances) == 2


async def test_bridge_by_default_follows_the_publishers_decision_to_sample(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    bridge = await spawn(SEND_TRACEPARENT="true")
    ws, _ = await bridge.opened()
    await bridge.post(cloud_event(TASK, traceparent=f"{PARENT[:-2]}00"))
    assert (await receive(ws))["traceparent"].startswith(f"00-{TRACE}-")
    await bridge.post(cloud_event(TASK, id="e-2", traceparent=PARENT))
    await collector.span("process")
    assert {span.attributes["messaging.message.id"] for span in collector.spans} == {"e-2"}


@pytest.mark.parametrize(
    ("variables", "spans", "event"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, 0, ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, 0, ""),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0, "traces.started"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, 0, "traces.off"),
        ({"OTEL_TRACES_EXPORTER": "console"}, 0, "traces.off"),
        ({"OTEL_PROPAGATORS": "no_such"}, 0, "traces.off"),
        ({"OTEL_SERVICE_NAME": "push", "OTEL_TRACES_SAMPLER": "always_on"}, 1, "traces.started"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, 1, "traces.started"),
    ],
    ids=lambda value: ",".join(f"{n}={v}" for n, v in value.items()) if isinstance(value, dict) else "",
)
async def test_bridge_obeys_the_standard_variables(
    spawn: Spawn,
    collector: Collector,
    exported: pytest.MonkeyPatch,
    variables: dict[str, str],
    spans: int,
    event: str,
) -> None:
    for name, value in variables.items():
        exported.setenv(name, value)
    bridge = await spawn()
    assert await bridge.post(cloud_event(TASK)) == {"status": "SUCCESS"}
    bridge.terminate()
    assert await bridge.code() == 0
    assert len(collector.spans) == spans
    assert {span.resource["service.name"] for span in collector.spans} <= {
        variables.get("OTEL_SERVICE_NAME", "wsbridge")
    }
    assert [line["event"] for line in bridge.lines if line["event"].startswith("traces.")] == [event] * bool(event)


async def test_bridge_without_the_library_says_how_to_install_it(spawn: Spawn, exported: pytest.MonkeyPatch) -> None:
    bridge = await spawn("import sys; sys.modules['opentelemetry'] = None")
    [line] = bridge.of("traces.off")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed" in line["why"]
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in line["why"]
    assert await bridge.post(cloud_event(TASK)) == {"status": "SUCCESS"}


async def test_bridge_without_variables_does_not_import_the_library(spawn: Spawn) -> None:
    watched = "import sys, atexit; atexit.register(lambda: sys.stderr.write(str('opentelemetry' in sys.modules)))"
    bridge = await spawn(watched)
    await bridge.post(cloud_event(TASK))
    bridge.terminate()
    assert await bridge.code() == 0
    assert bridge.errors.decode() == "False"


async def outage(bridge: Spawned, events: int = 1) -> None:
    for _ in range(events):
        assert await bridge.post(cloud_event(TASK, traceparent=PARENT)) == {"status": "SUCCESS"}


async def test_bridge_whose_collector_refuses_logs_it_once_and_the_recovery(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    collector.status = 400
    bridge = await spawn()
    await outage(bridge)
    await until(lambda: collector.requests == 1)
    await outage(bridge)
    await until(lambda: collector.requests == 2)
    collector.status = 200
    await outage(bridge)
    await until(lambda: bridge.of("traces.recovered"))
    [failing], [recovered] = bridge.of("traces.failing"), bridge.of("traces.recovered")
    assert "400" in failing["why"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in failing["todo"]
    assert (recovered["lost"], len(collector.spans)) == (2, 1)
    assert bridge.of("library.log") == []


async def test_bridge_whose_collector_is_unreachable_stops_in_time(
    spawn: Spawn, environ: pytest.MonkeyPatch, closed_port: int
) -> None:
    environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    bridge = await spawn()
    await outage(bridge, events=3)
    bridge.terminate()
    assert await bridge.code() == 0
    assert bridge.errors == b""
    assert len(bridge.of("traces.failing")) <= 1
    assert bridge.of("server.stopped")


async def test_bridge_whose_collector_never_answers_delivers_and_stops(
    spawn: Spawn, environ: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        environ.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        bridge = await spawn()
        ws, _ = await bridge.opened()
        await outage(bridge, events=3)
        for _ in range(3):
            await receive(ws)
        bridge.terminate()
        assert await bridge.code() == 0
    assert [line["why"] for line in bridge.of("traces.failing")] == ["the last spans were not exported within 2 s"]


async def test_bridge_at_its_end_exports_the_last_spans(
    spawn: Spawn, collector: Collector, exported: pytest.MonkeyPatch
) -> None:
    exported.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    bridge = await spawn()
    await outage(bridge, events=3)
    assert collector.spans == []
    bridge.terminate()
    assert await bridge.code() == 0
    assert len(collector.spans) == 3
