"""A service with python-socketio, built as in its manual: a room for each user. `uvicorn` runs it."""

import os
from typing import Any

import socketio
from fastapi import FastAPI, Request

server = socketio.AsyncServer(async_mode="asgi", ping_interval=float(os.environ["BENCH_PING_SECONDS"]))
api = FastAPI()
app = socketio.ASGIApp(server, api)


@server.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    user = environ["QUERY_STRING"].partition("user_id=")[2]
    await server.enter_room(sid, user)


@api.post("/events/task-updates")
async def events(request: Request) -> dict[str, Any]:
    body = await request.json()
    if "entries" not in body:
        await deliver(body["data"])
        return {"status": "SUCCESS"}
    for entry in body["entries"]:
        await deliver(entry["event"]["data"])
    return {"statuses": [{"entryId": entry["entryId"], "status": "SUCCESS"} for entry in body["entries"]]}


async def deliver(data: dict[str, Any]) -> None:
    await server.emit("task_update", data, room=data["user_id"])
