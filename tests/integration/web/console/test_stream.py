"""`GET /console/stream` of one bridge and of several replicas, on real sockets."""

import asyncio
import json
import os
import re
import shutil
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from tests.support.console import watching
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.logs import Logs
from tests.support.running import ADMIN_TOKEN, ROOT, SECRET, Running, Start, token, until, until_told
from tests.support.valkey import Valkey
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.web.console import stream

VIEWER = "what only viewers know"
HOSTILE = "</script><img src=x onerror=\"alert('1')\">"


async def test_stream_begins_with_what_the_page_needs(bridge: Running) -> None:
    async with watching(bridge) as console:
        name = bridge.bridge.stations.replica
        assert console.hello == {
            "type": "hello",
            "role": "read-write",
            "replica": name,
            "topics": {"task-updates": "task_update"},
            "user_field": "user_id",
            "shares_redis": False,
        }
        found = await console.line("replicas")
        assert found == {"type": "replicas", "answered": [name], "silent": [], "missing": 0, "text": ""}


@pytest.mark.parametrize(("sent", "role"), [(ADMIN_TOKEN, "read-write"), (VIEWER, "read-only")])
async def test_stream_of_a_token_has_its_role(start: Start, sent: str, role: str) -> None:
    bridge = await start(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER)
    async with watching(bridge, sent) as console:
        assert console.hello["role"] == role
        assert (await console.line("numbers"))["connections"] == 0


async def test_stream_without_the_token_is_401(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER)
    assert (await bridge.get("/console/stream", Authorization=f"Bearer {VIEWER}x"))[0] == 401
    assert (await bridge.get("/console/stream", Authorization=""))[0] == 401


@pytest.mark.parametrize("query", ["show=numbers,secrets", "outcome=lost"])
async def test_stream_with_an_unknown_part_or_outcome_is_400(bridge: Running, query: str) -> None:
    status, problem = await bridge.get(f"/console/stream?{query}")
    assert (status, "expected" in problem["detail"]) == (400, True)


async def test_stream_over_the_limit_is_503(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAMS", 1)
    async with watching(bridge):
        assert (await bridge.get("/console/stream"))[0] == 503

    async def is_free() -> bool:
        async with bridge.http.get(f"{bridge.url}/console/stream") as response:
            return response.status == 200

    await until_told(is_free)  # once the bridge has noticed the end


async def test_stream_shows_an_event_without_its_data(bridge: Running) -> None:
    async with watching(bridge, show="tail") as console:
        await console.line("replicas")
        await bridge.publish({"user_id": HOSTILE, "title": "Confidential"}, id=HOSTILE)
        tail = await console.line("tail", lambda line: line["events"])
    (event,) = tail["events"]
    assert (event["id"], event["users"], event["outcome"], event["kind"]) == (
        HOSTILE,
        [HOSTILE],
        "stored",
        "task_update",
    )
    assert "Confidential" not in repr(tail)


async def test_stream_with_a_filter_shows_only_matching_events(bridge: Running) -> None:
    async with watching(bridge, show="tail", user="u2", outcome="duplicate") as console:
        await console.line("replicas")
        for user in ("u1", "u2"):
            for _ in range(2):
                await bridge.publish({"user_id": user}, id="e1", source=user)
        tail = await console.line("tail", lambda line: line["events"])
    assert [(event["users"], event["outcome"]) for event in tail["events"]] == [(["u2"], "duplicate")]


async def test_stream_under_a_burst_says_how_many_events_it_left_out(bridge: Running) -> None:
    count = 3 * stream.LINES
    async with watching(bridge, show="tail") as console:
        await console.line("replicas")
        body = bulk_of(*[cloud_event({"user_id": "u1"}, id=f"e{n}") for n in range(count)])
        await bridge.post(body, "application/json")
        tail = await console.line("tail", lambda line: line["events"])
    assert (len(tail["events"]), tail["left_out"]) == (stream.LINES, count - stream.LINES)


async def test_stream_that_is_closed_leaves_nothing_behind(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.web.console.replica.MEMORY", 0.2)
    async with watching(bridge) as console:
        await console.line("tail")
        assert bridge.bridge.tail.is_on
    await until(lambda: not bridge.bridge.tail.is_on)


async def test_stream_of_a_console_that_does_not_read_is_ended(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.0)
    monkeypatch.setattr(stream, "WRITE_TIMEOUT", 0.2)
    _, writer = await asyncio.open_connection("127.0.0.1", bridge.port, limit=1024)
    writer.write(b"GET /console/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await until(lambda: logs.of("http.request", path="/console/stream"))
    writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_stream_is_read_by_the_command_of_the_docs(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    text = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^curl .*$", text, re.MULTILINE)
    command = command.replace("127.0.0.1:8004", f"127.0.0.1:{bridge.port}")
    environ = os.environ | {"WSBRIDGE_ADMIN_TOKEN": ADMIN_TOKEN}
    shell = await create_subprocess_exec("sh", "-c", f"exec {command}", stdout=PIPE, env=environ)
    assert shell.stdout is not None
    kinds = [json.loads(await shell.stdout.readline())["type"] for _ in range(3)]
    shell.kill()
    await shell.communicate()
    assert kinds == ["hello", "numbers", "replicas"]


async def test_stream_has_no_head(bridge: Running) -> None:
    async with bridge.http.head(f"{bridge.url}/console/stream") as response:
        assert response.status == 405


# Several replicas, which share a Redis.


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def pair(start: Start, valkey: Valkey) -> tuple[Running, Running]:
    return await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)


def names(pair: tuple[Running, Running]) -> list[str]:
    return sorted(bridge.bridge.stations.replica for bridge in pair)


async def test_stream_of_one_replica_shows_all(pair: tuple[Running, Running]) -> None:
    one, other = pair
    await other.opened("alice")
    async with watching(one) as console:
        rows = await console.line("connections", lambda line: line["opened"])
        assert (rows["replica"], rows["opened"][0][4]) == (other.bridge.stations.replica, "alice")
        assert (await console.line("replicas", lambda line: len(line["answered"]) == 2))["answered"] == names(pair)
        await other.publish({"user_id": "alice"}, id="e1")
        tail = await console.line("tail", lambda line: line["events"])
        assert (tail["replica"], tail["events"][0]["id"]) == (other.bridge.stations.replica, "e1")


async def test_stream_shows_a_replica_that_does_not_answer(
    pair: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    monkeypatch.setattr(stream, "PATIENCE", 0.3)
    async with watching(one) as console:
        await console.line("replicas", lambda line: len(line["answered"]) == 2)
        broker = other.bridge.broker
        assert isinstance(broker, RedisBroker)
        with monkeypatch.context() as patch:
            patch.setattr(broker.replicas, "take", AsyncMock())
            found = await console.line("replicas", lambda line: line["silent"])
        silent = other.bridge.stations.replica
        assert (found["silent"], found["missing"], found["text"]) == ([silent], 1, "1 of 2 replicas did not answer")
        assert (await console.line("replicas", lambda line: not line["missing"]))["silent"] == []


async def test_stream_while_redis_is_unavailable_shows_its_own_replica(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    one, other = pair
    async with watching(one) as console:
        await console.line("replicas", lambda line: len(line["answered"]) == 2)
        await valkey.kill()
        found = await console.line("replicas", lambda line: line["text"].startswith("the other replicas could not"))
        assert found["answered"] == [one.bridge.stations.replica]
        assert found["silent"] == [other.bridge.stations.replica]


async def test_stream_needs_a_token_of_an_operator_not_of_a_user(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    assert (await bridge.get("/console/stream", Authorization=f"Bearer {token()}"))[0] == 401
