"""A minimal aiohttp service for the same job: no history, no resume, no limits.

`python -m benchmarks.services.aiohttp_service PORT PING_SECONDS`
"""

import json
import sys
from collections import defaultdict
from typing import Any

from aiohttp import web

sockets: defaultdict[str, set[web.WebSocketResponse]] = defaultdict(set)
ping_seconds = float(sys.argv[2])


async def connect(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False, heartbeat=ping_seconds)
    await socket.prepare(request)
    user = request.query["user_id"]
    sockets[user].add(socket)
    try:
        await socket.send_str('{"type":"connected"}')
        async for _ in socket:
            pass
    finally:
        sockets[user].discard(socket)
    return socket


async def events(request: web.Request) -> web.Response:
    body = await request.json()
    if "entries" not in body:
        await deliver(body["data"])
        return web.json_response({"status": "SUCCESS"})
    for entry in body["entries"]:
        await deliver(entry["event"]["data"])
    return web.json_response(
        {"statuses": [{"entryId": entry["entryId"], "status": "SUCCESS"} for entry in body["entries"]]}
    )


async def deliver(data: dict[str, Any]) -> None:
    text = json.dumps({"type": "task_update", "event": data})
    for socket in list(sockets[data["user_id"]]):
        await socket.send_str(text)


app = web.Application()
app.router.add_get("/ws", connect)
app.router.add_post("/events/task-updates", events)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
