"""A sidecar that only takes what its app publishes."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.support.running import Served


class FakeSidecar(Served):
    """Keeps the published events, unless `status` is an error."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.status = 204
        self.events: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.post("/v1.0/publish/{pubsub}/{topic}", self._publish)]

    async def _publish(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        event = await request.json()
        if self.status == 204:
            self.events.append(event)
        return web.Response(status=self.status)

    def outcomes(self) -> dict[str, str]:
        """The outcome for each user and event."""
        return {f"{e['data']['user_id']} {e['data']['event_id']}": e["data"]["outcome"] for e in self.events}
