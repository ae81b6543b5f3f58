"""Receipts end to end: events that ask for one, clients that report, and a sidecar that takes what is published."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fake_sidecar import FakeSidecar
from tests.support.running import Reachable, Start, closed, receive, until, until_told
from tests.support.spawned import Spawn
from tests.support.valkey import DURABLE, Valkey, free_port


@pytest.fixture
async def sidecar() -> AsyncIterator[FakeSidecar]:
    async with FakeSidecar() as sidecar:
        yield sidecar


def settings(sidecar: FakeSidecar, **more: str) -> dict[str, str]:
    return {"RECEIPTS_TOPIC": "receipts", "DAPR_HTTP_PORT": str(sidecar.port), **more}


async def publish(bridge: Reachable, name: str, *users: str, after: object = 1) -> None:
    assert await bridge.publish({"user_id": list(users)}, id=name, wsreceipt=after) == "SUCCESS"


async def handle(bridge: Reachable, user: str) -> None:
    """Receive an event on a new connection, and report it."""
    ws, hello = await bridge.opened(user)
    assert hello["receipts"] is True
    await publish(bridge, "handled", user)
    await ws.send_json({"type": "handled", "last_event_id": (await receive(ws))["id"]})


async def test_receipt_of_an_absent_user_a_silent_client_and_one_that_reports(
    start: Start, sidecar: FakeSidecar
) -> None:
    bridge = await start(**settings(sidecar))
    await bridge.opened("silent")
    await publish(bridge, "a", "absent", "silent")
    await handle(bridge, "reporting")
    await until(lambda: len(sidecar.events) == 3)
    assert sidecar.outcomes() == {"absent a": "unseen", "silent a": "delivered", "reporting handled": "handled"}
    assert {request.match_info["topic"] for request in sidecar.requests} == {"receipts"}
    assert +bridge.bridge.metrics.messages == {"handled": 1}


async def test_receipt_counts_a_page_that_opens_after_the_event_as_delivered(
    start: Start, sidecar: FakeSidecar
) -> None:
    """Its state, which it loads after it has connected, contains the event."""
    bridge = await start(**settings(sidecar))
    await publish(bridge, "a", "u1")
    await bridge.opened("u1")
    await until(lambda: sidecar.events)
    assert sidecar.outcomes() == {"u1 a": "delivered"}


async def test_user_route_and_why_show_what_a_client_has_reported(start: Start) -> None:
    bridge = await start(RECEIPTS="true")
    await handle(bridge, "u1")
    await until(lambda: bridge.bridge.metrics.messages["handled"])
    _, user = await bridge.get("/users/u1")
    assert user["sessions"][0]["handled"] == user["last_event_id"]
    _, why = await bridge.get("/users/u1/events/handled")
    assert why["answer"].endswith("handled by the client")
    assert why["stations"][-1]["text"] == "websocket, handled by the client"


async def test_receipts_are_announced_on_websockets_only_and_if_they_are_on(start: Start) -> None:
    off, on = await start(), await start(RECEIPTS="true")
    assert "receipts" not in (await off.opened())[1]
    async with on.http.get(f"{on.url}/sse?user_id=u1") as stream:
        lines = [(await stream.content.readline()).decode() for _ in range(4)]
    hello = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
    assert (hello["type"], "receipts" in hello) == ("connected", False)


async def test_receipt_counts_a_client_that_resumes_after_the_event_as_handled(
    start: Start, sidecar: FakeSidecar
) -> None:
    """Also if the client cannot report, as on a stream."""
    bridge = await start(**settings(sidecar))
    ws, _ = await bridge.opened("u1")
    await publish(bridge, "a", "u1")
    position = (await receive(ws))["id"]
    await ws.close()
    async with bridge.http.get(f"{bridge.url}/sse?user_id=u1&last_event_id={position}"):
        await until(lambda: sidecar.events)
    assert sidecar.outcomes() == {"u1 a": "handled"}


async def test_receipts_wait_for_a_sidecar_that_is_down_and_events_do_not(start: Start) -> None:
    port = free_port()
    bridge = await start(RECEIPTS_TOPIC="receipts", DAPR_HTTP_PORT=str(port))
    ws, _ = await bridge.opened("u1")
    await publish(bridge, "a", "u1")
    receipts = bridge.bridge._receipts
    assert receipts
    await until(lambda: receipts.failures["publish"])
    await publish(bridge, "b", "u1")
    assert [(await receive(ws))["event_id"] for _ in range(2)] == ["a", "b"]
    _, health = await bridge.get("/health")
    assert (health["status"], "sidecar cannot be reached" in health["checks"]["receipts"]) == ("degraded", True)


async def test_receipts_of_a_replica_that_is_killed_are_published_by_another_one(
    spawn: Spawn, sidecar: FakeSidecar, tmp_path: Path
) -> None:
    """The killed one has taken the events, has the clients, and its sidecar is killed with it."""
    async with Valkey(tmp_path, **DURABLE) as valkey:
        nowhere = str(free_port())
        doomed = await spawn(**settings(sidecar, REDIS_URL=valkey.url) | {"DAPR_HTTP_PORT": nowhere})
        other = await spawn(**settings(sidecar, REDIS_URL=valkey.url))
        ws, _ = await doomed.opened("here")
        await publish(doomed, "first", "here", after=4)
        await ws.send_json({"type": "handled", "last_event_id": (await receive(ws))["id"]})

        async def is_noted() -> bool:
            (key,) = await valkey.ask("KEYS", "wsbridge:*:u:*")
            return bool((await valkey.ask("GET", key)).endswith(b" 1 1"))

        await until_told(is_noted)
        for name in ("a", "b", "c"):
            await publish(doomed, name, "here", "gone", after=4)
        doomed.process.kill()
        await doomed.code()
        await until(lambda: len(sidecar.outcomes()) == 7)
        expected = {f"{user} {name}": "unseen" for user in ("here", "gone") for name in ("a", "b", "c")}
        assert sidecar.outcomes() == {"here first": "handled"} | expected
        assert len(sidecar.events) == 7
        assert not other.of("internal.error")


async def test_replica_that_shuts_down_passes_on_how_far_its_connections_have_got(
    spawn: Spawn, sidecar: FakeSidecar, tmp_path: Path
) -> None:
    async with Valkey(tmp_path) as valkey:
        stopped = await spawn(**settings(sidecar, REDIS_URL=valkey.url, DRAIN_TIMEOUT="0.2"))
        await spawn(**settings(sidecar, REDIS_URL=valkey.url))
        ws, _ = await stopped.opened("u1")
        await publish(stopped, "a", "u1", after=3)
        await receive(ws)
        stopped.terminate()
        assert (await closed(ws))[0] == 1012
        assert await stopped.code() == 0
        await until(lambda: sidecar.events)
        assert sidecar.outcomes() == {"u1 a": "delivered"}


async def test_connections_of_another_replica_count(spawn: Spawn, sidecar: FakeSidecar, tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        one = await spawn(**settings(sidecar, REDIS_URL=valkey.url))
        other = await spawn(**settings(sidecar, REDIS_URL=valkey.url))
        ws, _ = await other.opened("u1")
        await publish(one, "a", "u1", after=2)
        await ws.send_json({"type": "handled", "last_event_id": (await receive(ws))["id"]})
        await other.opened("u2")
        await publish(one, "b", "u2", "u3")
        await until(lambda: len(sidecar.events) == 3)
        assert sidecar.outcomes() == {"u1 a": "handled", "u2 b": "delivered", "u3 b": "unseen"}
