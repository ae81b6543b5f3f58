"""One check of `wsbridge doctor`, and a stand-in for a sidecar."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.running import Served, variables
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.examination import CHECKS, examine, run
from wsbridge.cli.doctor.findings import Finding, State
from wsbridge.config.env import load

NOWHERE = "http://127.0.0.1:1"
INVOKE = "/v1.0/invoke/websocket-service/method"
OK, WARNING, FAILURE, NOT_CHECKED = State.OK, State.WARNING, State.FAILURE, State.NOT_CHECKED


@contextlib.asynccontextmanager
async def _deployment(settings: Mapping[str, str] | None, url: str, **options: Any) -> AsyncIterator[Deployment]:
    loaded, _ = load(variables(dict(settings or {})))
    async with aiohttp.ClientSession() as http:
        yield Deployment(settings=loaded, http=http, url=url, **options)


async def found(
    check: str, settings: Mapping[str, str] | None = None, *, url: str = NOWHERE, **options: Any
) -> Finding:
    """The finding of the check for a deployment with these settings."""
    [finding] = await all_found(check, settings, url=url, **options)
    return finding


async def all_found(
    check: str, settings: Mapping[str, str] | None = None, *, url: str = NOWHERE, **options: Any
) -> list[Finding]:
    """All findings of the check."""
    async with _deployment(settings, url, **options) as deployment:
        return await run(CHECKS[check], deployment)


async def examined(settings: Mapping[str, str] | None = None, *, url: str, **options: Any) -> dict[str, Finding]:
    """The findings of a whole examination; of several findings of a check the last one."""
    async with _deployment(settings, url, **options) as deployment:
        return dict(await examine(deployment))


async def failures(settings: Mapping[str, str], *, url: str, **options: Any) -> dict[str, str]:
    """The texts of all failures of a whole examination."""
    findings = await examined(settings, url=url, **options)
    return {check: finding.text for check, finding in findings.items() if finding.state is FAILURE}


class StandIn(Served):
    """Answers as a sidecar of the app `websocket-service`: `async with StandIn(runtimeVersion="1.18.3")`."""

    def __init__(self, **metadata: Any) -> None:
        self.metadata = {
            "id": "websocket-service",
            "runtimeVersion": "1.18.3",
            "components": [{"name": "pubsub-kafka", "type": "pubsub.kafka"}],
            "subscriptions": [{"pubsubname": "pubsub-kafka", "topic": "task-updates"}],
            "appConnectionProperties": {"port": 8005},
        } | metadata
        self.api_token: str | None = None
        self.invoked: type[web.HTTPException] = web.HTTPOk  # the answer to an invocation
        self.text = ""
        self.published = 204  # the status of an empty bulk

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/v1.0/metadata", self._metadata),
            web.post("/v1.0-alpha1/publish/bulk/pubsub-kafka/{topic}", self._publish_none),
            web.head(f"{INVOKE}/dapr/subscribe", self._invoke),  # GET would be a read of the subscriptions
            web.get(f"{INVOKE}/healthz", self._invoke),
        )

    async def _metadata(self, request: web.Request) -> web.Response:
        if self.api_token and request.headers.get("dapr-api-token") != self.api_token:
            raise web.HTTPUnauthorized
        return web.json_response(self.metadata)

    async def _publish_none(self, request: web.Request) -> web.Response:
        assert await request.json() == []
        return web.Response(status=self.published)

    async def _invoke(self, _: web.Request) -> web.Response:
        return web.Response(status=self.invoked.status_code, text=self.text)
