"""A site that uses the browser client: one page, and its token endpoint."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tests.support.running import Served, token

# The page reports what happens through `tell(kind, value)`, in order. `seen` has the numbers of the updates.
# The page also reports when each of its WebSockets opens and closes, so the test need not rely on the client's state.
# `logIn` makes a client for another user.
_PAGE = """<!doctype html>
<title>A page of the tests</title>
<script>
const { bridge, options, withToken, tab } = JSON.parse(new URLSearchParams(location.search).get('page'));
// tests.support.tab gives it a function. WebDriver cannot; a synchronous request keeps the order and outlives the page.
window.tell ??= (kind, value) => {
  const request = new XMLHttpRequest();
  request.open('POST', `/told/${tab}`, false);
  request.send(JSON.stringify([kind, value]));
};
addEventListener('pageshow', ({ persisted }) => tell('shown', { persisted }));
addEventListener('error', ({ message }) => tell('error', message));
addEventListener('unhandledrejection', ({ reason }) => tell('error', String(reason)));
window.WebSocket = class extends WebSocket {
  static count = 0;
  constructor(url, protocols) {
    super(url, protocols);
    const number = ++window.WebSocket.count;
    tell('opening', { number, url });
    this.addEventListener('open', () => tell('opened', { number }));
    this.addEventListener('close', ({ code, reason }) => tell('closed', { number, code, reason }));
  }
};
</script>
<script type="module">
const { createClient } = await import(`${bridge}/client.js`);

const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (v instanceof Error ? String(v) : v)));
document.addEventListener('freeze', () => tell('frozen', {}));
window.logIn = (user) => {
  async function getToken({ reason, signal }) {
    tell('asked', reason);
    const response = await fetch(`/token?${new URLSearchParams({ reason, user })}`, { method: 'POST', signal });
    if (!response.ok) throw new Error(`the token endpoint says ${response.status}`);
    return response.json();
  }
  window.user = user;
  window.seen = [];
  window.client = createClient({ ...options, userId: user, ...(withToken && { getToken }) });
  client.on('task_update', ({ event }) => {
    if (user && (event.user_id ?? user) !== user) throw new Error(`an update of ${event.user_id} is shown to ${user}`);
    seen.push(event.n);
  });
  client.on('state', (state) => tell('state', plain(state)));
  client.on('*', (message) => tell('message', message));
  client.connect();
};
logIn(options.userId);
tell('loaded', {});
</script>
"""


class Site(Served):
    """`async with Site(user)`; `grant` makes the tokens of that user."""

    def __init__(self, user: str) -> None:
        self.host = "127.0.0.1"
        self.user = user
        self.grant: Callable[[str, str], Awaitable[str | None]] = self._grant  # with the reason and the user
        self.listeners: list[Callable[[str, Any], None]] = []  # of the reports of each tab

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/", self._page),
            web.get("/elsewhere", self._elsewhere),
            web.post("/token", self._token),
            web.post("/told/{tab}", self._told),
        )

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def page(self, bridge: str, *, with_token: bool, **options: Any) -> str:
        """The address of the page, which loads client.js from `bridge`; `options` are createClient's.

        A page that cannot call the test reports to the last of the listeners.
        """
        tab = len(self.listeners) - 1
        page = {"bridge": bridge, "options": options, "withToken": with_token, "tab": tab}
        return f"{self.origin}/?{urlencode({'page': json.dumps(page)})}"

    async def _grant(self, *_: str) -> str | None:
        return token(self.user)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def _elsewhere(self, _: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response(await self.grant(request.query["reason"], request.query["user"]))

    async def _told(self, request: web.Request) -> web.Response:
        self.listeners[int(request.match_info["tab"])](*await request.json())
        return web.Response()
