"""`make bench` counts correctly: its load generator notices every event that a server mishandles."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from benchmarks.contenders import CONTENDERS
from benchmarks.dialects import SIDECAR
from benchmarks.load import Load, MiscountError, compiled
from benchmarks.pinned import LOAD_CORE, SERVER_CORE
from benchmarks.plan import AT_SCALE, SCENARIOS
from benchmarks.results import is_floor
from tests.support.running import ROOT, Served

if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
    pytest.skip("the benchmark needs the first two cores", allow_module_level=True)

ALWAYS = ("wsbridge", "C floor", "Python floor")  # programs that every environment of the tests has
FAULTS = {
    "none": "",
    "lost": "no progress",
    "repeated": "wrong event",
    "reordered": "wrong event",
    "misrouted": "wrong event",
    "refused": "refused",
    "closed": "closed by the server",
    "binary": "unexpected frame",
}


class FaultyServer(Served):
    """Delivers events to users' sockets, and mishandles the third one."""

    def __init__(self, fault: str) -> None:
        self._fault, self._count = fault, 0
        self._sockets: dict[str, web.WebSocketResponse] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get("/ws", self._connect), web.post("/events/task-updates", self._take)]

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=0.1)
        await socket.prepare(request)
        self._sockets[request.query["user_id"]] = socket
        await socket.send_str("{}")
        async for _ in socket:
            pass
        return socket

    async def _take(self, request: web.Request) -> web.Response:
        events = [entry["event"]["data"] for entry in (await request.json())["entries"]]
        self._count += 1
        faulty = self._count == 3
        for event in self._mishandled(events) if faulty else events:
            await self._sockets[event["user_id"]].send_str(json.dumps(event))
        if faulty and self._fault == "binary":
            await self._sockets["u0"].send_bytes(b"")
        if faulty and self._fault == "closed":
            await self._sockets["u0"].close()
        return web.json_response({"reason": "queue_full"} if faulty and self._fault == "refused" else {})

    def _mishandled(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        match self._fault:
            case "lost":
                return events[:-1]
            case "repeated":
                return [events[0], *events]
            case "reordered":
                return events[::-1]
            case "misrouted":
                return [events[0] | {"user_id": events[1]["user_id"]}, *events[1:]]
        return events


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("load", tmp_path_factory.mktemp("load"))


@pytest.mark.parametrize(("fault", "noticed"), FAULTS.items())
async def test_load_event_mishandled_ends_the_run(program: Path, fault: str, noticed: str) -> None:
    async with FaultyServer(fault) as server:
        options = {"upgrade": SIDECAR.upgrade, "patience": "0.5", **SIDECAR.options, **SIDECAR.settings(is_bulk=True)}
        with Load(program, server.port, options) as load:
            await asyncio.to_thread(load.tell, "open 2 1 1")
            posted = asyncio.to_thread(load.tell, "post 5 30 1 4 0")  # two events of each user in a request
            if not noticed:
                answer = await posted
                assert (answer.events, answer.deliveries) == (20, 20)
                return
            with pytest.raises(MiscountError, match=noticed):
                await posted


@pytest.mark.once  # the bridges' Pythons have their own tests, and this is the longest one
def test_quick_run_measures_every_scenario_and_reports_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(tmp_path), "--only", *ALWAYS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "bench.json").read_text())
    present = {one.name for one in CONTENDERS if one.name.startswith(ALWAYS) and not one.missing()}
    found = {(result["contender"], result["scenario"]) for result in results["results"]}
    every = {(name, scenario.name) for name in present for scenario in (*SCENARIOS, *AT_SCALE)}
    assert found == every - {(name, "heartbeat") for name in present if is_floor(name)}  # they send no pings
    assert (tmp_path / "bench.svg").read_text().count("<rect") == len(present) * len(SCENARIOS)
    assert all(f"| {name} |" in done.stdout for name in present)
    for result in results["results"]:
        if result["contender"] == "wsbridge, two replicas" and result["scenario"] == "bulk":
            assert all(0 < one["receiver"] < one["value"] for one in result["rounds"])
