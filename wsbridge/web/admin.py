"""Routes for operators and probes: health, stats, metrics."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from wsbridge import __version__
from wsbridge.core.timestamps import timestamp
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.registry import REGISTRY
from wsbridge.supervision.health_checks import Checks, passes
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations


@dataclass(eq=False, kw_only=True)
class AdminHandler:
    """`shows_details` decides whether the response to a request may name checks, which can reveal internal servers."""

    admission: Admission
    metrics: Metrics
    checks: Checks
    stations: Stations
    shows_details: Callable[[web.Request], bool]
    started: float = field(default_factory=time.monotonic)

    async def health(self, request: web.Request) -> web.Response:
        """Readiness: 503 until each required check has succeeded once, and during the drain. Degraded is ready."""
        found = dict(self.checks.run())
        is_ready = self.checks.are_ready() and not self.admission.draining
        is_healthy = all(map(passes, found.values()))
        status = "unavailable" if not is_ready else "healthy" if is_healthy else "degraded"
        body: dict[str, object] = {"status": status}
        if self.shows_details(request):
            body |= {
                "checks": found,
                "connections": len(request.app[REGISTRY]),
                "uptime_seconds": round(time.monotonic() - self.started),
                "version": __version__,
            }
        return _json(body, status=200 if is_ready else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        """Liveness, for Kubernetes and the sidecar. Once a background job has ended, the middleware answers 503."""
        return web.Response(text="ok\n")

    async def stats(self, request: web.Request) -> web.Response:
        registry = request.app[REGISTRY]
        users = registry.users()
        deliveries = {partition: timestamp(at) for partition, at in self.stations.deliveries.items()}
        return _json(
            {
                "total_users": len(users),
                "total_connections": len(registry),
                "users": users,
                "replica": self.stations.replica,
                "started_at": timestamp(self.stations.started_at),
                "at": timestamp(time.time()),
                "deliveries": deliveries if self.stations.is_on else None,
            }
        )

    async def scrape(self, request: web.Request) -> web.Response:
        encode, content_type = _encoder(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=encode(self.metrics.registry), headers={hdrs.CONTENT_TYPE: content_type})


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """The encoder for an `Accept` header; the text format if the header is malformed."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # raised by prometheus-client for an odd `version`
        return choose_encoder("")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
