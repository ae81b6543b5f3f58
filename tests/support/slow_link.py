"""A TCP link with a limited rate in each direction, which all of its connections share by turns.

`python -m tests.support.slow_link PORT RATE` runs one in its own process. It prints its port, and answers each line
with the bytes that have passed up and down.
"""

import asyncio
import socket
import sys
from typing import Self

from tests.support.forwarder import BUFFER, Forwarder
from tests.support.running import ROOT


class Meter:
    """One direction. `rate` is in bytes a second, `bytes` is what has passed."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.bytes = 0
        self._free = 0.0  # when the link is free again, in the loop's time

    async def carry(self, size: int) -> None:
        """Wait until this many bytes have passed."""
        now = asyncio.get_running_loop().time()
        self.bytes += size
        self._free = max(self._free, now) + size / self.rate
        if self._free - now > 0.001:
            await asyncio.sleep(self._free - now)


class SlowLink(Forwarder):
    """Forwards connections to `target`, a port of this machine: `async with SlowLink(valkey.port, rate=5e6)`."""

    def __init__(self, target: int, rate: float) -> None:
        super().__init__(target)
        self.up, self.down = Meter(rate), Meter(rate)

    async def listen(self) -> asyncio.Server:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # or the kernel takes megabytes
        listening.bind(("127.0.0.1", 0))
        return await asyncio.start_server(self.serve, sock=listening, limit=BUFFER)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def carry_up(self, size: int) -> None:
        await self.up.carry(size)

    async def carry_down(self, size: int) -> None:
        await self.down.carry(size)


class LinkProcess:
    """The same in its own process, which no other work slows down: `async with`."""

    def __init__(self, target: int, rate: float) -> None:
        self._arguments = (str(target), str(rate))

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.slow_link", *self._arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.url = (await self._answer()).strip()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()

    async def bytes(self) -> tuple[int, int]:
        """Bytes up and down since the start."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        up, down = (await self._answer()).split()
        return int(up), int(down)

    async def _answer(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode()


async def main(target: int, rate: float) -> None:
    async with SlowLink(target, rate) as link:
        print(link.url, flush=True)  # noqa: T201 - for the test
        while await asyncio.to_thread(sys.stdin.readline):
            print(link.up.bytes, link.down.bytes, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
