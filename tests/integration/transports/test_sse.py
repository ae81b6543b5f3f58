"""Server-Sent Events on real sockets."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.support.logs import Logs
from tests.support.npm import missing
from tests.support.running import DEADLINE, ROOT, Running, Start, until
from wsbridge.core.events import Position
from wsbridge.transports.sse import event


class Message(NamedTuple):
    type: str
    id: str | None
    data: dict[str, Any]


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    """The messages of a stream, parsed as in HTML standard §9.2.6; comments and `retry` are left out."""
    fields: dict[str, list[str]] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif "data" in fields:
            data = json.loads("\n".join(fields["data"]))
            yield Message(fields.get("event", ["message"])[0], fields.get("id", [None])[0], data)
            fields = {}
        else:
            fields = {}


async def following(stream: AsyncIterator[Message]) -> Message:
    return await asyncio.wait_for(anext(stream), DEADLINE)


def url(bridge: Running, **query: str) -> str:
    return f"{bridge.url}/sse?" + "&".join(f"{name}={value}" for name, value in query.items())


@pytest.mark.fault("H3")
async def test_sse_sends_the_messages_of_a_websocket(bridge: Running) -> None:
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache, no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        stream = messages(response)
        hello = await following(stream)
        assert hello.type == hello.data["type"] == "connected"
        assert hello.id == hello.data["last_event_id"]

        await bridge.publish({"user_id": "u1", "n": 1})
        update = await following(stream)
        assert (update.type, update.data["event"]) == ("task_update", {"user_id": "u1", "n": 1})
        assert update.id == update.data["id"]


async def test_sse_resumes_from_the_header_before_the_query(bridge: Running) -> None:
    _, hello = await bridge.opened("u1")
    for n in range(3):
        await bridge.publish({"user_id": "u1", "n": n})
    epoch = hello["last_event_id"].split(":")[0]
    headers = {"Last-Event-ID": f"{epoch}:1"}
    async with bridge.http.get(url(bridge, user_id="u1", last_event_id="foreign:7"), headers=headers) as response:
        stream = messages(response)
        assert (await following(stream)).data["recovered"] is True
        assert [(await following(stream)).data["event"]["n"] for _ in range(2)] == [1, 2]


async def test_sse_gap_has_the_position_as_id(bridge: Running) -> None:
    async with bridge.http.get(url(bridge, user_id="u1", last_event_id="foreign:7")) as response:
        stream = messages(response)
        hello, gap = await following(stream), await following(stream)
        assert (hello.data["recovered"], gap.type, gap.data["reason"]) == (False, "gap", "reset")
        assert gap.id == gap.data["last_event_id"] == hello.id


@pytest.mark.parametrize(
    ("query", "status"),
    [({}, 401), ({"user_id": "x" * 257}, 400), ({"user_id": "u1"}, 401), ({"user_id": "u1", "token": "x"}, 401)],
)
async def test_sse_refusal_that_needs_the_page_is_an_http_status(
    start: Start, query: dict[str, str], status: int
) -> None:
    bridge = await start(JWT_SECRET="s" * 32)
    async with bridge.http.get(url(bridge, **query)) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"


async def test_sse_refusal_that_is_temporary_is_a_goodbye(start: Start) -> None:
    bridge = await start(MAX_CONNECTIONS_PER_USER="1")
    await bridge.opened("u1")
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        text = await asyncio.wait_for(response.text(), DEADLINE)
    assert response.status == 200
    assert text.startswith("retry: 30000\nevent: goodbye\n")
    assert '"code":4429' in text


async def test_sse_response_has_cors_headers_for_allowed_origins(start: Start) -> None:
    bridge = await start(ALLOWED_ORIGINS="https://app.example.com")
    good, bad = {"Origin": "https://app.example.com"}, {"Origin": "https://example.com.evil.net"}
    async with bridge.http.get(url(bridge, user_id="u1"), headers=good) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert response.headers["Vary"] == "Origin"
    async with bridge.http.get(url(bridge, user_id="u1"), headers=bad) as response:
        assert response.status == 403
        assert response.headers["Access-Control-Allow-Origin"] == bad["Origin"]  # the page can show the reason
        assert "origin_forbidden" in await response.text()
    for headers in (good, bad):
        async with bridge.http.options(url(bridge), headers=headers) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, headers["Origin"])
    async with bridge.http.options(url(bridge), headers=good) as response:
        assert response.status == 204
        assert "Last-Event-ID" in response.headers["Access-Control-Allow-Headers"]


async def test_sse_peer_that_leaves_is_noticed_without_an_error(start: Start, logs: Logs) -> None:
    bridge = await start(PING_INTERVAL="0.2", PING_TIMEOUT="0.2")
    response = await bridge.http.get(url(bridge, user_id="u1"))
    await until(lambda: len(bridge.bridge.registry))
    response.close()
    await until(lambda: not len(bridge.bridge.registry))
    assert (await logs.line("http.request", path="/sse"))["status"] == 200


async def test_sse_ended_by_an_operator_gets_a_goodbye(bridge: Running) -> None:
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        stream = messages(response)
        await following(stream)
        async with bridge.http.post(f"{bridge.url}/users/u1/disconnect") as answer:
            assert answer.status == 202
        assert (await following(stream)).data["code"] == 4509
        with pytest.raises(StopAsyncIteration):
            await following(stream)


async def test_sse_stalled_reader_is_closed_and_freed(start: Start) -> None:
    bridge = await start(MAX_BACKLOG_BYTES="65536")
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", bridge.port))
        await loop.sock_sendall(sock, b"GET /sse?user_id=u1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(bridge.bridge.registry))
        for _ in range(200):
            if not len(bridge.bridge.registry):
                break
            await bridge.publish({"user_id": "u1", "text": "x" * 100_000})
        await until(lambda: not len(bridge.bridge.registry))
    assert bridge.closes("4408") == 1


async def test_sse_for_http_1_0_is_not_chunked(bridge: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    writer.write(b"GET /sse?user_id=u1 HTTP/1.0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    assert await reader.readline() == b"event: connected\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_sse_data_with_line_ends_stays_one_event(end: bytes) -> None:
    payload = b'{"type":"task_update",' + end + b'"event":{}}'
    expected = b'event: task_update\nid: e:1\ndata: {"type":"task_update",\ndata: "event":{}}\n\n'
    assert event(payload, Position("e", 1)) == expected


async def test_sse_during_a_shutdown_gets_a_goodbye(start: Start) -> None:
    bridge = await start(DRAIN_TIMEOUT="0.5")
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        stream = messages(response)
        await following(stream)
        leaving = asyncio.create_task(bridge.bridge.drain())
        assert (await following(stream)).data["code"] == 1012
        async with bridge.http.get(url(bridge, user_id="u2")) as late:
            text = await asyncio.wait_for(late.text(), DEADLINE)
        assert text.startswith("retry: 1000\nevent: goodbye\n")
        assert '"code":1012' in text
        with pytest.raises(StopAsyncIteration):
            await following(stream)
        await leaving


async def test_sse_internal_error_ends_its_stream_only(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    def attach(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("wsbridge.sessions.session.Session.attach", attach)
        async with bridge.http.get(url(bridge, user_id="u1")) as response:
            assert await asyncio.wait_for(response.text(), DEADLINE) == ""
    assert logs.of("internal.error", doing="attach")
    logs.expected = {"internal.error"}
    assert not len(bridge.bridge.registry)
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        assert (await following(messages(response))).type == "connected"


async def test_sse_vanished_peer_is_noticed_by_the_kernel(start: Start) -> None:
    bridge = await start(PING_TIMEOUT="7")
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        await following(messages(response))
        (session,) = bridge.bridge.registry.of("u1")
        transport = session.connection._transport  # type: ignore[attr-defined]  # what no public method tells
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


async def test_sse_idle_stream_gets_comments(start: Start) -> None:
    bridge = await start(PING_INTERVAL="0.1")
    async with bridge.http.get(url(bridge, user_id="u1")) as response:
        async for line in response.content:
            if line == b":\n":
                break


PROXY = ROOT / "tests" / "compressing_proxy"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Express with `compression`, in the locked versions."""
    if reason := missing():
        if os.environ.get("REQUIRE_ALL_TESTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    installed = tmp_path_factory.mktemp("proxy")
    shutil.copytree(PROXY, installed, dirs_exist_ok=True)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=installed, check=True)
    return installed


@pytest.mark.fault("H3")
async def test_stream_through_a_compressing_proxy_arrives_at_once(bridge: Running, proxy: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "node", "proxy.js", bridge.url, cwd=proxy, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), DEADLINE))
        headers = {"Accept-Encoding": "gzip", "Accept": "text/event-stream"}
        async with bridge.http.get(f"http://127.0.0.1:{port}/client.js", headers=headers) as response:
            assert response.headers["Content-Encoding"] == "gzip"  # it compresses other responses
        async with bridge.http.get(f"http://127.0.0.1:{port}/sse?user_id=u1", headers=headers) as response:
            stream = messages(response)
            assert (await following(stream)).type == "connected"
            await bridge.publish({"user_id": "u1", "n": 1})
            assert (await following(stream)).data["event"] == {"user_id": "u1", "n": 1}
    finally:
        process.kill()
        await process.wait()
