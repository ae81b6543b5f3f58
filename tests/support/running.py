"""Runs a bridge and talks to it: the functions that most tests use."""

import asyncio
import io
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import jwt
from aiohttp import web

from tests.support.deliveries import cloud_event
from wsbridge.app import Bridge
from wsbridge.config.settings import UNPREFIXED
from wsbridge.server import Server

DEADLINE = 60.0  # seconds that a test waits for an expected event, on a machine with other work
IMPATIENT = 20  # checks without a pause: most conditions become true within a few turns of the loop
PAUSE = 0.002  # seconds between later checks; without a pause they would take CPU time from the bridge
SECRET = "a secret of thirty-two bytes or more"
APP_TOKEN, ADMIN_TOKEN = "what only the sidecar knows", "what only operators know"
ROOT = Path(__file__).parents[2]


class Reachable:
    """A bridge at a port of this machine."""

    app_token: str | None = None  # sent with a delivery
    admin_token: str | None = None  # sent with a GET

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.http = http
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self, user: str | None = "u1", **query: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket without reading its first message."""
        params = query if user is None else {"user_id": user, **query}
        ws = await self.http.ws_connect(f"{self.url}/ws", params=params)
        self.sockets.append(ws)
        return ws

    async def hang_up(self) -> None:
        """Close the sockets that the test has left open."""
        for ws in self.sockets:
            await ws.close()

    async def opened(self, user: str = "u1", **query: str) -> tuple[aiohttp.ClientWebSocketResponse, dict[str, Any]]:
        """Open a WebSocket and read its `connected` message."""
        ws = await self.connect(user, **query)
        return ws, await receive(ws)

    async def publish(self, data: Any, **envelope: Any) -> str:
        """Post one enveloped event; return the status in the answer."""
        answer = await self.post(cloud_event(data, **envelope))
        return str(answer["status"])

    async def post(
        self, body: Any, content_type: str = "application/cloudevents+json", topic: str = "task-updates", **headers: str
    ) -> Any:
        """Post a body as the sidecar does; return the JSON of the answer."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        token = {"dapr-api-token": self.app_token} if self.app_token else {}
        headers = {"content-type": content_type} | token | headers
        async with self.http.post(f"{self.url}/events/{topic}", data=io.BytesIO(payload), headers=headers) as response:
            assert response.status == 200, (response.status, await response.text())
            return await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Send an operator's GET; return the status and the JSON or text."""
        token = {"Authorization": f"Bearer {self.admin_token}"} if self.admin_token else {}
        async with self.http.get(self.url + path, headers=token | headers) as response:
            is_json = response.content_type.endswith("json")
            return response.status, await response.json() if is_json else await response.text()


class Running(Reachable):
    """A bridge in this process, on real sockets."""

    def __init__(self, bridge: Bridge, server: Server, http: aiohttp.ClientSession) -> None:
        super().__init__(server.ports[0], http)
        self.bridge = bridge
        self.server = server
        self.app_token, self.admin_token = bridge.settings.app_api_token, bridge.settings.admin_token

    def closes(self, code: str) -> int:
        """The number of closes with that code, over all reasons."""
        return sum(count for (known, _), count in self.bridge.metrics.closes.items() if known == code)


async def connect(
    bridge: Running,
    *,
    query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
    protocols: tuple[str, ...] = (),
) -> aiohttp.ClientWebSocketResponse:
    ws = await bridge.http.ws_connect(f"{bridge.url}/ws", params=query, headers=headers, protocols=protocols)
    bridge.sockets.append(ws)
    return ws


class Served:
    """A server of the test itself on loopback: `routes()` at `port`, or at any free port if that is 0."""

    port = 0

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16_777_216)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0)  # do not wait for handlers that are slow on purpose
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for site in self._runner.sites:
            await site.stop()
        await accepted()  # aiohttp closes those that it knows
        await self._runner.cleanup()


async def accepted() -> None:
    """Let asyncio hand over the connections that it has accepted. Call it when a server listens no longer.

    A connection needs a task, a transport and its protocol's `connection_made`, one turn of the loop for each. Nobody
    would close it if the loop ended before.
    """
    for _ in range(3):
        await asyncio.sleep(0)


def variables(settings: dict[str, str]) -> dict[str, str]:
    """Settings as environment variables. Where deliveries and operators need tokens, it adds those not given."""
    has_key = any(name.startswith("JWT_") for name in settings)
    tokens = {"APP_API_TOKEN": APP_TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN} if has_key else {}
    return {name if name in UNPREFIXED else f"WSBRIDGE_{name}": text for name, text in (tokens | settings).items()}


def credentials(environ: dict[str, str]) -> dict[str, str]:
    """The headers of a sidecar and of an operator, for a bridge with these variables."""
    app, admin = environ.get("APP_API_TOKEN"), environ.get("WSBRIDGE_ADMIN_TOKEN")
    headers = {"dapr-api-token": app, "Authorization": f"Bearer {admin}" if admin else None}
    return {name: text for name, text in headers.items() if text}


def token(user: str = "u1", *, ttl: float = 60, key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A JWT; a claim that is None is left out."""
    content = {"sub": user, "exp": int(time.time() + ttl)} | claims
    return jwt.encode({name: value for name, value in content.items() if value is not None}, key, algorithm=algorithm)


async def receive(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next message, which must be a JSON object."""
    async with asyncio.timeout(DEADLINE):  # the argument `timeout` of aiohttp begins again at each ping
        message = json.loads(await ws.receive_str())
    assert isinstance(message, dict)
    return message


async def data_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The data of the next event in the stream."""
    async with asyncio.timeout(DEADLINE):
        async for line in response.content:
            if line.startswith(b"data:"):
                return dict(json.loads(line.removeprefix(b"data:")))
    raise AssertionError("the stream has ended")


async def closed(ws: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """Read to the end; return the close code and reason, or 1006 if the connection ended without a close frame."""
    async with asyncio.timeout(DEADLINE):
        while True:
            message = await ws.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return ws.close_code, message.extra or ""
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return 1006, ""


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true; the test fails if it does not become true."""

    async def told() -> object:
        return condition()

    await until_told(told)


async def until_told(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until an asynchronous condition is true, such as one that sends a request."""
    async with asyncio.timeout(DEADLINE):
        for look in itertools.count():
            if await condition():
                return
            await asyncio.sleep(0 if look < IMPATIENT else PAUSE)


Start = Callable[..., Awaitable[Running]]
