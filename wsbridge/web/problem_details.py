"""Turns errors of HTTP routes into problem documents (RFC 9457)."""

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from wsbridge.connections.client_address import address_of
from wsbridge.telemetry import tracebacks
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

_OWN = {hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH}


_OF_ROUTER = {  # why aiohttp's router refuses a request, and what to do
    404: "This port has no such route. docs/protocol.md lists all; those for operators and the sidecar are on "
    "WSBRIDGE_INTERNAL_PORT, if it is set.",
    405: "This route does not take this method. The header Allow has those that it takes.",
}


def response(error: web.HTTPException) -> web.Response:
    """A response with the status and headers of the error, and a JSON body. An error may have `members` of its own."""
    is_plain = not error.text or error.text == f"{error.status}: {error.reason}"
    detail = _OF_ROUTER.get(error.status) if is_plain else error.text
    body = {"type": "about:blank", "title": error.reason, "status": error.status}
    body |= {"detail": detail} if detail else {}
    return web.Response(
        status=error.status,
        body=msgspec.json.encode(body | getattr(error, "members", {})),
        content_type="application/problem+json",
        headers={name: value for name, value in error.headers.items() if name not in _OWN},
    )


def middleware(metrics: Metrics) -> Middleware:
    """Translate exceptions of handlers: HTTP errors into problem documents, all others into a 500 without details."""

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            tracebacks.release(error)
            return response(error)
        except web.RequestPayloadError as error:
            tracebacks.release(error)  # aiohttp keeps the error with the body, and so with the request in the traceback
            metrics.failed("bad_request")
            log.info("request.bad", peer=address_of(request), error=type(error).__name__)
            return response(web.HTTPBadRequest(text="The body is malformed or incomplete."))
        except Exception as error:  # the task boundary
            is_lost = request.transport is None or request.transport.is_closing()
            if isinstance(error, ConnectionError) and is_lost:  # the response cannot be sent
                tracebacks.release(error)  # as above
                return response(web.HTTPBadRequest(text="The connection was lost."))
            metrics.internal(f"{request.method} {request.path}", error)
            return response(web.HTTPInternalServerError(text="Internal server error; see the server log."))

    return problems
