"""A site that uses the browser client: one page, and its token endpoint."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tests.support.running import Served, token

# It tells the test everything, in order, through `tell(kind, value)`, which tests.support.tab gives it, and
# remembers in `seen` the numbers of the updates.
_PAGE = """<!doctype html>
<title>A page of the tests</title>
<script type="module">
const { bridge, options, withToken } = JSON.parse(new URLSearchParams(location.search).get('page'));
const { createClient } = await import(`${bridge}/client.js`);

async function getToken({ reason, signal }) {
  tell('asked', reason);
  const response = await fetch(`/token?${new URLSearchParams({ reason })}`, { method: 'POST', signal });
  if (!response.ok) throw new Error(`the token endpoint says ${response.status}`);
  return response.json();
}

const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (v instanceof Error ? String(v) : v)));
document.addEventListener('freeze', () => tell('frozen', {}));
addEventListener('pageshow', ({ persisted }) => tell('shown', { persisted }));
window.client = createClient({ ...options, ...(withToken && { getToken }) });
window.seen = [];
client.on('task_update', ({ event }) => seen.push(event.n));
client.on('state', (state) => tell('state', plain(state)));
client.on('*', (message) => tell('message', message));
client.connect();
</script>
"""


class Site(Served):
    """`async with Site(port, user)`; `grant` makes the tokens of that user."""

    def __init__(self, port: int, user: str) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.user = user
        self.grant: Callable[[str], Awaitable[str | None]] = self._grant  # called with the reason

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/", self._page),
            web.get("/elsewhere", self._elsewhere),
            web.post("/token", self._token),
        )

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def page(self, bridge: str, *, with_token: bool, **options: Any) -> str:
        """The address of the page, which loads client.js from `bridge`; `options` are createClient's."""
        page = {"bridge": bridge, "options": options, "withToken": with_token}
        return f"{self.origin}/?{urlencode({'page': json.dumps(page)})}"

    async def _grant(self, _: str) -> str | None:
        return token(self.user)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def _elsewhere(self, _: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response(await self.grant(request.query["reason"]))
