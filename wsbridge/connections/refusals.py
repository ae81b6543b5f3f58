"""Refuses requests before aiohttp sees them: counts and logs each, and makes its response."""

from dataclasses import dataclass
from http import HTTPStatus

from wsbridge.config.settings import PREFIX
from wsbridge.connections.canned_responses import overloaded, problem
from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.request_head import Head, largest_field
from wsbridge.core.close_codes import OVERLOADED
from wsbridge.core.messages import SUBPROTOCOL
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

OVERLOADED_WHY = f"too many handshakes at once ({PREFIX}HANDSHAKE_RATE), or too few descriptors (ulimit -n)"

_SUBPROTOCOL = SUBPROTOCOL.encode()


@dataclass(eq=False)
class Refusals:
    """Each method returns the bytes of the response. `peer` is the address of the connection."""

    metrics: Metrics
    rate_limits: RateLimits
    proxies: TrustedProxies
    max_header_bytes: int

    def malformed(self, peer: str, why: str, head: bytes = b"") -> bytes:
        """400. `head` is the part that was received, for the address of a client behind a proxy."""
        return self._refused(HTTPStatus.BAD_REQUEST, "malformed", why, self.client(peer, head))

    def too_large(self, peer: str, head: bytes) -> bytes:
        """431: the response names the largest header field, its size and the setting."""
        name, size = largest_field(head)
        setting = f"{PREFIX}MAX_HEADER_BYTES"
        why = (
            f"The header has more than {self.max_header_bytes} bytes; its largest part is {name} with {size}. "
            f"{setting} is the limit."
        )
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        client = self.client(peer, head)
        return self._refused(status, "header_bytes", why, client, header=name, size=size, setting=setting)

    def overloaded(self, peer: str, head: Head) -> bytes:
        """Accept a WebSocket and close it with 1013, which tells the page to retry later."""
        code, reason = OVERLOADED
        self.metrics.session_closed((str(code), reason), None)
        log.warning("session.refused", code=code, reason=reason, why=OVERLOADED_WHY, peer=self.client(peer, head.raw))
        offered = [name.strip() for name in head.joined(b"sec-websocket-protocol").split(b",")]
        subprotocol = _SUBPROTOCOL if _SUBPROTOCOL in offered else b""  # without it browsers would fail the handshake
        return overloaded(head.field(b"sec-websocket-key") or b"", subprotocol)

    def client(self, peer: str, head: bytes) -> str:
        """The client's address, by the same rule as in `middleware` for complete requests."""
        if not head:
            return peer
        found = Head(head)
        chains = (found.joined(name) for name in (b"x-forwarded-for", b"forwarded"))
        return self.proxies.client(peer, *(chain.decode("latin-1") for chain in chains))

    def _refused(self, status: HTTPStatus, reason: str, why: str, client: str, **fields: object) -> bytes:
        self.metrics.failed("bad_request")
        self.metrics.connection_refused(reason)
        self.rate_limits.failed(client)
        log.info("request.bad", peer=client, error=why, **fields)
        return problem(status, why)
