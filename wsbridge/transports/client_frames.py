"""Parses frames of clients (RFC 6455 §5), one at a time, from bytes in any chunks. Does no I/O."""

from typing import NamedTuple

from wsbridge.core.close_codes import BAD_UTF8, NO_STATUS, PROTOCOL_ERROR, TOO_LARGE, Close
from wsbridge.core.messages import MAX_MESSAGE_BYTES

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_MAX_CONTROL = 125  # bytes of a control frame's payload, RFC 6455 §5.5
_APPLICATION = range(3000, 5000)  # close codes of applications, RFC 6455 §7.4.2
_REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}  # and sent, §7.4.1 and IANA


class FrameError(Exception):
    """Invalid bytes of a client; `close` is the reaction to them."""

    def __init__(self, close: Close, text: str) -> None:
        super().__init__(text)
        self.close = close


class Frame(NamedTuple):
    """`opcode` and payload of a whole message or control frame; a CONTINUATION is a part of an unfinished message."""

    opcode: int
    payload: bytes = b""


_PART = Frame(CONTINUATION)


class FrameReader:
    """Holds at most one message, and the bytes that are not parsed yet."""

    __slots__ = ("_buffer", "_opcode", "_parts", "_size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opcode = CONTINUATION  # of the unfinished message, if there is one
        self._parts: list[bytes] = []
        self._size = 0  # bytes of these

    def __len__(self) -> int:
        """The number of bytes that are not parsed yet."""
        return len(self._buffer)

    @property
    def is_empty(self) -> bool:
        return not self._buffer and not self._opcode

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> Frame | None:
        """The next frame, if it is complete.

        Raises `FrameError` if a client may not send it; nothing behind it can be understood.
        """
        buffer = self._buffer
        if len(buffer) < 2:  # noqa: PLR2004 - RFC 6455 §5.2
            return None
        final, opcode = buffer[0] & 0x80, buffer[0] & 0x0F
        size, start = buffer[1] & 0x7F, 2
        self._check_head(buffer[0], buffer[1], size)
        if size > _MAX_CONTROL:
            start += 2 if size == 126 else 8  # noqa: PLR2004
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if self._size + size > MAX_MESSAGE_BYTES and opcode < CLOSE:
            raise FrameError(TOO_LARGE, f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        end = start + 4 + size
        if len(buffer) < end:
            return None
        payload = _unmasked(buffer[start + 4 : end], buffer[start : start + 4])
        del buffer[:end]
        return Frame(opcode, payload) if opcode >= CLOSE else self._joined(opcode, payload, final)

    def _check_head(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise FrameError(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "a frame of a client is not masked")  # §5.1
        if opcode >= CLOSE and (size > _MAX_CONTROL or not first & 0x80):
            raise FrameError(PROTOCOL_ERROR, "a control frame is too long or fragmented")
        if (opcode == CONTINUATION) is not bool(self._opcode) and opcode < CLOSE:
            raise FrameError(PROTOCOL_ERROR, "a fragment of nothing, or a message within another one")

    def _joined(self, opcode: int, payload: bytes, final: int) -> Frame:
        opcode = opcode or self._opcode
        if final and not self._parts:
            self._opcode = CONTINUATION
            return Frame(opcode, payload)
        if payload:
            self._parts.append(payload)
            self._size += len(payload)
        if not final:
            self._opcode = opcode
            return _PART
        whole = b"".join(self._parts)
        self._parts, self._size, self._opcode = [], 0, CONTINUATION
        return Frame(opcode, whole)


def text_of(payload: bytes) -> str:
    """A text message. Raises `FrameError` if it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise FrameError(BAD_UTF8, "text that is not UTF-8") from None


def close_of(payload: bytes) -> Close:
    """The close that a peer has sent.

    Raises `FrameError` for a code that must not be sent (RFC 6455 §7.4), or a reason that is not UTF-8.
    """
    if not payload:
        return NO_STATUS
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in _REGISTERED or code in _APPLICATION):  # noqa: PLR2004
        raise FrameError(PROTOCOL_ERROR, f"close code {code} must not be sent")
    return Close(code, text_of(payload[2:]))


def _unmasked(payload: bytearray, mask: bytearray) -> bytes:
    """RFC 6455 §5.3, as one operation on two large integers."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
