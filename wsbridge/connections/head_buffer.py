"""Buffers the bytes of a request head until it is complete. Does no I/O."""

from wsbridge.connections.request_head import END, check_start


class HeadBuffer:
    """Collects a head of up to `limit` bytes."""

    __slots__ = ("_bytes", "_limit")

    def __init__(self, limit: int) -> None:
        self._bytes = bytearray()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def is_too_large(self) -> bool:
        return len(self._bytes) > self._limit

    def peek(self) -> bytes:
        return bytes(self._bytes)

    def clear(self) -> bytes:
        """Empty the buffer. Returns its bytes."""
        held = bytes(self._bytes)
        self._bytes.clear()
        return held

    def hold(self, data: bytes) -> None:
        """Keep bytes of a pipelined request, without parsing them."""
        self._bytes += data

    def add(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Add bytes of the head. Returns the complete head and what follows it, or None while it is incomplete.

        Raises `Malformed` if the bytes cannot become a valid head; not checked for a head above the limit.
        """
        if not self._bytes and (end := data.find(END)) >= 0:  # the usual case: complete in one read
            return data[: end + len(END)], data[end + len(END) :]
        before = len(self._bytes)
        self._bytes += data
        end = self._bytes.find(END, max(0, before - len(END)))
        if end >= 0:
            held = self.clear()
            return held[: end + len(END)], held[end + len(END) :]
        if not self.is_too_large:
            check_start(self._bytes, before)
        return None
