"""All tabs of a user on one socket in a real browser: which tab has it, and which one takes over."""

import contextlib

import pytest

from tests.support.browser import INSECURE
from tests.support.deliveries import cloud_event
from tests.support.scene import Scene
from tests.support.tab import Tab

# isort: split

from playwright.async_api import Error

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


async def of_three(scene: Scene) -> tuple[Tab, Tab, Tab]:
    """Three tabs, the one with the socket first."""
    return await scene.opened(), await scene.opened(), await scene.opened()


async def test_tabs_of_one_user_share_a_socket_and_another_user_has_its_own(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    other = await scene.opened(userId=f"{scene.user}-other")
    await scene.publish(1, 2)
    await leader.has(1, 2)
    await follower.has(1, 2)
    await scene.bridge.publish(f"{scene.user}-other", 7)
    await other.has(7)  # none of the first user's updates, which were published before

    session = (await scene.bridge.ask(f"/users/{scene.user}"))["sessions"][0]["session_id"]
    assert (leader.sockets, follower.sockets, other.sockets) == (1, 0, 1)
    assert (leader.state["transport"], follower.state["transport"]) == ("websocket", "tab")
    await scene.has_sessions(1)
    assert leader.frames("task_update") == follower.frames("task_update")
    assert [frame["session_id"] for tab in (leader, follower) for frame in tab.frames("connected")] == [session] * 2


async def test_tab_that_joins_gets_the_following_updates(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1)
    await follower.has(1)
    late = await scene.opened()
    await scene.publish(2)
    await late.has(2)
    await follower.has(1, 2)
    await leader.has(1, 2)
    assert await late.client("position") == await leader.client("position")
    assert (leader.sockets, follower.sockets, late.sockets) == (1, 0, 0)
    await scene.has_sessions(1)


async def test_tabs_with_share_false_have_their_own_sockets(scene: Scene) -> None:
    tabs = [await scene.opened(share=False) for _ in range(2)]
    await scene.publish(1)
    for tab in tabs:
        await tab.has(1)
    assert [tab.sockets for tab in tabs] == [1, 1]
    await scene.has_sessions(2)


@pytest.mark.engines("chromium", "firefox", reason="WebDriver cannot map the name of a host")
async def test_tab_without_web_locks_has_its_own_socket(scene: Scene) -> None:
    """On plain HTTP, outside of localhost, a browser has no Web Locks."""
    scene.site.host = INSECURE
    tabs = [await scene.opened() for _ in range(2)]
    assert await tabs[0].page.evaluate("[isSecureContext, 'locks' in navigator]") == [False, False]
    await scene.publish(1)
    for tab in tabs:
        await tab.has(1)
    assert [tab.sockets for tab in tabs] == [1, 1]


async def test_leader_that_is_closed_is_replaced(scene: Scene) -> None:
    leader, one, other = await of_three(scene)
    await scene.publish(1)
    await one.has(1)
    await other.has(1)
    await scene.proxy.refuse()  # until the updates are published, which no tab gets live
    await leader.page.close()
    await scene.publish(2, 3)
    await scene.proxy.listen()
    for tab in (one, other):
        await tab.has(1, 2, 3)
        await tab.is_in("open")
    await scene.publish(4)
    for tab in (one, other):
        await tab.has(1, 2, 3, 4)
        assert tab.frames("gap") == []
    await scene.has_sessions(1)
    assert {one.state["transport"], other.state["transport"]} == {"websocket", "tab"}


async def test_leader_that_logs_out_gives_up_the_socket(scene: Scene) -> None:
    leader, one, other = await of_three(scene)
    await scene.publish(1)
    await other.has(1)
    await leader.client("close()")
    await leader.is_in("closed")
    await scene.publish(2)
    await one.has(1, 2)
    await other.has(1, 2)
    assert (leader.sockets, one.sockets + other.sockets) == (1, 1)
    await scene.has_sessions(1)

    await leader.client("connect()")  # logged in again, it is behind the other tabs and catches up
    await leader.has(1, 2)
    await scene.publish(3)
    for tab in (leader, one, other):
        await tab.has(1, 2, 3)
    assert leader.sockets == 1
    await scene.has_sessions(1)


@pytest.mark.engines("chromium", reason="no address of the other engines crashes a page")
async def test_leader_that_crashes_is_replaced(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1)
    await follower.has(1)
    with contextlib.suppress(Error):
        await leader.page.goto("chrome://crash")
    await scene.publish(2)
    await follower.has(1, 2)
    assert follower.state["transport"] == "websocket"
    await scene.has_sessions(1)


async def test_close_everywhere_ends_every_tab_and_its_connection(scene: Scene) -> None:
    leader, one, other = await of_three(scene)
    alone, another_user = await scene.opened(share=False), await scene.opened(userId=f"{scene.user}-other")
    await one.client("close({ everywhere: true })")
    for tab in (leader, one, other, alone):
        await tab.is_in("closed")
    await scene.has_sessions(0)
    await scene.publish(1)
    assert another_user.state["status"] == "open"
    assert [tab.numbers for tab in (leader, one, other, alone)] == [[]] * 4


async def test_leader_that_is_busy_gives_up_the_connection(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await follower.page.bring_to_front()
    await leader.page.evaluate(
        "() => void setTimeout(() => { for (const end = Date.now() + 10_000; Date.now() < end; ); })"
    )
    await scene.publish(1)
    await follower.has(1)
    assert follower.state["transport"] == "websocket"
    await leader.has(1)
    await leader.is_in("open", transport="tab")


async def test_settled_in_any_tab_resolves_once_the_own_event_was_handled(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    for tab in (leader, follower):
        await tab.page.evaluate("void (window.settled = client.settled('own').then(() => [...seen]))")
    await scene.publish(1)
    event = cloud_event({"event_type": "task.created", "user_id": scene.user, "n": 2}, id="own")
    url = f"{scene.bridge.url}/events/task-updates"
    async with scene.bridge.http() as http, http.post(url, json=event) as response:
        assert await response.json() == {"status": "SUCCESS"}
    for tab in (leader, follower):
        assert await tab.page.evaluate("settled") == [1, 2]
