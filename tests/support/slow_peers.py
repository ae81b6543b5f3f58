"""Peers that send their data one byte at a time."""

import asyncio

from tests.support.frames import Peer
from tests.support.running import DEADLINE


class Dripping(Peer):
    """Sends its data one byte at a time, without end."""

    start = b""
    drop = b"x"

    async def drip(self) -> bytes:
        """Send bytes until the other side closes; return its answer."""
        await self.send(self.start)
        loop, answer = asyncio.get_running_loop(), b""
        dripping = asyncio.create_task(self._drops())
        try:
            async with asyncio.timeout(DEADLINE):
                while chunk := await loop.sock_recv(self.sock, 65_536):  # a time-out of each could lose a chunk
                    answer += chunk
        except ConnectionError:
            pass
        finally:
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
        return answer

    async def _drops(self) -> None:
        while True:
            await asyncio.sleep(0.02)  # the fault itself: a byte now and then
            await self.send(self.drop)


class SlowHeaders(Dripping):
    start = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


class SlowSecondHeaders(Dripping):
    """The same, as the second request on a connection."""

    start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nX-Slow: "


class SilentFromTheStart(Dripping):
    """Connects and sends nothing."""

    drop = b""


class SlowBody(Dripping):
    start = (
        b"POST /events/task-updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\n"
        b"Content-Length: 100000\r\n\r\n"
    )
