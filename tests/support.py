"""What tests say about a running bridge, in few words."""

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from wsbridge.app import Bridge, Server

DEADLINE = 10.0  # seconds: how long a test waits for what must happen


@dataclass
class Running:
    """A bridge in this process, on real sockets."""

    bridge: Bridge
    server: Server
    http: aiohttp.ClientSession
    sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.ports[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self, user: str | None = "u1", **query: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket, before its first message was read."""
        params = query if user is None else {"user_id": user, **query}
        ws = await self.http.ws_connect(f"{self.url}/ws", params=params)
        self.sockets.append(ws)
        return ws

    async def hang_up(self) -> None:
        """Close the sockets that the test has left open."""
        for ws in self.sockets:
            await ws.close()

    async def opened(self, user: str = "u1", **query: str) -> tuple[aiohttp.ClientWebSocketResponse, dict[str, Any]]:
        """A WebSocket and its `connected` message."""
        ws = await self.connect(user, **query)
        return ws, await receive(ws)

    async def publish(self, data: Any, **envelope: Any) -> str:
        """Post one enveloped event; the status that the bridge answers."""
        answer = await self.post(cloud_event(data, **envelope))
        return str(answer["status"])

    async def post(
        self, body: Any, content_type: str = "application/cloudevents+json", topic: str = "task-updates", **headers: str
    ) -> Any:
        """Post a body as the sidecar does; the JSON that comes back."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": content_type, **headers}
        async with self.http.post(f"{self.url}/events/{topic}", data=payload, headers=headers) as response:
            assert response.status == 200, (response.status, await response.text())
            return await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or text) of a GET."""
        async with self.http.get(self.url + path, headers=headers) as response:
            is_json = response.content_type.endswith("json")
            return response.status, await response.json() if is_json else await response.text()


def cloud_event(data: Any, **envelope: Any) -> dict[str, Any]:
    """A CloudEvent as daprd 1.18 posts it."""
    return {
        "id": str(uuid.uuid4()),
        "source": "backend",
        "type": "com.dapr.event.sent",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "pubsubname": "pubsub-kafka",
        "topic": "task-updates",
        "data": data,
    } | envelope


def bulk_of(*events: Any, **entry: Any) -> dict[str, Any]:
    """A bulk delivery as daprd 1.18 posts it; entry ids are the events' places."""
    return {
        "id": str(uuid.uuid4()),
        "type": "com.dapr.event.sent.bulk",
        "topic": "task-updates",
        "pubsubname": "pubsub-kafka",
        "metadata": {"pubsubName": "pubsub-kafka"},
        "entries": [
            {
                "entryId": str(place),
                "event": event,
                "contentType": "application/cloudevents+json",
                "metadata": {"__key": "k", "__offset": str(place), "__partition": "0"},
            }
            | entry
            for place, event in enumerate(events)
        ],
    }


async def receive(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next message, which must be a JSON object."""
    message = json.loads(await ws.receive_str(timeout=DEADLINE))
    assert isinstance(message, dict)
    return message


async def closed(ws: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """Read to the end; the close code and reason. 1006 where the connection just broke."""
    while True:
        message = await ws.receive(timeout=DEADLINE)
        if message.type is aiohttp.WSMsgType.CLOSE:
            return ws.close_code, message.extra or ""
        if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            return 1006, ""


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true; the test fails if it does not."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0)  # noqa: ASYNC110 - of anything, not of what could set an event
