"""A service with `websockets` and its `broadcast`, and aiohttp for the deliveries: no history, no resume.

`python -m benchmarks.services.websockets_service PORT PING_SECONDS`; deliveries go to the port after that one.
"""

import json
import sys
from collections import defaultdict
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve

sockets: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def connect(socket: ServerConnection) -> None:
    assert socket.request is not None
    [user] = parse_qs(urlsplit(socket.request.path).query)["user_id"]
    sockets[user].add(socket)
    try:
        await socket.send('{"type":"connected"}')
        await socket.wait_closed()
    finally:
        sockets[user].discard(socket)


async def events(request: web.Request) -> web.Response:
    body = await request.json()
    if "entries" not in body:
        deliver(body["data"])
        return web.json_response({"status": "SUCCESS"})
    for entry in body["entries"]:
        deliver(entry["event"]["data"])
    return web.json_response(
        {"statuses": [{"entryId": entry["entryId"], "status": "SUCCESS"} for entry in body["entries"]]}
    )


def deliver(data: dict[str, Any]) -> None:
    broadcast(sockets[data["user_id"]], json.dumps({"type": "task_update", "event": data}))


async def main(port: int, ping_seconds: float) -> None:
    app = web.Application()
    app.router.add_post("/events/task-updates", events)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port + 1).start()
    options: dict[str, Any] = {"compression": None, "ping_interval": ping_seconds, "backlog": 1000}
    async with serve(connect, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
