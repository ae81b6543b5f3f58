"""A transport without a socket, which records what is written."""

import asyncio
from types import SimpleNamespace


class FakeTransport(asyncio.Transport):
    """`buffered` is the number of bytes that the peer has not read."""

    def __init__(self) -> None:
        super().__init__({"socket": SimpleNamespace(setsockopt=lambda *_: None)})
        self.written: list[bytes] = []
        self.buffered = 0
        self.closed = self.ended = False
        self.aborted = self.paused = self.resumed = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted += 1
        self.closed = True

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1


class ClosedTransport(FakeTransport):
    """It has no descriptor any more, and raises the errors of uvloop's."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError("the handler is closed")

    def get_extra_info(self, name: str, default: object = None) -> object:
        def setsockopt(*_: object) -> None:
            raise ValueError("negative file descriptor")

        return SimpleNamespace(setsockopt=setsockopt) if name == "socket" else default
