"""The middleware of all routes; tests on real sockets are in test_faults."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.support.logs import Logs
from wsbridge.connections import middleware
from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.supervision.jobs import Jobs
from wsbridge.telemetry.metrics import Metrics


async def answer(request: web.Request) -> web.StreamResponse:
    return web.Response(text="from the route")


@pytest.mark.fault("C1")
async def test_intake_content_encoding_without_a_body_passes(logs: Logs) -> None:
    metrics = Metrics()
    rate_limits = RateLimits(failure_rate=1, handshake_rate=1, trusts=lambda _: False)
    request = make_mocked_request("GET", "/health", {"Content-Encoding": "gzip"})
    response = await middleware.middleware(metrics, rate_limits, TrustedProxies(()), Jobs())(request, answer)
    assert response.status == 200
    assert not +metrics.errors
    assert not logs.of("request.bad")
