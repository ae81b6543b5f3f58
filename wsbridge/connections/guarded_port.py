"""The common part of all connections of a port: aiohttp's server and the limits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.direct_requests import DirectRequests
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import Refusals
from wsbridge.connections.request_head import Head, Malformed
from wsbridge.telemetry.metrics import Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedPort:
    """Times are in seconds."""

    direct: DirectRequests
    server: Callable[[], asyncio.Protocol]  # creates aiohttp's protocol for a connection
    connection_limit: ConnectionLimit
    metrics: Metrics
    rate_limits: RateLimits
    refusals: Refusals
    max_header_bytes: int
    head_timeout: float  # from the first byte of a head to its last; for an unknown peer also from the connection on
    keep_alive: float  # for which a connection may be idle

    def refusal(self, head: Head, peer: str, *, is_handshake: bool) -> bytes | None:
        """The response to a head that must not be passed on; None if it is accepted."""
        if len(head.raw) > self.max_header_bytes:
            return self.refusals.too_large(peer, head.raw)
        try:
            head.check()
        except Malformed as malformed:
            return self.refusals.malformed(peer, str(malformed), head.raw)
        if is_handshake and not self.admits_handshake():
            return self.refusals.overloaded(peer, head)
        return None

    def admits_handshake(self) -> bool:
        """Whether one more handshake may become a session now. A True counts against the rate limit."""
        if self.connection_limit.is_full:
            self.metrics.connection_refused("descriptors")
            return False
        if not self.rate_limits.handshakes.take():
            self.metrics.connection_refused("handshake_rate")
            return False
        return True
