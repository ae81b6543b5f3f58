"""Pages of a real browser that are hidden, asleep, offline, frozen or in the back-forward cache."""

import asyncio

import pytest

from tests.support.running import SECRET
from tests.support.scene import Scene
from tests.support.tab import Tab

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

MINUTE = 60_000  # ms


async def becomes(tab: Tab, visibility: str) -> None:
    """Set what the page sees: in a headless browser every page stays visible."""
    script = """state => {
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    await tab.page.evaluate(script, visibility)


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_page_hidden_with_throttled_timers_stays_connected(scene: Scene) -> None:
    await scene.context.clock.install()
    tab = await scene.opened()
    await becomes(tab, "hidden")
    scene.proxy.delay = 0.3
    for n in range(1, 6):
        # Each due timer fires once and late. At the second time, the answer to the first ping is not there yet. So it
        # is when a browser lets a page run once a minute; a real one does so after five minutes, hence the fake clock.
        await scene.context.clock.fast_forward(MINUTE)
        await scene.context.clock.fast_forward(MINUTE)
        await scene.publish(n)
        await tab.has(*range(1, n + 1))
    await becomes(tab, "visible")
    await scene.context.clock.fast_forward(5_000)
    await scene.publish(6)
    await tab.has(*range(1, 7))
    assert (tab.sockets, tab.states) == (1, ["connecting", "open"])


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_page_after_sleep_with_a_dead_connection_reconnects_quickly(scene: Scene) -> None:
    await scene.context.clock.install(time=0)
    tab = await scene.opened()
    await scene.publish(1)
    await tab.has(1)
    await becomes(tab, "hidden")
    scene.proxy.hold()
    await scene.publish(2)
    await scene.context.clock.pause_at(120 * MINUTE)
    await becomes(tab, "visible")
    await scene.context.clock.run_for(3_000)  # the time-out of an answer
    await tab.is_in("waiting", code=1006)
    await scene.context.clock.run_for(500)
    await tab.has(1, 2)
    assert tab.sockets == 2


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_page_after_sleep_with_a_live_connection_keeps_it(scene: Scene) -> None:
    await scene.context.clock.install()
    tab = await scene.opened()
    await scene.context.clock.fast_forward(120 * MINUTE)
    await becomes(tab, "visible")
    await scene.publish(1)
    await tab.has(1)
    await scene.context.clock.run_for(4_500)
    await scene.publish(2)
    await tab.has(1, 2)
    assert (tab.sockets, tab.states) == (1, ["connecting", "open"])


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_page_back_online_reconnects(scene: Scene) -> None:
    await scene.context.clock.install(time=0)
    tab = await scene.opened(backoff={"min": 20_000})  # the first delay is at least half of it
    await scene.context.clock.pause_at(MINUTE)
    scene.proxy.cut()  # cut first: an offline browser may hide the end of a socket from the page
    await tab.is_in("waiting", attempt=1)
    await scene.context.set_offline(True)
    await scene.publish(1)
    await scene.context.set_offline(False)
    await scene.context.clock.run_for(1_000)
    await tab.has(1)


@pytest.mark.engines("chromium", reason="only Chromium's DevTools freeze a page")
async def test_leader_that_is_frozen_is_replaced(natural: Scene) -> None:
    leader, one, other = [await natural.opened() for _ in range(3)]
    await natural.publish(1)
    await leader.has(1)
    await leader.freeze()
    await natural.publish(2)
    await one.has(1, 2)
    await other.has(1, 2)

    assert {one.state["transport"], other.state["transport"]} == {"websocket", "tab"}
    await leader.thaw()
    await leader.has(1, 2)  # the updates that it missed, although the present leader is ahead of it
    await natural.publish(3)
    for tab in (leader, one, other):
        await tab.has(1, 2, 3)
    await natural.has_sessions(1)


@pytest.mark.engines("chromium", reason="in the others, an open dialog stops no messages")
async def test_leader_that_hangs_is_replaced(natural: Scene) -> None:
    """Its script waits for a dialog, so it cannot even give up the socket."""
    leader, follower = await natural.opened(), await natural.opened()
    await leader.page.bring_to_front()
    await natural.publish(1)
    await follower.has(1)
    async with leader.page.expect_event("dialog") as hanging:
        await leader.page.evaluate("() => void setTimeout(() => alert('Wait'))")
    await natural.publish(2)
    await follower.page.bring_to_front()  # visible again, it asks whether the leader still responds
    await follower.has(1, 2)
    assert follower.state["transport"] == "websocket"

    await (await hanging.value).accept()
    await leader.has(1, 2)
    await natural.publish(3)
    await leader.has(1, 2, 3)
    await follower.has(1, 2, 3)
    assert leader.state["transport"] == "tab"
    await natural.has_sessions(1)


@pytest.mark.engines("chromium", reason="only Chromium's DevTools freeze a page")
async def test_follower_after_a_freeze_catches_up(natural: Scene) -> None:
    leader, follower = await natural.opened(), await natural.opened()
    await leader.page.bring_to_front()  # only a hidden tab can be frozen
    await natural.publish(1)
    await follower.has(1)
    await follower.freeze()
    await natural.publish(2, 3)
    await leader.has(1, 2, 3)
    await follower.thaw()
    await follower.has(1, 2, 3)
    await natural.publish(4)
    await follower.has(1, 2, 3, 4)
    assert follower.sockets == 0
    await natural.has_sessions(1)


@pytest.mark.engines("chromium", reason="only Chromium's DevTools freeze a page")
async def test_follower_after_a_long_freeze_gets_a_gap(natural: Scene) -> None:
    """Only this tab gets the gap: the tab with the socket, which resumes for it, has everything."""
    await natural.start(HISTORY_SIZE="10")
    leader, follower = await natural.opened(), await natural.opened()
    await leader.page.bring_to_front()
    await natural.publish(1)
    await follower.has(1)
    await follower.freeze()
    await natural.publish(*range(2, 20))
    await leader.has(*range(1, 20))
    await follower.thaw()
    await follower.hears("gap")
    await natural.publish(20)
    await follower.has(1, 20)
    await leader.has(*range(1, 21))
    assert (len(follower.frames("gap")), leader.frames("gap")) == (1, [])


@pytest.mark.engines("chromium", "webkit", reason="Firefox does not keep a page whose WebSocket is open")
async def test_page_restored_from_the_back_forward_cache_resumes(natural: Scene) -> None:
    tab = await natural.opened()
    await natural.publish(1)
    await tab.has(1)
    await tab.page.goto(f"{natural.site.origin}/elsewhere")
    await natural.publish(2)
    await tab.page.go_back(wait_until="commit")
    await tab.has(1, 2)
    assert [shown["persisted"] for shown in tab.of_kind("shown")] == [False, True]
    await natural.publish(3)
    await tab.has(1, 2, 3)
    assert tab.sockets == 2
    assert tab.frames("gap") == []


@pytest.mark.engines("chromium", "webkit", reason="Firefox does not keep a page whose WebSocket is open")
async def test_leader_restored_from_the_back_forward_cache_catches_up(natural: Scene) -> None:
    leader, follower = await natural.opened(), await natural.opened()
    await natural.publish(1)
    await leader.has(1)
    await leader.page.goto(f"{natural.site.origin}/elsewhere")
    await natural.publish(2)
    await follower.has(1, 2)
    await leader.page.go_back(wait_until="commit")
    await leader.has(1, 2)
    assert [shown["persisted"] for shown in leader.of_kind("shown")] == [False, True]
    await natural.publish(3)
    await leader.has(1, 2, 3)
    await follower.has(1, 2, 3)
    await natural.has_sessions(1)


# Follows with a load that fails when the page is left, so the next one is due within 500 ms after the return.
_FOLLOW = """import(`${bridge}/client.js`).then(({ follow }) => {
  window.loads = 0;
  const load = () => new Promise((_, fail) => {
    loads++;
    addEventListener('pagehide', () => {
      fail(new Error('cancelled'));
      setTimeout(tell, 1_000, 'overdue', {});
    });
  });
  follow(client, { load, apply() {}, onError() {} });
})"""


@pytest.mark.engines("chromium", "webkit", reason="Firefox does not keep a page whose WebSocket is open")
async def test_follow_of_a_page_restored_after_a_logout_does_not_load_as_planned(natural: Scene) -> None:
    answering = asyncio.Event()

    async def grant(*_: str) -> None:
        await answering.wait()

    await natural.start(JWT_SECRET=SECRET)
    tab = await natural.opened(with_token=True)
    await tab.page.evaluate(_FOLLOW)
    natural.site.grant = grant
    await tab.page.goto(f"{natural.site.origin}/elsewhere")
    await tab.page.go_back(wait_until="commit")
    await tab.until(lambda: tab.of_kind("overdue"))
    answering.set()
    await tab.is_in("closed", reason="no_token")
    assert [shown["persisted"] for shown in tab.of_kind("shown")] == [False, True]
    assert await tab.page.evaluate("loads") == 1
