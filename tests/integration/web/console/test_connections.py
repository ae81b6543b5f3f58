"""The table of connections in the stream: each row once, then only the cells that changed."""

import asyncio

import pytest

from tests.support.console import watching
from tests.support.running import Running, Start, receive
from wsbridge.web.console import connections


async def test_table_has_rows_then_changes_then_ends(bridge: Running) -> None:
    ws, hello = await bridge.opened("alice")
    name = hello["session_id"]
    async with watching(bridge, show="connections") as console:
        first = await console.line("connections")
        ((session, position, unsent, round_trip, user, transport, since, address, agent),) = first["opened"]
        assert (first["reset"], session, user, transport) == (True, name, "alice", "websocket")
        assert (position, unsent, round_trip, address) == (hello["last_event_id"], 0, None, "127.0.0.1")
        assert since > 1.7e9
        assert "aiohttp" in agent
        await bridge.publish({"user_id": "alice"})
        position = (await receive(ws))["id"]
        second = await console.line("connections", lambda line: line["changed"])
        assert (second["reset"], second["opened"], second["changed"]) == (False, [], [[name, position, 0, None]])
        await ws.close()
        assert (await console.line("connections", lambda line: line["closed"]))["closed"] == [name]
        assert (await console.line("connections"))["closed"] == []


async def test_table_shows_the_round_trip_of_a_ping(start: Start) -> None:
    bridge = await start(PING_INTERVAL="0.2")
    ws, _ = await bridge.opened()
    reading = asyncio.create_task(ws.receive())  # answers pings
    async with watching(bridge, show="connections") as console:
        found = await console.line(
            "connections", lambda line: any(row[3] is not None for row in line["opened"] + line["changed"])
        )
        (row,) = found["opened"] + found["changed"]
        assert 0 <= row[3] < 30_000
    reading.cancel()


async def test_table_begins_with_some_rows_and_adds_the_others(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "NEW_ROWS", 2)
    for _ in range(5):
        await bridge.opened()
    async with watching(bridge, show="connections") as console:
        sizes = [(len(line["opened"]), line["left_out"]) for line in [await console.line("connections") for _ in "123"]]
    assert sizes == [(2, 3), (2, 1), (1, 0)]


async def test_table_over_its_bound_counts_the_rest(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ROWS", 2)
    for _ in range(3):
        await bridge.opened()
    async with watching(bridge, show="connections") as console:
        line = await console.line("connections")
    assert (len(line["opened"]), line["left_out"]) == (2, 1)
