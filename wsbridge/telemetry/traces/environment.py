"""Starts traces if the standard `OTEL_…` variables ask for them. OpenTelemetry's own code reads the variables."""

# ruff: noqa: PLC0415 - the library is optional, and takes half a second to import

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wsbridge import __version__
from wsbridge.telemetry.log import log
from wsbridge.telemetry.traces.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

DESTINATION = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
HTTP = "http/protobuf"
PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
FLUSH_TIMEOUT = 2.0  # seconds at the end for the last spans


@contextlib.contextmanager
def tracing(environ: Mapping[str, str], *, sends_all: bool) -> Iterator[Traces | None]:
    """Traces for as long as the context is open, or None. `sends_all` is that of `Spans`."""
    started = _start(environ, sends_all=sends_all)
    if started is None:
        yield None
        return
    provider, traces = started
    try:
        yield traces
    finally:
        _close(provider)


def _start(environ: Mapping[str, str], *, sends_all: bool) -> tuple["TracerProvider", Traces] | None:
    """Start traces if the variables ask for them. A problem is logged, and the bridge runs without traces."""
    asking = next((name for name in DESTINATION if environ.get(name)), None)
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if asking is None or exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or HTTP
    why = ""
    try:
        if (exporter, protocol) == ("otlp", HTTP):
            return _create(sends_all=sends_all)
        why = f"the exporter {exporter} with the protocol {protocol} is not supported; use otlp with {HTTP}"
    except ModuleNotFoundError as error:
        missing = f"{asking} is set, but OpenTelemetry is not installed (no module {error.name})"
        why = f"{missing}; {sys.executable} -m pip install {PACKAGES}"
    except Exception as error:  # the boundary: a wrong variable must not stop the bridge
        why = f"{error}; correct the OTEL_ variable, or set OTEL_SDK_DISABLED=true"
    log.warning("traces.off", why=why)
    return None


def _create(*, sends_all: bool) -> tuple["TracerProvider", Traces]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from wsbridge.telemetry.traces.exporter import LIBRARY, ReportedExporter, Reporter
    from wsbridge.telemetry.traces.spans import SCHEMA, Spans

    reporter = Reporter()
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # its value if no variable has a name
        resource = resource.merge(Resource({"service.name": "wsbridge"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # that would take up to 30 s
    provider.add_span_processor(BatchSpanProcessor(ReportedExporter(OTLPSpanExporter(), reporter)))
    exporters = logging.getLogger(LIBRARY)
    exporters.handlers, exporters.propagate = [reporter], False
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)  # it warns of each `traceparent` that is too long
    log.info("traces.started", service=resource.attributes["service.name"], sampler=provider.sampler.get_description())
    return provider, Spans(provider.get_tracer("wsbridge", __version__, SCHEMA), reporter.failed, sends_all=sends_all)


def _close(provider: "TracerProvider") -> None:
    """Export the last spans. If that takes too long, they are lost: the process must not end late."""
    closing = threading.Thread(target=provider.shutdown, daemon=True)
    closing.start()
    closing.join(FLUSH_TIMEOUT)
    if closing.is_alive():
        log.warning("traces.failing", why=f"the last spans were not exported within {FLUSH_TIMEOUT:g} s")
