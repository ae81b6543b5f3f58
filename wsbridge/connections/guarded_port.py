"""The common part of all connections of a port: aiohttp's server and the limits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.http import RawRequestMessage

from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.direct_requests import DirectRequests
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import Refusals
from wsbridge.connections.request_head import Head, Malformed
from wsbridge.connections.request_parser import parse
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
    write_timeout: float  # for which a peer may read nothing while responses wait for it
    linger: float  # for which a peer may take to read the last response

    def parse(self, head: Head, peer: str) -> RawRequestMessage | bytes:
        """Parse a head that may be passed on. Otherwise returns the response that refuses it."""
        if len(head.raw) > self.max_header_bytes:
            return self.refusals.too_large(peer, head.raw)
        try:
            return parse(head, self.max_header_bytes)
        except Malformed as malformed:
            return self.refusals.malformed(peer, str(malformed), head.raw)

    def has_failed(self, head: Head, peer: str) -> bool:
        """Whether the client has failed so often that the middleware will refuse its request."""
        limits = self.rate_limits
        return limits.addresses > 0 and limits.refuses(self.refusals.client(peer, head.raw))

    def admits_handshake(self) -> bool:
        """Whether one more handshake may become a session now. A True counts against the rate limit."""
        if self.connection_limit.is_full:
            self.metrics.connection_refused("descriptors")
            return False
        if not self.rate_limits.handshakes.take():
            self.metrics.connection_refused("handshake_rate")
            return False
        return True
