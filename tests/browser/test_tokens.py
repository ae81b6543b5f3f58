"""Tokens in a real browser: they expire, and are refreshed in time or not."""

import asyncio
import time
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.proxy import Upgrades
from tests.support.running import SECRET, token
from tests.support.scene import Scene
from tests.support.tab import Tab

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

SHORT = 7  # seconds: a token is not refreshed in its first five


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(scene: Scene) -> Scene:
    """A bridge that requires tokens, with a leeway of one second."""
    await scene.start(JWT_SECRET=SECRET, JWT_LEEWAY="1")
    return scene


def waiting(tab: Tab) -> list[dict[str, Any]]:
    """The states in which it waited for its next try."""
    return [state for state in tab.of_kind("state") if state["status"] == "waiting"]


async def test_token_is_refreshed_without_a_reconnect(guarded: Scene) -> None:
    async def short(*_: str) -> str:
        return token(guarded.user, ttl=SHORT)

    guarded.site.grant = short
    leader, follower = await guarded.opened(with_token=True), await guarded.opened(with_token=True)
    await leader.until(lambda: leader.reasons.count("refresh") == 2)  # by now the first token has expired
    await guarded.publish(1)
    for tab in (leader, follower):
        await tab.has(1)
        assert tab.states == ["connecting", "open"]
        assert len(tab.frames("connected")) == 1
    assert (leader.sockets, follower.sockets) == (1, 0)


@pytest.mark.parametrize("trouble", ["it fails", "it is slow"])
async def test_token_not_refreshed_in_time_reconnects(guarded: Scene, trouble: str) -> None:
    late = asyncio.Event()

    async def grant(reason: str, _: str) -> str:
        if reason != "refresh":
            return token(guarded.user, ttl=SHORT if reason == "connect" else 60)
        if trouble == "it fails":
            raise web.HTTPInternalServerError
        await late.wait()
        return token(guarded.user)

    guarded.site.grant = grant
    leader, follower = await guarded.opened(with_token=True), await guarded.opened(with_token=True)
    await guarded.publish(1)
    await leader.has(1)
    await leader.until(lambda: leader.of_kind("closed"))
    await guarded.publish(2)
    late.set()
    for tab in (leader, follower):
        await tab.has(1, 2)
        await tab.is_in("open")
        assert tab.frames("gap") == []
    assert leader.of_kind("closed") == [{"number": 1, "code": 4401, "reason": "token_expired"}]
    assert leader.reasons[:2] == ["connect", "refresh"]
    assert leader.reasons[-1] == "token_expired"
    assert leader.sockets == 2


async def test_token_that_is_refused_is_replaced_at_once_then_with_backoff(guarded: Scene) -> None:
    good = False

    async def grant(*_: str) -> str:
        return token(guarded.user) if good else "garbage"

    guarded.site.grant = grant
    tab = await guarded.open(with_token=True)
    await tab.until(lambda: len(waiting(tab)) >= 2)
    good = True
    at_once, patient = waiting(tab)[:2]
    assert (at_once["code"], at_once["reason"], at_once["delay"]) == (4401, "token_invalid", 0)
    assert (patient["code"], patient["reason"]) == (4401, "token_invalid")
    assert patient["delay"] >= 250
    await tab.is_in("open", code=None, reason=None)
    assert tab.reasons[:3] == ["connect", "token_invalid", "token_invalid"]


async def test_token_null_closes_only_this_tab(guarded: Scene) -> None:
    async def nobody(*_: str) -> None:
        return None

    granted, guarded.site.grant = guarded.site.grant, nobody
    leader = await guarded.open(with_token=True)
    await leader.is_in("closed")
    assert leader.sockets == 0
    guarded.site.grant = granted
    other = await guarded.opened(with_token=True)
    await guarded.publish(1)
    await other.has(1)
    assert (leader.state["status"], leader.sockets, leader.numbers) == ("closed", 0, [])


async def test_leader_without_a_token_leaves_the_socket_to_others(guarded: Scene) -> None:
    granted: list[str | None] = [token(guarded.user), None]

    async def once(*_: str) -> str | None:
        return granted.pop(0) if granted else token(guarded.user)

    guarded.site.grant = once
    leader, follower = await guarded.opened(with_token=True), await guarded.opened(with_token=True)
    guarded.proxy.cut()
    await leader.is_in("closed")
    await guarded.publish(1)
    await follower.has(1)
    assert (leader.sockets, follower.sockets) == (1, 1)


async def test_token_endpoint_that_fails_is_called_again(guarded: Scene) -> None:
    async def failing(*_: str) -> str:
        raise web.HTTPServiceUnavailable

    granted, guarded.site.grant = guarded.site.grant, failing
    tab = await guarded.open(with_token=True)
    await tab.until(lambda: len(waiting(tab)) >= 2)
    for state in waiting(tab)[:2]:
        assert state["error"] == "Error: the token endpoint says 503"
        assert 0 < state["delay"] <= 1000
        assert abs(state["retryAt"] - state["delay"] - time.time() * 1000) < 20_000
    assert tab.sockets == 0
    guarded.site.grant = granted
    await tab.is_in("open", error=None)


async def test_token_of_another_user_closes_all_tabs(guarded: Scene) -> None:
    async def wrong(*_: str) -> str:
        return token("mallory")

    leader, follower = await guarded.opened(with_token=True), await guarded.opened(with_token=True)
    guarded.site.grant = wrong
    guarded.proxy.cut()
    for tab in (leader, follower):
        await tab.is_in("closed", code=4503, reason="user_mismatch")
    assert (leader.sockets, follower.sockets) == (2, 0)


@pytest.mark.parametrize("upgrades", [Upgrades.PASSED, Upgrades.FORBIDDEN], ids=["websocket", "sse"])
async def test_cookie_with_a_token_authenticates(scene: Scene, upgrades: Upgrades) -> None:
    await scene.start(JWT_SECRET=SECRET, JWT_COOKIE="session")
    await scene.context.add_cookies([{"name": "session", "value": token(scene.user), "url": scene.site.origin}])
    scene.proxy.upgrades = upgrades
    tab = await scene.opened()
    await scene.publish(1)
    await tab.has(1)
    assert tab.state["transport"] == ("websocket" if upgrades is Upgrades.PASSED else "sse")


async def test_tabs_without_user_id_do_not_share(guarded: Scene) -> None:
    tabs = [await guarded.opened(with_token=True, userId=None) for _ in range(2)]
    await guarded.publish(1)
    for tab in tabs:
        await tab.has(1)
    assert [tab.sockets for tab in tabs] == [1, 1]


async def test_token_is_never_in_a_url(guarded: Scene) -> None:
    tab = await guarded.opened(with_token=True)
    [opening] = tab.of_kind("opening")
    assert "eyJ" not in opening["url"]
