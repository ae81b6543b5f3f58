"""The limits of handshakes of a port."""

import asyncio
from typing import Any, cast

import pytest

from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.guarded_port import GuardedPort
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import Refusals
from wsbridge.telemetry.metrics import Metrics


def port(metrics: Metrics, *, limit: int, handshake_rate: float) -> GuardedPort:
    rate_limits = RateLimits(failure_rate=1.0, handshake_rate=handshake_rate, trusts=lambda _: False, clock=lambda: 9.0)
    return GuardedPort(
        direct=cast("Any", None),  # not called here
        server=asyncio.Protocol,
        connection_limit=ConnectionLimit(limit, metrics),
        metrics=metrics,
        rate_limits=rate_limits,
        refusals=Refusals(metrics, rate_limits, TrustedProxies([]), 1_000),
        max_header_bytes=1_000,
        head_timeout=1.0,
        keep_alive=1.0,
    )


@pytest.mark.parametrize(
    ("limit", "rate", "admitted", "reason"), [(10, 2.0, 4, "handshake_rate"), (-1, 2.0, 0, "descriptors")]
)
def test_port_over_a_limit_refuses_handshakes_and_counts_why(
    limit: int, rate: float, admitted: int, reason: str
) -> None:
    metrics = Metrics()
    found = port(metrics, limit=limit, handshake_rate=rate)
    assert sum(found.admits_handshake() for _ in range(6)) == admitted
    assert metrics.refusals[reason] == 6 - admitted
