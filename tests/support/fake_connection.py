"""A connection without a socket, which records what is written to it."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from wsbridge.core.close_codes import Close
from wsbridge.core.events import Entry, Position
from wsbridge.core.messages import update
from wsbridge.sessions.outbox import HIGH_WATER
from wsbridge.sessions.session import Session


class FakeConnection:
    """A transport that records what is written: a message a line, in `written`."""

    transport_name = "fake"

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0  # bytes that the peer has not read
        self.ended: list[Close] = []
        self.aborted = 0
        self.timers: list[bool] = []  # of each call of `abort_later`: whether it was a short time-out
        self.pings = 0
        self.answers = True
        self.ping_interval: float | None = None
        self.positions: list[Position | None] = []
        self.draining: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.session: Session | None = None  # if a loop runs, a task pumps it, as its handler does
        self.pumping: asyncio.Task[None] | None = None
        self.woken = 0

    def update(self, entry: Entry) -> bytes:
        return update(entry) + b"\n"

    def frame(self, payload: bytes, position: Position | None = None) -> bytes:
        self.positions.append(position)
        return payload + b"\n"

    def write(self, data: bytes | memoryview) -> None:
        self.written.append(bytes(data))

    @property
    def is_paused(self) -> bool:
        return self.buffered > HIGH_WATER

    def unsent(self) -> int:
        return self.buffered

    def ping(self) -> None:
        self.pings += 1

    def wake(self) -> None:
        self.woken += 1
        with contextlib.suppress(RuntimeError):  # no loop: the test checks the outbox itself
            if self.session and (self.pumping is None or self.pumping.done()):
                self.pumping = asyncio.get_running_loop().create_task(self._pump(self.session))

    async def _pump(self, session: Session) -> None:
        while session.is_pumped:
            await self.draining()
            session.pump()
            await asyncio.sleep(0)

    def abort_later(self, *, soon: bool = False) -> None:
        self.timers.append(soon)

    def send_close(self, close: Close) -> None:
        self.ended.append(close)

    def abort(self) -> None:
        self.aborted += 1

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.written).splitlines()]
