"""What all connections of one port share: aiohttp's server, and the limits that apply to every peer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import Refusals
from wsbridge.telemetry.metrics import Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedPort:
    """Times are in seconds."""

    server: Callable[[], asyncio.Protocol]  # makes aiohttp's protocol
    connection_limit: ConnectionLimit
    metrics: Metrics
    rate_limits: RateLimits
    refusals: Refusals
    max_header_bytes: int
    head_timeout: float  # from the first byte of a head to its last; from the connection on for an unknown peer
    keep_alive: float  # that a connection may be silent before, between and after requests
    cookie: bytes | None  # the only cookie of a handshake that is passed on

    def admits_handshake(self) -> bool:
        """Whether one more handshake may become a session now. Each call that says so uses up some of the rate."""
        if self.connection_limit.is_full:
            self.metrics.connection_refused("descriptors")
            return False
        if not self.rate_limits.take_handshake():
            self.metrics.connection_refused("handshake_rate")
            return False
        return True
