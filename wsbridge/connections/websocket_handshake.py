"""Checks and answers WebSocket handshakes (RFC 6455 §4.2)."""

import base64
import binascii
import hashlib

from aiohttp import HttpVersion11, hdrs, web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def accept_key(key: bytes) -> bytes:
    """The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def switching(key: bytes, subprotocol: bytes = b"") -> bytes:
    """The response that accepts a handshake (RFC 6455 §4.2.2); extensions are never accepted."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
        % (accept_key(key), b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol if subprotocol else b"")
    )


def offered_subprotocols(request: web.BaseRequest) -> list[str]:
    """The subprotocols that the client offers; the header may have several lines (RFC 6455 §11.3.4)."""
    lines = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
    return [name.strip() for line in lines for name in line.split(",")]


def check_handshake(request: web.Request) -> None:
    """Check the headers of a handshake.

    Raises `HTTPUpgradeRequired` if it is not a WebSocket handshake, possibly since a proxy has removed headers, and
    `HTTPBadRequest` if it is malformed.
    """
    headers = request.headers
    if request.version >= HttpVersion11 and len(headers.getall(hdrs.HOST, ())) != 1:
        raise web.HTTPBadRequest(text="Expected exactly one Host header.")  # RFC 9112 §3.2
    upgrade = headers.get(hdrs.UPGRADE, "").strip().lower()
    connection = {word.strip().lower() for value in headers.getall(hdrs.CONNECTION, ()) for word in value.split(",")}
    if request.version < HttpVersion11 or upgrade != "websocket" or "upgrade" not in connection:
        text = "This is a WebSocket endpoint: expected the headers 'Upgrade: websocket' and 'Connection: upgrade'"
        text += ", which a proxy may have removed." if upgrade else "."
        raise web.HTTPUpgradeRequired(text=text, headers={hdrs.UPGRADE: "websocket"})
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION, "").strip() != "13":
        raise web.HTTPUpgradeRequired(
            text="Expected 'Sec-WebSocket-Version: 13'.",
            headers={hdrs.UPGRADE: "websocket", hdrs.SEC_WEBSOCKET_VERSION: "13"},
        )
    keys = headers.getall(hdrs.SEC_WEBSOCKET_KEY, ())
    try:
        good = len(keys) == 1 and len(base64.b64decode(keys[0].strip(), validate=True)) == 16  # noqa: PLR2004
    except (binascii.Error, ValueError):
        good = False
    if not good:
        raise web.HTTPBadRequest(text="Expected one Sec-WebSocket-Key of 16 bytes in base64.")
