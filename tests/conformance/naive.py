"""A client as one writes it without reading docs/protocol.md: it reconnects, and no more."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url: str) -> None:
    while True:
        try:
            async with connect(url) as ws:
                async for text in ws:
                    print(json.loads(text).get("id", ""), flush=True)  # noqa: T201 - a program
        except (ConnectionClosed, OSError):
            pass


asyncio.run(main(*sys.argv[1:]))
