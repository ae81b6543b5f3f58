"""Misbehaving peers in their own process: `python -m tests.siege.bad PORT PLAN`, with the plan as JSON (kind → number).

A peer that the bridge disconnects begins again.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Self

from tests.support.frames import CONTINUATION, LITTLE, PING, TEXT, UPGRADE, WebSocketPeer, frame
from tests.support.running import token

PAUSE = 1.0  # seconds before a peer begins again
DRIP = 1.0  # seconds between two bytes
ADDRESSES = 20  # that bad peers come from
FLOOD = 200  # frames in one write
SENDING = 16_384  # bytes of send buffer; more would only load the generator
BOMB = 1 << 30  # bytes, after decompression


def address(number: int) -> str:
    """One of the bad peers' addresses."""
    return f"127.2.0.{1 + number % ADDRESSES}"


class Local(WebSocketPeer):
    """A peer from one of the bad peers' addresses."""

    numbers = itertools.count()

    async def __aenter__(self) -> Self:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING)
        self.sock.bind((address(next(self.numbers)), 0))
        await super().__aenter__()
        return self

    async def admitted(self, user: str) -> None:
        """A connection with a good token: known users may misbehave too."""
        await self.send((UPGRADE.format(path=f"/ws?token={token(user, ttl=3600)}") + "\r\n").encode())
        await self.until(b"\r\n\r\n")


class Stalled(Local):
    receive_buffer = LITTLE


async def silent(peer: Local, user: str) -> None:
    """Connects and sends nothing."""
    await peer.rest()


async def unread(peer: Local, user: str) -> None:
    """Has a good token, gets events and never reads."""
    await peer.admitted(user)
    await asyncio.Event().wait()


async def dripping(peer: Local, user: str) -> None:
    """A header that never ends."""
    await peer.send(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    while True:
        await peer.send(b"x")
        await asyncio.sleep(DRIP)


async def _flood(peer: Local, user: str, data: bytes) -> None:
    await peer.admitted(user)
    while True:
        await peer.send(data * FLOOD)
        await asyncio.sleep(0)


async def pinging(peer: Local, user: str) -> None:
    await _flood(peer, user, frame(PING, b"x"))


async def fragmenting(peer: Local, user: str) -> None:
    """A message of empty continuation frames that never ends."""
    await peer.admitted(user)
    await peer.send(frame(TEXT, b"", final=False))
    while True:
        await peer.send(frame(CONTINUATION, b"", final=False) * FLOOD)
        await asyncio.sleep(0)


async def talking(peer: Local, user: str) -> None:
    """Sends meaningless messages as fast as the bridge reads them."""
    await _flood(peer, user, frame(TEXT, b'{"type":"ping"}'))


async def garbage(peer: Local, user: str) -> None:
    """Sends bytes that are not HTTP, and bytes that are not frames."""
    await peer.send(os.urandom(512))
    await peer.rest()


async def garbled(peer: Local, user: str) -> None:
    await peer.admitted(user)
    await peer.send(os.urandom(4_096))
    await peer.rest()


async def half_closed(peer: Local, user: str) -> None:
    """Closes its own direction only."""
    await peer.admitted(user)
    peer.sock.shutdown(1)
    await peer.rest()


async def resetting(peer: Local, user: str) -> None:
    await peer.admitted(user)
    peer.reset()


_bomb = b""


async def bombing(peer: Local, user: str) -> None:
    """A body that unpacks to a gigabyte, for a route that does not exist."""
    head = f"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(_bomb)}\r\n\r\n"
    await peer.send(head.encode() + _bomb)
    await peer.rest()


KINDS: dict[str, Callable[[Local, str], Awaitable[None]]] = {
    function.__name__: function
    for function in (
        silent, unread, dripping, pinging, fragmenting, talking, garbage, garbled, half_closed, resetting, bombing,
    )
}  # fmt: skip
STALLED = {"unread", "pinging"}


async def again_and_again(port: int, kind: str, number: int) -> None:
    """Run one bad peer; when the bridge disconnects it, begin again."""
    while True:
        peer = (Stalled if kind in STALLED else Local)(port)
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with peer:
                await KINDS[kind](peer, f"{kind}-{number}")
        await asyncio.sleep(PAUSE)


async def main(port: int, plan: dict[str, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    global _bomb  # noqa: PLW0603 - takes seconds to make, and only one kind needs it
    if plan.get("bombing"):
        _bomb = b"".join(_squeezed(BOMB))
    tasks = [
        asyncio.create_task(again_and_again(port, kind, number))
        for kind, count in plan.items()
        for number in range(count)
    ]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _squeezed(size: int) -> list[bytes]:
    """Gzip members of zeros: one member repeated has the same effect as a single large one."""
    member = gzip.compress(bytes(1 << 20))
    return [member] * (size >> 20)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2])))
