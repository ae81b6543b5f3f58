"""The client in Python, as `wsbridge conformance` runs it."""

import asyncio
import sys
import urllib.request

from wsbridge.client import Client, Ended


async def main(url: str, token_url: str | None = None) -> None:
    async def token() -> str | None:
        return token_url and urllib.request.urlopen(token_url).read().decode()  # noqa: ASYNC210 - it answers at once

    try:
        async with Client(url, token=token) as client:
            async for message in client:
                if line := message.id or (message.type == "gap" and "gap"):
                    print(line, flush=True)  # noqa: T201 - a program
    except Ended:
        pass


asyncio.run(main(*sys.argv[1:]))
