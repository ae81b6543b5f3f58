"""Loggers for aiohttp's server: one line per request, and one per malformed request."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from wsbridge.connections.client_address import address_of
from wsbridge.telemetry import tracebacks
from wsbridge.telemetry.log import debugging, log
from wsbridge.telemetry.redaction import shown_path, shown_query

QUIET = ("/events/", "/health", "/metrics", "/sse", "/ws")  # frequent: logged at debug unless they fail
NO_ROUTE = (400, 404, 405)  # statuses of requests whose path may belong to no route


class ServerLog(logging.Logger):
    """The error log of aiohttp's server: bad requests without the header values and the traceback."""

    def __init__(self, on_bad_request: Callable[[str], None], on_error: Callable[..., None]) -> None:
        """`on_bad_request` is called with the peer's address, `on_error` as `Metrics.internal`."""
        super().__init__("aiohttp.server", logging.DEBUG)  # aiohttp logs bytes that are not HTTP at debug level
        self._on_bad_request = on_bad_request
        self._on_error = on_error

    def _log(self, level: int, msg: object, args: Any, exc_info: Any = None, **_: Any) -> None:  # type: ignore[override]  # the hook of all its methods
        error = sys.exc_info()[1] if exc_info is True else exc_info
        peer = str(args[0]) if args and isinstance(args, tuple) else None
        if isinstance(error, web.RequestPayloadError):
            return  # the reader of the body has logged it
        if isinstance(error, web.HTTPException) or type(error).__module__.startswith("aiohttp."):
            tracebacks.release(error)
            self._on_bad_request(peer or "")
            log.info("request.bad", peer=peer, error=type(error).__name__)
        elif level >= logging.WARNING:
            self._on_error(str(msg) % args if args else str(msg), error, peer=peer)


class AccessLog(AbstractAccessLogger):
    """One line per request, without the secrets in its query. Sessions have their own lines."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        path, status = request.path, response.status
        quiet = status < 400 and path.startswith(QUIET)  # noqa: PLR2004 - the statuses of failures
        if quiet and not debugging():
            return
        (log.debug if quiet else log.info)(
            "http.request",
            method=request.method,
            path=shown_path(path, is_route=status not in NO_ROUTE and _has_route(request)),
            query=shown_query(request.query),
            status=status,
            ms=round(time * 1000, 1),
            peer=address_of(request),
        )


def _has_route(request: web.BaseRequest) -> bool:
    """Whether the path belongs to a route. A middleware may refuse a request without one, with any status."""
    return isinstance(request, web.Request) and request.match_info.http_exception is None
