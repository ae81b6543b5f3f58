"""An ingress that parses the WebSocket frames of a bridge, to lose some of them or to hold them back."""

import asyncio
import contextlib
import itertools
from asyncio import StreamReader, StreamWriter
from typing import Self

_EVENT = b'{"type":"task_update"'


class BrokenIngress:
    """Forwards to `target`. Loses every `lose`th frame if it is an event, and sends frames every `hold` seconds."""

    def __init__(self, target: int, *, lose: int = 0, hold: float = 0.0) -> None:
        self._target = target
        self._lose = lose
        self._hold = hold
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        directions = [
            asyncio.create_task(_pump(reader, back_writer)),
            asyncio.create_task(self._down(back_reader, writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for end in (writer, back_writer):
                end.transport.abort()
            self._tasks.discard(task)

    async def _down(self, reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            held = list[bytes]()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(held, writer))
                for number in itertools.count():
                    frame, payload = await _frame(reader)
                    if not self._lose or not payload.startswith(_EVENT) or number % self._lose:
                        held.append(frame)

    async def _send(self, held: list[bytes], writer: StreamWriter) -> None:
        while True:
            await asyncio.sleep(self._hold or 0.002)
            writer.writelines(held)
            held.clear()


async def _frame(reader: StreamReader) -> tuple[bytes, bytes]:
    """The next frame of a server, and its payload (RFC 6455 §5.2; servers do not mask)."""
    head = await reader.readexactly(2)
    more = {126: 2, 127: 8}.get(head[1], 0)
    size = await reader.readexactly(more)
    payload = await reader.readexactly(int.from_bytes(size) if more else head[1])
    return head + size + payload, payload


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
