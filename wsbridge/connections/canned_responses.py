"""Complete responses as bytes, for requests that are answered without aiohttp's connection protocol."""

import functools
import time
from email.utils import formatdate
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE

from wsbridge.connections.websocket_handshake import switching
from wsbridge.core.close_codes import OVERLOADED
from wsbridge.core.frames import close_frame, text_frame
from wsbridge.core.messages import goodbye

TOO_MANY_FAILURES = "Too many failed requests from this address."
_GOODBYE = text_frame(goodbye(OVERLOADED)) + close_frame(OVERLOADED)


def problem(status: HTTPStatus, detail: str, *, retry_after: int | None = None) -> bytes:
    """A problem document (RFC 9457) that ends its connection, with its head; `retry_after` is in seconds."""
    body = msgspec.json.encode(
        {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    )
    retry = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
    ).encode() + body


EXHAUSTED = problem(HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY_FAILURES, retry_after=1)
FULL = problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections.", retry_after=1)


def closing(response: web.StreamResponse) -> bytes:
    """A response of the application that ends its connection, with its head."""
    return _complete(response, f"{hdrs.CONNECTION}: close")


def continuing(response: web.StreamResponse) -> bytes:
    """A response of the application whose connection continues, with its head: the same bytes as aiohttp's."""
    return _complete(response, f"{hdrs.DATE}: {_date(int(time.time()))}\r\n{hdrs.SERVER}: {SERVER_SOFTWARE}")


def _complete(response: web.StreamResponse, last: str) -> bytes:
    body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
    fields = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
    status = f"HTTP/1.1 {response.status} {response.reason}"
    return f"{status}\r\n{fields}{hdrs.CONTENT_LENGTH}: {len(body)}\r\n{last}\r\n\r\n".encode() + body


@functools.lru_cache(1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def overloaded(key: bytes, subprotocol: bytes = b"") -> bytes:
    """Accept a WebSocket handshake with this key and close with 1013.

    Browsers show the close code to the page, but not the status of a refused handshake.
    """
    return switching(key, subprotocol) + _GOODBYE
