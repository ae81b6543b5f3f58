"""Lets a few handshakes run in each turn of the event loop, so that deliveries run in between."""

import asyncio
from collections import deque

PER_TURN = 3  # handshakes, about 1 ms each; the delivery of an event takes four turns from the POST to the sockets


class HandshakePacer:
    """A queue, first in, first out. Its bound is the limit of connections, as each has one handshake at most."""

    def __init__(self) -> None:
        self._passed = 0  # in this turn
        self._is_turning = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def enter(self) -> None:
        """Wait for a turn with a free place."""
        loop = asyncio.get_running_loop()
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._turn)
        if self._passed < PER_TURN and not self._waiting:
            self._passed += 1
            return
        place = loop.create_future()
        self._waiting.append(place)
        await place

    def _turn(self) -> None:
        """Begin a turn. Schedules the next one, unless this one had no handshakes."""
        self._passed = 0
        while self._waiting and self._passed < PER_TURN:
            place = self._waiting.popleft()
            if not place.done():  # otherwise its connection has ended meanwhile
                place.set_result(None)
                self._passed += 1
        self._is_turning = self._passed > 0
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._turn)
