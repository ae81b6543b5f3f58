"""A trace through real sidecars: they and the bridge export their spans to one collector."""

from pathlib import Path

import msgspec
import pytest
import yaml

from tests.e2e.chain import Start
from tests.support.collector import Collector
from tests.support.running import receive


def tracing(path: Path, collector: Collector) -> str:
    """Write a Dapr Configuration that samples every trace and exports it as OTLP over HTTP."""
    otel = {"endpointAddress": f"127.0.0.1:{collector.port}", "isSecure": False, "protocol": "http"}
    spec = {"tracing": {"samplingRate": "1", "otel": otel}}
    kind = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "tracing"}}
    path.write_text(yaml.safe_dump(kind | {"spec": spec}))
    return str(path)


async def test_span_of_the_bridge_is_a_child_of_the_sidecars(
    chained: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    async with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        chain = await chained(configuration=tracing(tmp_path / "tracing.yaml", collector), SEND_TRACEPARENT="true")
        [pod] = chain.pods
        tab, _ = await pod.bridge.opened("alice")
        await chain.publisher.publish(msgspec.json.encode({"user_id": "alice"}), "alice")
        message = await receive(tab)
        processed = await collector.span("process", "task-updates")
        await collector.span("deliver", "task_update")
        parents = [span for span in collector.spans if span.id == processed.parent]
        assert [span.resource["service.name"] for span in parents] == ["backend"]
        assert {span.trace for span in (*parents, processed)} == {processed.trace}
        assert message["traceparent"] == f"00-{processed.trace}-{processed.id}-01"
        assert processed.attributes["messaging.system.name"] == "kafka"
        assert processed.attributes["cloudevents.event_source"] == "backend"
