"""WebSocket frames from the server to a client (RFC 6455 §5)."""

import struct
from functools import partial

from wsbridge.core.close_codes import LOST, NO_STATUS, Close

PING_FRAME = b"\x89\x00"  # RFC 6455 §5.5.2
_MEDIUM, _LARGE = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack  # heads with a size of 16 or 64 bits
_TEXT, _CLOSE, _PONG = 0x81, 0x88, 0x8A  # FIN and the opcode, RFC 6455 §5.2


def _frame(first: int, payload: bytes) -> bytes:
    """One unfragmented, unmasked frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:  # noqa: PLR2004 - RFC 6455 §5.2
        return bytes((first, size)) + payload
    if size < 65_536:  # noqa: PLR2004
        return _MEDIUM(first, 126, size) + payload
    return _LARGE(first, 127, size) + payload


text_frame = partial(_frame, _TEXT)
pong_frame = partial(_frame, _PONG)


def close_frame(close: Close) -> bytes:
    """RFC 6455 §5.5.1. Without a code if the close has one that must not be sent (§7.4.1)."""
    if close.code in (NO_STATUS.code, LOST.code):
        return _frame(_CLOSE, b"")
    return _frame(_CLOSE, close.code.to_bytes(2, "big") + close.reason.encode()[:123])
