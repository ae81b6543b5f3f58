"""Sessions that open and close on real sockets: limits, an unavailable history, counters."""

import aiohttp
import pytest

from tests.support.logs import Logs
from tests.support.running import Running, Start, closed, until
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.core.recovery import Resume


async def test_limits_of_the_settings_count_open_connections_only(start: Start) -> None:
    bridge = await start(MAX_CONNECTIONS="3", MAX_CONNECTIONS_PER_USER="2")
    first, _ = await bridge.opened("a")
    await bridge.opened("a")
    assert await closed(await bridge.connect("a")) == (4429, "too_many_connections")
    await bridge.opened("b")
    assert await closed(await bridge.connect("c")) == (1013, "overloaded")
    await first.close()
    await bridge.opened("c")


async def test_zero_is_no_limit(start: Start) -> None:
    bridge = await start(MAX_CONNECTIONS_PER_USER="0")
    for _ in range(30):
        await bridge.opened()
    assert len(bridge.bridge.registry) == 30


async def test_opener_waits_for_a_history_that_is_unavailable_for_a_moment(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = bridge.bridge.broker.resume, list[str]()

    async def resume(user: str, after: str | None, *, wait: bool = True) -> Resume:
        asked.append(user)
        if len(asked) == 1:
            raise BrokerUnavailable("just now")
        return await real(user, after, wait=wait)

    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    await bridge.opened("u1")
    assert asked == ["u1", "u1"]


async def test_opener_refuses_while_the_history_stays_unavailable_and_forgets_the_session(
    bridge: Running, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resume(*_: object, **__: object) -> Resume:
        raise BrokerUnavailable("for good")

    monkeypatch.setattr("wsbridge.sessions.opening.RESUME_TIMEOUT", 0.05)
    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    assert await closed(await bridge.connect("u1")) == (1013, "unavailable")
    assert "for good" in (await logs.line("session.refused", code=1013, reason="unavailable"))["why"]
    assert len(bridge.bridge.registry) == 0
    assert (bridge.bridge.metrics.opened, bridge.closes("1013")) == (0, 1)


async def test_opener_that_refuses_frees_what_was_published_meanwhile(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resume(user: str, *_: object, **__: object) -> Resume:
        if not bridge.bridge.bus.depth:
            await bridge.publish({"user_id": user})
            await until(lambda: len(bridge.bridge.slow_consumers))
        raise BrokerUnavailable("for good")

    monkeypatch.setattr("wsbridge.sessions.opening.RESUME_TIMEOUT", 0.5)
    monkeypatch.setattr(bridge.bridge.broker, "resume", resume)
    assert await closed(await bridge.connect("u1")) == (1013, "unavailable")
    assert len(bridge.bridge.slow_consumers) == 0
    assert bridge.bridge.slow_consumers.bytes == 0


async def test_opener_counts_a_session_that_ends_in_several_ways_once(bridge: Running, logs: Logs) -> None:
    ws, hello = await bridge.opened("u1")
    (session,) = bridge.bridge.registry.of("u1")
    session.drop("ping_timeout")
    session.leave()
    session.leave()
    assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE)
    await logs.line("session.closed", session=hello["session_id"], code=1006, reason="ping_timeout", by="network")
    await until(lambda: not len(bridge.bridge.registry))
    assert len(logs.of("session.closed", session=hello["session_id"])) == 1
    assert bridge.bridge.metrics.closes["1006", "ping_timeout"] == 1
