"""Middleware of all routes: finds the client's address, applies the rate limits, and paces handshakes."""

from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wsbridge.connections.canned_responses import TOO_MANY_FAILURES
from wsbridge.connections.client_address import ADDRESS, TrustedProxies, address_of
from wsbridge.connections.guard import ConnectionGuard
from wsbridge.connections.handshake_pacer import HandshakePacer
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.supervision.jobs import Jobs
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

HANDSHAKES = frozenset({"/ws", "/sse"})
IS_OVERLOADED = web.RequestKey("overloaded", bool)
IS_COUNTED = web.RequestKey("counted", bool)  # the refusal of the request counts against its address already


def middleware(metrics: Metrics, rate_limits: RateLimits, proxies: TrustedProxies, jobs: Jobs) -> Middleware:
    """Make the middleware. It belongs inside that of `problem_details`, which translates its errors."""

    pacer = HandshakePacer()

    @web.middleware
    async def intake(request: web.Request, handler: Handler) -> web.StreamResponse:
        guard = guard_of(request)
        try:
            _check_jobs(jobs)
            if (client := _forwarded(request, proxies)) is not None:
                _check_rate_limits(client, rate_limits, metrics)
            if request.method == hdrs.METH_GET and request.path in HANDSHAKES:
                await pacer.enter()
                if guard and not guard.admits_handshake():
                    request[IS_OVERLOADED] = True
            return await _answer(request, handler, rate_limits, metrics)
        finally:
            if guard:
                guard.answered()

    return intake


async def on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """A handler for the signal of this name: notes that the answer begins, and closes after a declined upgrade."""
    guard = guard_of(request)
    if guard is None:
        return
    guard.has_answered = True
    if guard.asks_for_upgrade and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
        # the bytes that follow may be HTTP or the other protocol: close the connection
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"


def guard_of(request: web.Request) -> ConnectionGuard | None:
    protocol = request.transport.get_protocol() if request.transport else None
    return protocol if isinstance(protocol, ConnectionGuard) else None


def _check_jobs(jobs: Jobs) -> None:
    """Refuse every request once a job has ended: an event that is accepted then may not be delivered."""
    if jobs.failure is not None:
        text = f"The background job {jobs.failure.job!r} has ended; the process is about to exit."
        raise web.HTTPServiceUnavailable(text=text, headers={hdrs.RETRY_AFTER: "1"})


def _forwarded(request: web.Request, proxies: TrustedProxies) -> str | None:
    """The client's address behind a trusted proxy; None without one. The guard has checked the limits of the peer."""
    headers = request.headers
    if hdrs.X_FORWARDED_FOR not in headers and hdrs.FORWARDED not in headers:
        return None
    peer = address_of(request)
    if not proxies.trusts(peer):
        return None
    chains = (",".join(headers.getall(name, ())) for name in (hdrs.X_FORWARDED_FOR, hdrs.FORWARDED))
    client = request[ADDRESS] = proxies.client(peer, *chains)
    return client


def _check_rate_limits(address: str, rate_limits: RateLimits, metrics: Metrics) -> None:
    """Refuse a client behind a proxy by a response, since the connection belongs to the proxy and has to stay."""
    if rate_limits.refuses(address):
        metrics.connection_refused("failures")
        raise web.HTTPTooManyRequests(text=TOO_MANY_FAILURES, headers={hdrs.RETRY_AFTER: "1"})


async def _answer(
    request: web.Request, handler: Handler, rate_limits: RateLimits, metrics: Metrics
) -> web.StreamResponse:
    """Count refusals against the address. Those of streams and sockets are counted where they are decided."""
    try:
        _check_coding(request, metrics)
        return await handler(request)
    except web.HTTPException as refusal:
        is_failure = 400 <= refusal.status < 500  # noqa: PLR2004 - the client's
        if is_failure and IS_COUNTED not in request:
            rate_limits.failed(address_of(request))
        raise


def _check_coding(request: web.Request, metrics: Metrics) -> None:
    """Refuse a compressed body (RFC 9110 §15.5.16): a kilobyte can become a megabyte, and no sidecar sends one."""
    coding = request.headers.get(hdrs.CONTENT_ENCODING)
    if coding is not None and coding.strip().lower() not in ("", "identity") and request.can_read_body:
        metrics.failed("bad_request")
        log.info("request.bad", peer=address_of(request), error="the body is compressed (Content-Encoding)")
        raise web.HTTPUnsupportedMediaType(
            text="The body must not be compressed: send it without Content-Encoding.",
            headers={hdrs.ACCEPT_ENCODING: "identity"},
        )
