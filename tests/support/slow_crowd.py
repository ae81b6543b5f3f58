"""Sockets of many users in their own process: `python -m tests.support.slow_crowd URL USERS BYTES`.

Prints `open` once all are connected, then the number of sockets that got the event.
"""

import asyncio
import sys

import aiohttp

from tests.support.running import DEADLINE


async def main(url: str, users: int, size: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        sockets = [await http.ws_connect(f"{url}/ws?user_id=u{n}") for n in range(users)]
        for ws in sockets:
            async with asyncio.timeout(DEADLINE):
                await ws.receive()
        print("open", flush=True)  # noqa: T201 - for the test
        found = await asyncio.gather(*(_largest(ws, size) for ws in sockets))
        print(sum(found), flush=True)  # noqa: T201


async def _largest(ws: aiohttp.ClientWebSocketResponse, size: int) -> bool:
    """Whether the next message has data of that size. It is not parsed, since that takes longer than to receive it."""
    async with asyncio.timeout(2 * DEADLINE):
        text = await ws.receive_str()
    return text.startswith('{"type":"task_update"') and size < len(text) < size + 1_000 and '"n": 1,' in text[:50_000]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
