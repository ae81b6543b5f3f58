"""The log lines about exports that fail."""

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from wsbridge.telemetry.traces.exporter import ReportedExporter, Reporter


class Faulty(SpanExporter):
    """Fails as long as it has messages, which it logs."""

    def __init__(self, reporter: Reporter) -> None:
        self.messages: list[str] = []
        self.calls: list[str] = []
        self._logger = logging.getLogger("test.exporter")
        self._logger.handlers = []
        self._logger.addHandler(reporter)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for message in self.messages:
            self._logger.warning(message)
        return SpanExportResult.FAILURE if self.messages else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.calls.append(f"flush within {timeout_millis}")
        return True


def test_outage_is_one_line_with_the_first_cause_and_its_end_one_with_the_loss() -> None:
    reporter = Reporter()
    faulty = Faulty(reporter)
    exporter = ReportedExporter(faulty, reporter)
    spans = [ReadableSpan("a"), ReadableSpan("b")]
    with capture_logs() as lines:
        exporter.export(spans)
        faulty.messages = ["connection refused", "timeout"]
        exporter.export(spans)
        exporter.export(spans)
        faulty.messages = []
        exporter.export(spans)
        exporter.export(spans)
        reporter.failed(ValueError("of a plug-in"))
    assert [(line["event"], line.get("why"), line.get("lost")) for line in lines] == [
        ("traces.failing", "connection refused", None),
        ("traces.recovered", None, 4),
        ("traces.failing", "ValueError('of a plug-in')", None),
    ]
    assert "4318" in lines[0]["todo"]
    assert "todo" not in lines[2]


def test_exporter_passes_on_its_end() -> None:
    faulty = Faulty(Reporter())
    exporter = ReportedExporter(faulty, Reporter())
    assert exporter.force_flush(7)
    exporter.shutdown()
    assert faulty.calls == ["flush within 7", "shutdown"]
