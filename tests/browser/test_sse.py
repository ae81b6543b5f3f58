"""Networks that break WebSockets: a real browser falls back to Server-Sent Events, and returns to a WebSocket later."""

import pytest

from tests.support.proxy import Upgrades
from tests.support.running import SECRET, token
from tests.support.scene import Scene
from tests.support.tab import Tab

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
@pytest.mark.parametrize("blocked", [Upgrades.STRIPPED, Upgrades.FORBIDDEN], ids=lambda blocked: blocked.value)
async def test_stream_is_used_until_a_websocket_opens(scene: Scene, blocked: Upgrades) -> None:
    await scene.context.clock.install()
    scene.proxy.upgrades = blocked
    leader, follower = await scene.open(), await scene.open()
    await leader.is_in("open", transport="sse")
    tried = leader.sockets
    assert 1 <= tried <= 3  # on a slow machine it opens beside a socket, and not after three of them
    await scene.publish(1)
    await leader.has(1)
    await follower.has(1)

    scene.proxy.cut()  # a stream resumes like a socket
    await scene.publish(2)
    await leader.has(1, 2)
    assert leader.state["transport"] == "sse"

    await scene.context.clock.fast_forward(11_000)  # the first try of a WebSocket
    await leader.until(lambda: len(leader.of_kind("closed")) > tried)
    scene.proxy.upgrades = Upgrades.PASSED
    await scene.publish(3)
    await leader.has(1, 2, 3)
    assert leader.state["transport"] == "sse"
    await scene.context.clock.fast_forward(21_000)  # the second try, after twice the time
    await leader.is_in("open", transport="websocket")
    await scene.publish(4)
    for tab in (leader, follower):
        await tab.has(1, 2, 3, 4)
        assert tab.frames("gap") == []
    await scene.has_sessions(1)


async def opened_beside_a_swallowed_upgrade(scene: Scene) -> Tab:
    """A tab with a fake clock that opened a stream, because its WebSocket got no answer."""
    await scene.context.clock.install()
    scene.proxy.upgrades = Upgrades.SWALLOWED
    tab = await scene.open()
    await tab.until(lambda: tab.sockets == 1)
    await scene.context.clock.run_for(3_100)
    await tab.is_in("open", transport="sse")
    return tab


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_stream_beside_a_swallowed_upgrade_opens_within_3_s_and_is_remembered(scene: Scene) -> None:
    leader = await opened_beside_a_swallowed_upgrade(scene)
    follower = await scene.opened()
    await scene.publish(1)
    for tab in (leader, follower):
        await tab.has(1)

    await leader.page.close()  # the next leader begins with a stream
    await follower.is_in("open", transport="sse")
    await scene.publish(2)
    await follower.has(1, 2)
    assert (leader.sockets, follower.sockets) == (1, 0)

    await follower.page.reload()  # so does the reloaded page
    await follower.until(lambda: len(follower.frames("connected")) == 3)
    assert (follower.state["transport"], follower.sockets) == ("sse", 0)


@pytest.mark.engines("firefox", reason="the others end a connection whose handshake the page has given up")
async def test_upgrades_that_are_swallowed_for_hours_leave_connections_for_streams(scene: Scene) -> None:
    """Firefox keeps them, also after a reload, and opens none to a host and port to which it has six."""
    tab = await opened_beside_a_swallowed_upgrade(scene)
    published = 0
    for _ in range(12):  # two hours
        for ms in (600_000, 11_000):  # a WebSocket may be due; then its time-out is
            await scene.context.clock.fast_forward(ms)
            published += 1
            await scene.publish(published)
            await tab.has(*range(1, published + 1))
    assert len(scene.proxy.swallowed) <= 4

    greeted = len(tab.frames("connected"))
    await tab.page.reload()
    await tab.hears("connected", greeted + 1)
    assert tab.state["transport"] == "sse"
    await scene.publish(published + 1)
    await tab.has(*range(1, published + 2))


async def test_client_with_streams_only_opens_no_socket(scene: Scene) -> None:
    tab = await scene.opened(transports=["sse"])
    await scene.publish(1)
    await tab.has(1)
    assert (tab.state["transport"], tab.sockets) == ("sse", 0)


async def test_stream_sends_its_token_and_a_fresh_one_later(scene: Scene) -> None:
    async def grant(reason: str, _: str) -> str:
        return token(scene.user, ttl=60 if reason == "refresh" else 7)

    scene.site.grant = grant
    scene.proxy.upgrades = Upgrades.FORBIDDEN
    await scene.start(JWT_SECRET=SECRET, JWT_LEEWAY="1")
    tab = await scene.open(with_token=True)
    await tab.is_in("open", transport="sse")
    await scene.publish(1)
    await tab.has(1)
    await tab.hears("connected", 2)
    await scene.publish(2)
    await tab.has(1, 2)
    assert tab.frames("connected")[1]["recovered"]
    assert tab.states[-1] == "open"
    assert tab.states.count("open") == 1  # the next stream opened before the last one ended


async def test_client_without_sse_opens_no_stream(scene: Scene) -> None:
    scene.proxy.upgrades = Upgrades.FORBIDDEN
    tab = await scene.open(sse=False)
    await tab.until(lambda: tab.sockets == 4)
    assert {state.get("transport") for state in tab.of_kind("state")} <= {None, "websocket"}
