"""Lets a few handshakes through at each turn of the event loop, so that deliveries run in between."""

import asyncio
from collections import deque

PER_TURN = 3  # handshakes, of about a millisecond each: an event takes four turns from its delivery to its sockets


class HandshakePacer:
    """First come, first served. As many can wait as there can be connections."""

    def __init__(self) -> None:
        self._passed = 0  # in this turn
        self._is_turning = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def enter(self) -> None:
        """Wait for a place in one of the next turns."""
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
        """Begin a turn; the last one ends the turning."""
        self._passed = 0
        while self._waiting and self._passed < PER_TURN:
            place = self._waiting.popleft()
            if not place.done():  # else its connection has ended meanwhile
                place.set_result(None)
                self._passed += 1
        self._is_turning = self._passed > 0
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._turn)
