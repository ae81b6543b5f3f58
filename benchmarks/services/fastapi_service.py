"""A minimal FastAPI service for the same job: no history, no resume. `uvicorn` runs it."""

import json
from collections import defaultdict
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
sockets: defaultdict[str, set[WebSocket]] = defaultdict(set)


@app.websocket("/ws")
async def connect(socket: WebSocket, user_id: str) -> None:
    await socket.accept()
    sockets[user_id].add(socket)
    try:
        await socket.send_text('{"type":"connected"}')
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        sockets[user_id].discard(socket)


@app.post("/events/task-updates")
async def events(request: Request) -> dict[str, Any]:
    body = await request.json()
    if "entries" not in body:
        await deliver(body["data"])
        return {"status": "SUCCESS"}
    for entry in body["entries"]:
        await deliver(entry["event"]["data"])
    return {"statuses": [{"entryId": entry["entryId"], "status": "SUCCESS"} for entry in body["entries"]]}


async def deliver(data: dict[str, Any]) -> None:
    text = json.dumps({"type": "task_update", "event": data})
    for socket in list(sockets[data["user_id"]]):
        await socket.send_text(text)
