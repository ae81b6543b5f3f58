"""Logs failures to export spans: one line when they begin, one when they end."""

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from wsbridge.telemetry.log import log

LIBRARY = "opentelemetry.exporter"  # the logger of all exporters
TODO = "spans are dropped meanwhile; check OTEL_EXPORTER_OTLP_ENDPOINT: OTLP over HTTP, usually port 4318"


class Reporter(logging.Handler):
    """Receives the library's log lines about an export: the first one has the cause, and retries would repeat it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cause = ""
        self._is_failing = False
        self._lost = 0  # spans

    def emit(self, record: logging.LogRecord) -> None:
        self.cause = self.cause or record.getMessage()

    def failed(self, error: Exception | None = None, lost: int = 0) -> None:
        """Report a failed export, or an error of the library, once. `lost` is a number of spans."""
        self._lost += lost
        if not self._is_failing:
            self._is_failing = True
            if error is None:
                log.warning("traces.failing", why=self.cause or "the export has failed", todo=TODO)
            else:
                log.warning("traces.failing", why=repr(error), exc_info=error)

    def succeeded(self) -> None:
        if self._is_failing:
            log.info("traces.recovered", lost=self._lost)
        self._is_failing, self._lost = False, 0


class ReportedExporter(SpanExporter):
    """Exports spans with another exporter. Runs in the thread of its span processor."""

    def __init__(self, exporter: SpanExporter, reporter: Reporter) -> None:
        self._exporter = exporter
        self._reporter = reporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reporter.cause = ""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._reporter.succeeded()
        else:
            self._reporter.failed(lost=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
