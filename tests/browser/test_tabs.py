"""All tabs of a user on one socket in a real browser: which tab has it, and which one takes over."""

import contextlib
import os

import pytest

from tests.support.browser import INSECURE
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.scene import Scene
from tests.support.tab import Tab

# isort: split

from playwright.async_api import Error

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

WRITES = int(os.environ.get("OWN_WRITES", "300"))
BATCH = 50  # of them; the bridge's history holds two
# For each id: the event with which `settled` resolves, and how often the handler of that event has run by then.
AWAIT_OWN = """() => {
  window.handled = {};
  window.own = [];
  client.on('task_update', ({ event_id }) => (handled[event_id] = (handled[event_id] ?? 0) + 1));
  window.awaitOwn = (ids) => ids.forEach((id) =>
    own.push(client.settled(id, { timeout: 30_000 }).then(({ event_id }) => [id, event_id, handled[id]])));
}"""


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


async def test_tab_that_returns_is_open_once_the_bridge_was_asked_for_what_it_missed(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await follower.client("close()")
    await follower.is_in("closed")
    await scene.publish(1)
    await leader.has(1)
    await scene.proxy.refuse()
    await follower.client("connect()")
    await leader.until(lambda: leader.sockets == 3)  # it has tried twice for the follower
    assert (leader.state["status"], follower.state["status"]) == ("open", "connecting")

    await scene.proxy.listen()
    await follower.has(1)
    assert follower.state["status"] == "open"
    await scene.publish(2)
    for tab in (leader, follower):
        await tab.has(1, 2)


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


async def publish_own(scene: Scene, *ids: str) -> None:
    events = [cloud_event({"event_type": "task.created", "user_id": scene.user, "n": 0}, id=id_) for id_ in ids]
    url = f"{scene.bridge.url}/events/task-updates"
    async with scene.bridge.http() as http, http.post(url, json=bulk_of(*events)) as response:
        assert {entry["status"] for entry in (await response.json())["statuses"]} == {"SUCCESS"}


async def test_settled_resolves_once_for_each_own_write_over_reconnects_and_other_leaders(scene: Scene) -> None:
    """`OWN_WRITES=10000` makes as many. The page awaits half of them before they are published, half of them after."""
    leader, writer = [await scene.opened(backoff={"min": 20, "max": 100}) for _ in range(2)]
    for tab in (leader, writer):
        await tab.page.evaluate(AWAIT_OWN)
    for turn, first in enumerate(range(0, WRITES, BATCH)):
        early = [f"{n}" for n in range(first, first + BATCH // 2)]
        late = [f"{n}" for n in range(first + BATCH // 2, first + BATCH)]
        await writer.page.evaluate("ids => awaitOwn(ids)", early)
        await publish_own(scene, *early)
        if turn % 3 == 0:
            scene.proxy.cut()
        elif turn % 3 == 1:
            scene.proxy.hang_up()
        else:  # the writer becomes the leader
            await leader.client("close()")
        await publish_own(scene, *late)
        await writer.page.evaluate("ids => awaitOwn(ids)", late)
        settled = await writer.page.evaluate("() => Promise.all(own.splice(0))")
        assert settled == [[id_, id_, 1] for id_ in early + late]
        if turn % 3 == 2:
            await leader.client("connect()")
            await leader.is_in("open")
            leader, writer = writer, leader
    for tab in (leader, writer):
        await tab.hears("task_update", WRITES)
        assert await tab.page.evaluate("handled") == {str(n): 1 for n in range(WRITES)}
