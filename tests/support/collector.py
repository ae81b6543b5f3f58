"""A collector of traces: an OTLP/HTTP receiver that parses the protobuf of OpenTelemetry itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.support.running import Served, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"  # a `traceparent` that is sampled


class Span(NamedTuple):
    """A span as it was received. Ids are in hex; `links` are `trace id-span id`."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    attributes: dict[str, Any]
    links: list[str]
    error: str | None  # the description if its status is an error
    began: int
    ended: int
    resource: dict[str, Any]
    scope: str
    schema: str


class Collector(Served):
    """`async with Collector() as collector`: it keeps every span. With `status`, it refuses all of them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.status = 200
        self.requests = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.post("/v1/traces", self._take)]

    def named(self, *words: str) -> list[Span]:
        """The spans whose name has the words, so far."""
        return [span for span in self.spans if set(words) <= set(span.name.split())]

    async def span(self, *words: str, **attributes: Any) -> Span:
        """Wait for a span with such a name and these attributes, whose dots are written as `__`."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}

        def found() -> list[Span]:
            return [span for span in self.named(*words) if wanted.items() <= span.attributes.items()]

        await until(found)
        return found()[0]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        if self.status == 200:
            self.spans += spans_of(body)
        response = ExportTraceServiceResponse().SerializeToString()
        return web.Response(status=self.status, body=response, content_type="application/x-protobuf")


def spans_of(body: bytes) -> list[Span]:
    return [
        Span(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            _values(span.attributes),
            [f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links],
            span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _values(group.resource.attributes),
            scope.scope.name,
            scope.schema_url,
        )
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _values(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
