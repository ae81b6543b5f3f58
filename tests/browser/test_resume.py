"""Connections of a real browser that break, and bridges that restart: each update arrives once."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import Bridge
from tests.support.proxy import FaultyProxy
from tests.support.running import until
from tests.support.scene import Scene
from tests.support.valkey import DURABLE, Valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all


@pytest.mark.parametrize("fault", [FaultyProxy.cut, FaultyProxy.hang_up], ids=lambda fault: fault.__name__)
async def test_client_after_a_broken_connection_resumes(scene: Scene, fault: Callable[[FaultyProxy], None]) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1)
    await follower.has(1)
    await scene.proxy.refuse()
    fault(scene.proxy)
    await leader.is_in("waiting", code=1006)
    await follower.is_in("waiting", code=1006)
    await scene.publish(2, 3)
    await scene.proxy.listen()
    for tab in (leader, follower):
        await tab.has(1, 2, 3)
        await tab.is_in("open")
    await scene.publish(4)
    for tab in (leader, follower):
        await tab.has(1, 2, 3, 4)
        assert tab.frames("gap") == []
        assert [frame.get("recovered") for frame in tab.frames("connected")] == [None, True]


async def test_client_after_a_broken_replay_resumes(scene: Scene) -> None:
    tab = await scene.opened()
    await scene.publish(1)
    await tab.has(1)
    await scene.proxy.refuse()
    scene.proxy.cut()
    await scene.publish(*range(2, 40))
    scene.proxy.delay = 0.05
    await scene.proxy.listen()
    await tab.hears("connected", 2)
    scene.proxy.cut()
    scene.proxy.delay = 0.0
    await tab.has(*range(1, 40))


async def test_client_on_a_slow_network_gets_each_update_once(scene: Scene) -> None:
    scene.proxy.delay = 0.2
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1, 2, 3)
    await leader.has(1, 2, 3)
    await follower.has(1, 2, 3)
    assert (leader.sockets, follower.sockets, leader.states) == (1, 0, ["connecting", "open"])


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
@pytest.mark.parametrize("fault", [FaultyProxy.hold, FaultyProxy.half_close], ids=lambda fault: fault.__name__)
async def test_client_on_a_silent_connection_reconnects(scene: Scene, fault: Callable[[FaultyProxy], None]) -> None:
    await scene.context.clock.install()
    tab = await scene.opened()
    await scene.publish(1)
    await tab.has(1)
    fault(scene.proxy)
    await scene.publish(2)
    await scene.context.clock.run_for(25_000)  # the ping interval, after which the client sends a ping
    assert tab.states == ["connecting", "open"]
    await scene.context.clock.run_for(11_000)  # no answer arrives in time
    await tab.until(lambda: "waiting" in tab.states)
    await scene.context.clock.run_for(1_000)
    await tab.has(1, 2)
    assert tab.sockets == 2


@pytest.mark.engines("chromium", "firefox", reason="a fake clock is a part of Playwright")
async def test_client_of_a_silent_bridge_keeps_trying(scene: Scene) -> None:
    await scene.context.clock.install()
    tab = await scene.opened(sse=False)
    scene.proxy.silent = True
    scene.proxy.cut()
    await until(lambda: tab.sockets == 2 and scene.proxy.held)
    await scene.publish(1)
    scene.proxy.silent = False
    await scene.context.clock.run_for(11_000)  # until its time-out is over
    await tab.is_in("open")
    await tab.has(1)
    assert tab.sockets == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
async def test_client_after_a_restart_of_a_bridge_with_redis_resumes(
    scene: Scene, tmp_path: Path, how: signal.Signals
) -> None:
    async with Valkey(tmp_path, **DURABLE) as valkey:
        bridge = await scene.start(REDIS_URL=valkey.url)
        leader, follower = await scene.opened(), await scene.opened()
        await scene.publish(1, 2)
        await leader.has(1, 2)
        await bridge.stop(how)
        await leader.is_in("waiting")
        async with Bridge(REDIS_URL=valkey.url) as other:  # it accepts events meanwhile, like another replica
            await other.publish(scene.user, 3, 4)
        await bridge.start()
        await scene.hurry()
        await scene.publish(5)
        for tab in (leader, follower):
            await tab.has(1, 2, 3, 4, 5)
            await tab.is_in("open")
            assert tab.frames("gap") == []


async def test_client_after_a_restart_of_a_bridge_without_redis_gets_one_gap(scene: Scene) -> None:
    bridge = await scene.start()
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1)
    await leader.has(1)
    await bridge.stop()
    await bridge.start()
    await scene.hurry()
    for tab in (leader, follower):
        await tab.hears("connected", 2)
    await scene.publish(2)
    for tab in (leader, follower):
        await tab.has(1, 2)
        [gap] = tab.frames("gap")
        assert gap["reason"] == "reset"
        assert gap["after"] == tab.frames("task_update")[0]["id"]
        order = [message["type"] for message in tab.of_kind("message")]
        assert order == ["connected", "task_update", "connected", "gap", "task_update"]


async def test_tabs_disconnected_for_too_long_get_one_gap_and_continue(scene: Scene) -> None:
    await scene.start(HISTORY_SIZE="10")
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(1)
    await follower.has(1)
    await scene.proxy.refuse()
    scene.proxy.cut()
    await scene.publish(*range(2, 20))
    await scene.proxy.listen()
    await scene.hurry()
    for tab in (leader, follower):
        await tab.hears("gap")
    await scene.publish(20)
    for tab in (leader, follower):
        await tab.has(1, 20)
        [gap] = tab.frames("gap")
        assert gap["reason"] == "trimmed"
        assert await tab.client("position") == tab.frames("task_update")[-1]["id"]


async def test_client_with_many_updates_at_once_gets_each_once(scene: Scene) -> None:
    leader, follower = await scene.opened(), await scene.opened()
    await scene.publish(*range(100))
    await leader.has(*range(100))
    await follower.has(*range(100))


async def test_client_during_a_deploy_stays_connected(scene: Scene, tmp_path: Path) -> None:
    async with Valkey(tmp_path, **DURABLE) as valkey:
        old = await scene.start(REDIS_URL=valkey.url, DRAIN_TIMEOUT="8")
        leader, follower = await scene.opened(), await scene.opened()
        await scene.publish(1)
        await leader.has(1)
        await scene.start(REDIS_URL=valkey.url)  # new connections go to this bridge
        old.send(signal.SIGTERM)
        await leader.hears("goodbye")
        await scene.publish(2)
        await leader.until(lambda: len(leader.of_kind("closed")) == 1)
        await scene.publish(3)
        for tab in (leader, follower):
            await tab.has(1, 2, 3)
            assert tab.frames("gap") == []
            assert tab.states == ["connecting", "open"]
        happened = [(kind, value["number"]) for kind, value in leader.told if kind in ("opening", "opened", "closed")]
        assert happened == [("opening", 1), ("opened", 1), ("opening", 2), ("opened", 2), ("closed", 1)]
        await old.stop()


@pytest.mark.parametrize(("resume", "seen"), [("memory", [1, 3]), ("session", [1, 2, 3])])
async def test_client_after_a_reload_resumes_only_if_configured(scene: Scene, resume: str, seen: list[int]) -> None:
    """Only a page that keeps its position gets the updates of the reload; others show the new state already."""
    tab = await scene.opened(resume=resume)
    await scene.publish(1)
    await tab.has(1)
    address = await tab.page.evaluate("location.href")
    await tab.page.goto(f"{scene.site.origin}/elsewhere")
    await scene.publish(2)
    await tab.page.goto(address)  # it would be restored if the browser went back
    await tab.hears("connected", 2)
    await scene.publish(3)
    await tab.has(*seen)


async def test_client_of_another_user_ignores_the_stored_position(scene: Scene) -> None:
    tab = await scene.opened(resume="session")
    await scene.publish(1)
    await tab.has(1)
    address = scene.site.page(
        scene.proxy.url, with_token=False, url=f"{scene.proxy.url}/ws", userId="bob", resume="session"
    )
    await tab.page.goto(address)
    await tab.hears("connected", 2)
    assert "recovered" not in tab.frames("connected")[1]
    assert tab.frames("gap") == []
