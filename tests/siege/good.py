"""Good clients in their own process: `python -m tests.siege.good PORT COUNT`, with the secret in the environment.

Each has its own user and token and one WebSocket. Prints `ready` when all are connected. At the end of its input it
prints the results as JSON.
"""

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.support.frames import PING, TEXT, UPGRADE, frame
from tests.support.running import token

ADDRESSES = 50  # of loopback, that the clients share
AT_ONCE = 100  # open handshakes
PATIENCE = 120.0  # seconds within which all must be connected
AGAIN = 0.5  # seconds before a refused client tries again
_PONG = 10


class Event(msgspec.Struct):
    n: int = 0
    sent: float = 0.0


class Message(msgspec.Struct):
    type: str
    event: Event = msgspec.field(default_factory=Event)


@dataclass
class Seen:
    """The results of all clients."""

    latencies: list[tuple[float, float]] = field(default_factory=list)  # (published at, seconds)
    received: Counter[str] = field(default_factory=Counter)  # user → number of events
    broken: list[str] = field(default_factory=list)  # promises that were not kept
    refused: int = 0  # handshakes that had to be repeated

    def report(self) -> dict[str, Any]:
        return {
            "latencies": self.latencies,
            "received": self.received,
            "broken": self.broken[:20],
            "refused": self.refused,
        }


class Client(asyncio.Protocol):
    """One connection. A server's frames are unfragmented and unmasked (RFC 6455 §5.2)."""

    def __init__(self, user: str, seen: Seen) -> None:
        self.user = user
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._seen = seen
        self._buffer = b""
        self._is_upgraded = False
        self._decode = msgspec.json.Decoder(Message).decode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        path = f"/ws?token={token(self.user, ttl=3600)}"
        transport.write((UPGRADE.format(path=path) + "\r\n").encode())

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if not self._is_upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            self._is_upgraded = head.startswith(b"HTTP/1.1 101 ")
            if not self._is_upgraded:
                self._transport.close()
                return
        self._buffer = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        """Consume complete frames; return the rest."""
        at = 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(data[start : start + width], "big"), start + width
            if len(data) < start + size:
                break
            self._frame(data[at] & 0x0F, data[start : start + size])
            at = start + size
        return data[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._transport.write(frame(_PONG, payload))
        elif opcode == TEXT:
            self._message(self._decode(payload))
        else:
            self._broken(f"a frame of opcode {opcode}: {payload[2:]!r}")

    def _message(self, message: Message) -> None:
        match message.type:
            case "connected":
                self.opened.set_result(True)
            case "task_update":
                self._seen.latencies.append((message.event.sent, time.monotonic() - message.event.sent))
                self._seen.received[self.user] += 1
                if message.event.n != self._seen.received[self.user]:
                    self._broken(f"event {message.event.n} came as number {self._seen.received[self.user]}")
            case kind:
                self._broken(f"a message of type {kind}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(False)
        elif not self._transport.is_closing() or exc:
            self._broken(f"the connection ended: {exc}")

    def eof_received(self) -> None:
        if self.opened.done():
            self._broken("the server ended the connection")

    def _broken(self, what: str) -> None:
        self._seen.broken.append(f"{self.user}: {what}")

    def leave(self) -> None:
        self._transport.abort()


async def connected(port: int, number: int, seen: Seen, limit: asyncio.Semaphore) -> Client:
    """Connect a client; try again if it is refused."""
    address = f"127.1.0.{1 + number % ADDRESSES}"
    while True:
        async with limit:
            with contextlib.suppress(OSError):
                _, client = await asyncio.get_running_loop().create_connection(
                    lambda: Client(f"good-{number}", seen), "127.0.0.1", port, local_addr=(address, 0)
                )
                if await client.opened:
                    return client
        seen.refused += 1
        await asyncio.sleep(AGAIN)


async def main(port: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    seen, limit = Seen(), asyncio.Semaphore(AT_ONCE)
    async with asyncio.timeout(PATIENCE):
        clients = await asyncio.gather(*(connected(port, number, seen, limit) for number in range(count)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(seen.report()), flush=True)
    for client in clients:
        client.leave()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
