"""Close codes in a real browser: after which ones the client reconnects."""

from collections.abc import Sequence

import pytest
from aiohttp import web

from tests.support.running import Served
from tests.support.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


class Closing(Served):
    """A server, not the bridge: it sends `connected` and closes with `code` once; later connections stay open."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.visits = 0

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/ws", self._serve),)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.visits += 1
        hello = {"type": "connected", "message": "", "user_id": request.query["user_id"], "session_id": "s"}
        await ws.send_json(hello | {"timestamp": "", "last_event_id": "e:0", "ping_interval_ms": 25_000})
        if self.visits == 1:
            await ws.close(code=self.code, message=b"a reason")
        await ws.receive()  # until the page has closed it
        return ws


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
@pytest.mark.parametrize("code", [1008, 4500, 4503, 4509, 4599, 4999])
async def test_client_after_a_final_code_does_not_reconnect(scene: Scene, code: int) -> None:
    await scene.context.clock.install()
    async with Closing(code) as closing:
        leader = await scene.open(url=closing.url)
        await leader.is_in("closed", code=code, reason="a reason")
        await scene.context.clock.run_for(120_000)
        assert (closing.visits, leader.sockets, leader.state["status"]) == (1, 1, "closed")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 3000, 4000, 4408, 4429, 4499])
async def test_client_after_another_code_reconnects(scene: Scene, engine: str, code: int) -> None:
    hidden = engine == "webkit" and code in (1012, 1013)  # it shows them as 1006
    async with Closing(code) as closing:
        tab = await scene.open(url=closing.url)
        await tab.hears("connected", 2)
        assert tab.states == ["connecting", "open", "waiting", "connecting", "open"]
        waiting = next(state for state in tab.of_kind("state") if state["status"] == "waiting")
        assert (waiting["code"], waiting["reason"]) == ((1006, "") if hidden else (code, "a reason"))
        assert waiting["delay"] > 0 or code == 4408  # a slow consumer reconnects without a delay
        await tab.client("close()")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
@pytest.mark.parametrize("with_token", [False, True], ids=["no token", "token"])
async def test_client_of_a_forbidden_origin_gets_the_reason(scene: Scene, transport: str, with_token: bool) -> None:
    await scene.start(ALLOWED_ORIGINS="https://app.example.com")
    tab = await scene.open(with_token=with_token, transports=[transport])
    await tab.is_in("closed", code=4503, reason="origin_forbidden", problem="misconfigured")
    assert tab.sockets == (1 if transport == "websocket" else 0)


async def test_client_disconnected_by_an_operator_ends_all_tabs(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    url = f"{scene.bridge.url}/users/{scene.user}/disconnect"
    async with scene.bridge.http() as http, http.post(url) as response:
        assert response.status == 202
    for tab in (leader, follower):
        await tab.is_in("closed", code=4509, reason="force_disconnect")
    await scene.has_sessions(0)

    await follower.client("connect()")  # as a person does with a button
    await follower.is_in("open")
    await scene.publish(1)
    await follower.has(1)
    assert (leader.state["status"], leader.numbers) == ("closed", [])


# Follows with loads that the test answers.
_FOLLOW = """import(`${bridge}/client.js`).then(({ follow }) => {
  window.loads = [];
  window.sets = [];
  const load = ({ signal }) => new Promise((answer) => loads.push({ answer, signal }));
  follow(client, { load, set: (state) => sets.push(state), apply() {} });
})"""


async def test_follow_of_a_client_closed_everywhere_sets_nothing_until_the_next_connection(scene: Scene) -> None:
    first, second = await scene.opened(), await scene.opened()
    await second.page.evaluate(_FOLLOW)
    await first.client("close({ everywhere: true })")
    await second.is_in("closed", reason="closed_everywhere")
    assert await second.page.evaluate("loads.map(({ signal }) => signal.aborted)") == [True]
    await second.page.evaluate("loads[0].answer('of another user')")
    await second.client("connect()")
    await second.hears("connected", 2)
    await second.page.evaluate("loads[1].answer('own')")
    assert await second.page.evaluate("sets") == ["own"]
