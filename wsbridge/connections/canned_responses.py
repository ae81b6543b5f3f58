"""Complete responses as bytes, for connections that are refused before aiohttp sees them. Each ends its connection."""

from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from wsbridge.connections.websocket_handshake import switching
from wsbridge.core.close_codes import OVERLOADED
from wsbridge.core.frames import close_frame, text_frame
from wsbridge.core.messages import goodbye

_GOODBYE = text_frame(goodbye(OVERLOADED)) + close_frame(OVERLOADED)


def problem(status: HTTPStatus, detail: str, *, retry_after: int | None = None) -> bytes:
    """A problem document (RFC 9457), with its head; `retry_after` is in seconds."""
    body = msgspec.json.encode(
        {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    )
    retry = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
    ).encode() + body


def closing(response: web.StreamResponse) -> bytes:
    """A response of the application that ends its connection, with its head."""
    body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
    fields = {**response.headers, hdrs.CONTENT_LENGTH: str(len(body)), hdrs.CONNECTION: "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{lines}\r\n".encode() + body


def overloaded(key: bytes) -> bytes:
    """Accept a WebSocket handshake with this key and close with 1013.

    Browsers show the close code to the page, but not the status of a refused handshake.
    """
    return switching(key) + _GOODBYE
