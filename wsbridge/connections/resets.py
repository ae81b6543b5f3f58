"""Ends connections whose peer does not read."""

import asyncio
import socket
import struct

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset a connection at once, so that the kernel drops the megabytes that it may hold for a stalled peer."""
    try:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    except (OSError, AttributeError, RuntimeError, ValueError):
        pass  # it was closed already: CPython 3.11 raises AttributeError there, uvloop any but OSError
