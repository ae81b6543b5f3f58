"""What every request passes before its route."""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wsbridge.log import log
from wsbridge.metrics import Metrics


def middleware(metrics: Metrics) -> Middleware:
    """For an Application, inside that of `problem`."""

    @web.middleware
    async def intake(request: web.Request, handler: Handler) -> web.StreamResponse:
        _check_coding(request, metrics)
        return await handler(request)

    return intake


def _check_coding(request: web.Request, metrics: Metrics) -> None:
    """Refuse a compressed body: a kilobyte of it may be a megabyte of work, and no sidecar sends one.

    Raises:
        web.HTTPUnsupportedMediaType: RFC 9110 §15.5.16.

    """
    coding = request.headers.get(hdrs.CONTENT_ENCODING)
    if coding is not None and coding.strip().lower() not in ("", "identity") and request.can_read_body:
        metrics.failed("bad_request")
        log.info("request.bad", peer=request.remote, error="Content-Encoding")
        raise web.HTTPUnsupportedMediaType(
            text="The body must not be compressed: send it without Content-Encoding.",
            headers={hdrs.ACCEPT_ENCODING: "identity"},
        )
