"""The deployment that is examined: where its parts are, and how to ask them."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp

from wsbridge.cli.doctor.findings import NotChecked
from wsbridge.cli.http import Unreachable, why_unreachable
from wsbridge.config.settings import Settings

TIMEOUT = 5.0  # seconds for one response
MOST_BYTES = 4_194_304  # of a response that are read


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The object in the body; an empty one if there is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """`url` is that of the bridge for operators, `public_url` the one that browsers use."""

    settings: Settings
    http: aiohttp.ClientSession
    url: str
    public_url: str | None = None
    sidecar: str | None = None  # the URL of the bridge's sidecar
    caller: str | None = None  # the URL of another app's sidecar
    api_token: str | None = None  # the token that the sidecar requires
    token: str | None = None  # a JWT for the public routes
    is_own_token: bool = False  # it was made from WSBRIDGE_JWT_SECRET, not by the identity provider
    origin: str | None = None
    idle: float = 30.0  # seconds for which a connection through the ingress must last
    canary: bool = False
    note: Callable[[str], None] = lambda _: None  # is called before a check that takes long

    async def send(self, url: str, method: str = "GET", body: bytes | None = None, /, **headers: str) -> Answer:
        """Send a request; follow no redirect. Raises `Unreachable` if no response came."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self.http.request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await _body(response.content))
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(why_unreachable(error, TIMEOUT)) from None

    async def of_bridge(self, path: str) -> Answer:
        """Ask the bridge as an operator, over a new connection: a Service may pass it to another replica."""
        return await self.send(self.url + path, **self._as_operator())

    async def uses_redis(self) -> bool:
        """Whether the bridge does, by its health. Raises `Unreachable`."""
        return "redis" in (await self.of_bridge("/health")).json().get("checks", {})

    async def lines(self, path: str) -> AsyncGenerator[bytes]:
        """The lines of a route for operators that streams. Raises `NotChecked` if it does not."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        try:
            async with self.http.get(
                self.url + path, headers=self._as_operator(), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise NotChecked("the bridge does not answer operators")
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, OSError):
            raise NotChecked("the bridge does not answer") from None
        raise NotChecked("the bridge ended the stream of its numbers")

    def _as_operator(self) -> dict[str, str]:
        token = self.settings.admin_token
        return {"Connection": "close"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def stats(self) -> dict[str, Any]:
        """The answer of `/stats`. Raises `NotChecked` if there is none."""
        try:
            answer = await self.of_bridge("/stats")
        except Unreachable:
            raise NotChecked("the bridge does not answer") from None
        if answer.status != HTTPStatus.OK or "replica" not in answer.json():
            raise NotChecked("the bridge does not answer operators")
        return answer.json()

    async def of_sidecar(self, path: str, method: str = "GET", body: bytes | None = None) -> Answer:
        """Ask the sidecar. Raises `NotChecked` if there is none, or `Unreachable`."""
        if self.sidecar is None:
            raise NotChecked("--url examines from outside; the sidecar is checked with --dapr")
        token = {"dapr-api-token": self.api_token} if self.api_token else {}
        return await self.send(self.sidecar + path, method, body, **token)

    async def metadata(self) -> dict[str, Any]:
        """The sidecar's description of itself. Raises `NotChecked` if there is none."""
        try:
            answer = await self.of_sidecar("/v1.0/metadata")
        except Unreachable:
            raise NotChecked("the sidecar does not answer") from None
        if answer.status != HTTPStatus.OK:
            raise NotChecked("the sidecar refuses DAPR_API_TOKEN or has no metadata")
        return answer.json()


async def _body(content: aiohttp.StreamReader) -> bytes:
    """Up to MOST_BYTES of the body; `read` returns what has arrived."""
    body = b""
    while len(body) < MOST_BYTES and (part := await content.read(MOST_BYTES - len(body))):
        body += part
    return body
