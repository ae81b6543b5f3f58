"""One client in one scenario: its connections, the lines that it prints, and its end."""

import asyncio
from collections.abc import Callable

from wsbridge.cli.conformance.connection import Connection, Violation

PATIENCE = 30.0  # seconds for what a client must do; the longest wait before it reconnects is 20 s
GRACE = 10.0  # seconds for a client to print, to answer or to end


class Trial:
    """A scenario awaits what the client must do. Each method raises `Violation` if the client does not."""

    def __init__(self) -> None:
        self.tokens = 0  # that the client has fetched
        self.lines: list[str] = []
        self._connections: list[Connection] = []  # that the scenario has not seen yet
        self._arrived: list[Connection] = []
        self._ended: str | None = None
        self._news = asyncio.Event()

    def arrived(self, connection: Connection) -> None:
        self._connections.append(connection)
        self._arrived.append(connection)
        self._news.set()

    def printed(self, line: str) -> None:
        self.lines.append(line)
        self._news.set()

    def ended(self, how: str) -> None:
        """The client has ended, or it says that it gave up; `how` is for the reader of the verdict."""
        self._ended = how
        self._news.set()

    async def next(self, seconds: float) -> Connection | None:
        """The client's next connection, or None if it opens none within this time."""
        await self._until(lambda: bool(self._connections) or self._ended is not None, seconds)
        return self._connections.pop(0) if self._connections else None

    async def connects(self, *, after: str | None = None) -> Connection:
        """Wait for the client's next connection, which must resume after this position."""
        connection = await self.next(PATIENCE)
        if connection is None:
            gone = f"the client ended ({self._ended})" if self._ended is not None else f"none within {PATIENCE:g} s"
            raise Violation(f"expected a connection: {gone}")
        if connection.position != after:
            asked = f"last_event_id={connection.position}" if connection.position else "no last_event_id"
            raise Violation(f"connected with {asked}; expected {after or 'none'}")
        return connection

    async def prints(self, *lines: str) -> None:
        """Wait for these lines, which must be all that the client has printed."""
        expected = list(lines)
        await self._until(lambda: len(self.lines) >= len(expected) or self._ended is not None, GRACE)
        if self.lines != expected:
            left = next((connection.left for connection in self._arrived if connection.left), "")
            raise Violation(f"printed {' '.join(self.lines) or 'nothing'}; expected {' '.join(expected)}{left}")

    async def gives_up(self) -> None:
        """Wait for the end of the client, which must not connect again."""
        await self._until(lambda: bool(self._connections) or self._ended is not None, GRACE)
        if self._connections:
            raise Violation("connected again; expected the client to end")
        if self._ended is None:
            raise Violation(f"neither ended nor connected again within {GRACE:g} s; expected the client to end")

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for the condition, at most for this time."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
