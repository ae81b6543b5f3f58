"""Sockets of many users in their own process: `python -m tests.support.slow_crowd URL USERS BYTES`.

Prints `open` once all are connected, then the number of sockets that got the event.
"""

import asyncio
import sys
from typing import Literal

import aiohttp

from tests.support.running import DEADLINE

Socket = aiohttp.ClientWebSocketResponse[Literal[False]]


async def main(url: str, users: int, size: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        sockets = [await http.ws_connect(f"{url}/ws?user_id=u{n}", decode_text=False) for n in range(users)]
        for ws in sockets:
            async with asyncio.timeout(DEADLINE):
                await ws.receive()
        print("open", flush=True)  # noqa: T201 - for the test
        found = await asyncio.gather(*(_largest(ws, size) for ws in sockets))
        print(sum(found), flush=True)  # noqa: T201


async def _largest(ws: Socket, size: int) -> bool:
    """Whether the next message has data of that size.

    It is neither decoded nor parsed: a client that takes longer for that than to receive it is closed as a slow one.
    """
    async with asyncio.timeout(2 * DEADLINE):
        message = await ws.receive()
    assert message.type is aiohttp.WSMsgType.TEXT, (message, ws.close_code)
    text: bytes = message.data
    return text.startswith(b'{"type":"task_update"') and size < len(text) < size + 1_000 and b'"n": 1,' in text[:50_000]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
