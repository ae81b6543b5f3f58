"""A port that counts and limits its connections, without a server."""

import asyncio
from typing import Any, cast

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
        write_timeout=1.0,
        linger=1.0,
    )
