"""Delivery, logs and shutdown of a server, on real sockets."""

import asyncio
import contextlib
import json
import time
from importlib.util import find_spec
from typing import Any

import aiohttp
import pytest

from tests.support.deliveries import cloud_event
from tests.support.frames import CLOSE, GOOD, TEXT, Peer, StalledReader, WebSocketPeer
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, receive, token, until, until_told
from tests.support.spawned import Spawn, Spawned
from wsbridge import __version__
from wsbridge.sessions.drain import SPREAD
from wsbridge.web.client_file import client_file

DEFAULT_LOOP = "uvloop" if find_spec("uvloop") else "asyncio"


async def test_event_reaches_every_tab_of_its_user_only(bridge: Running) -> None:
    first, hello = await bridge.opened("user-123")
    second, _ = await bridge.opened("user-123")
    other, _ = await bridge.opened("user-456")
    epoch = hello["last_event_id"].split(":")[0]

    data = {"event_type": "task.created", "user_id": "user-123", "task_id": "456", "title": "New Task"}
    assert await bridge.publish(data) == "SUCCESS"
    for tab in (first, second):
        message = await receive(tab)
        assert message["type"] == "task_update"
        assert message["event"] == data
        assert message["id"] == f"{epoch}:1"
    await other.send_str('{"type":"ping"}')
    assert await receive(other) == {"type": "pong"}


async def test_closed_tab_is_removed_and_the_others_still_receive(bridge: Running) -> None:
    first, _ = await bridge.opened()
    second, _ = await bridge.opened()
    await first.close()
    await until(lambda: len(bridge.bridge.registry) == 1)
    await bridge.publish({"user_id": "u1"})
    assert (await receive(second))["type"] == "task_update"


# The log.


async def test_session_is_traceable_by_its_id(bridge: Running, logs: Logs) -> None:
    ws, hello = await bridge.opened("user-123")
    await bridge.publish({"user_id": "user-123"})
    await receive(ws)
    await ws.send_str('{"type":"ping"}')
    await receive(ws)
    await ws.close(code=1001, message=b"tab closed")
    session = hello["session_id"]
    closing = await logs.line("session.closed", session=session)
    found = [line["event"] for line in logs.lines if session in (line.get("session"), *line.get("sessions", []))]
    assert found == ["session.opened", "event.delivered", "session.closed"]
    opening = logs.of("session.opened", session=session)[0]
    assert (opening["user"], opening["transport"], opening["peer"]) == ("user-123", "websocket", "127.0.0.1")
    expected = {"user": "user-123", "code": 1001, "reason": "tab closed", "by": "client", "sent": 3, "received": 1}
    assert {name: closing[name] for name in expected} == expected
    assert 0 <= closing["seconds"] < 10


async def test_event_is_traceable_by_its_id(bridge: Running, logs: Logs) -> None:
    ws, hello = await bridge.opened()
    event = cloud_event({"user_id": "u1"})
    for _ in range(2):
        await bridge.post(event)
    position = (await receive(ws))["id"]
    found = [line for line in logs.lines if event["id"] in (line.get("event_id"), *line.get("events", []))]
    assert [line["event"] for line in found] == [
        "event.received",
        "event.delivered",
        "event.received",
        "event.duplicate",
    ]
    assert (found[0]["outcome"], found[0]["users"]) == ("stored", ["u1"])
    assert (found[1]["position"], found[1]["sessions"]) == (position, [hello["session_id"]])
    assert found[2]["outcome"] == "duplicate"


async def test_access_lines_hide_the_token(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws, _ = await bridge.opened("u1", token=token())
    await ws.close()
    line = await logs.line("http.request", path="/ws")
    assert line["query"] == "user_id=u1&token=***"
    assert (line["method"], line["status"], line["peer"]) == ("GET", 101, "127.0.0.1")


@pytest.mark.parametrize("kind", ["good", "expired", "forged"])
async def test_log_never_contains_a_token(
    start: Start, logs: Logs, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    bridge = await start(JWT_SECRET=SECRET, JWT_COOKIE="session", APP_API_TOKEN="A" * 30, ADMIN_TOKEN="B" * 30)
    secret = {"good": token(), "expired": token(ttl=-60), "forged": token(key="x" * 40)}[kind]
    ways = [
        ("", f"Authorization: Bearer {secret}\r\n"),
        ("", f"Sec-WebSocket-Protocol: wsbridge.v1, bearer.{secret}\r\n"),
        ("", f"Sec-WebSocket-Protocol: bearer.{secret}\r\n"),
        (f"&token={secret}", ""),
        (f"&token={secret}&token={secret}", ""),
        ("", f"Cookie: session={secret}\r\n"),
        (f"&token={secret}", "Origin: null\r\n"),
    ]
    for query, headers in ways:
        async with WebSocketPeer(bridge.port) as peer:
            await peer.upgrade(query=query, headers=headers)
            assert (await peer.frame())[0] in (TEXT, CLOSE)
    malformed = [
        GOOD.replace("user_id=u1", f"user_id=u1&token={secret}") + "nonsense\r\n\r\n",
        GOOD.replace("user_id=u1", f"token={secret}").replace("HTTP/1.1", "HTTP/9.9") + "\r\n",
        GOOD + f"Authorization: Bearer {secret}\x00\r\n\r\n",
        GOOD + f"Authorization: Bearer {secret}\r\nSec-WebSocket-Key: twice\r\n\r\n",
        f"{secret}\r\n\r\n",
        GOOD + f"Sec-WebSocket-Protocol: bearer.{secret}\r\nX-Long: {'x' * 9_000}\r\n\r\n",
        f"GET /stats?token={secret} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {'B' * 30}\r\n\r\n",
        f"GET /stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\n\r\n",
        f"GET /dapr/subscribe HTTP/1.1\r\nHost: a\r\ndapr-api-token: {'A' * 30}\r\n\r\n",
        f"GET /dapr/subscribe HTTP/1.1\r\nHost: a\r\ndapr-api-token: {secret}\r\n\r\n",
    ]
    for text in malformed:
        async with Peer(bridge.port) as peer:
            assert (await peer.request(text))[0] > 0
    ws, _ = await bridge.opened(token=token("u1", ttl=61))
    await ws.send_str(json.dumps({"type": "auth", "token": secret}))
    await ws.send_str(json.dumps({"type": "Auth", "token": secret}))
    await ws.receive()
    await bridge.hang_up()
    await until(lambda: len(bridge.bridge.registry) == 0)
    everything = logs.text + "".join(capfd.readouterr())
    assert logs.of("session.opened")
    for part in (*secret.split("."), "A" * 30, "B" * 30, SECRET):
        assert part[-20:] not in everything


async def test_traffic_summary_is_one_line(spawn: Spawn) -> None:
    bridge = await spawn()
    ws, _ = await bridge.opened()
    await bridge.publish({"user_id": "u1"})
    await receive(ws)
    await ws.close()
    bridge.terminate()
    assert await bridge.code() == 0
    (line,) = bridge.of("traffic.summary")
    expected = {"events_stored": 1, "deliveries": 1, "opened": 1, "closed": 1, "connections": 0, "users": 0}
    assert {name: line[name] for name in expected} == expected


# Start and stop.


async def test_start_is_logged_with_masked_secrets(spawn: Spawn) -> None:
    bridge = await spawn(JWT_SECRET=SECRET, LOG_LEVEL="debug", ADMIN_TOKEN="the operator's token")
    (line,) = bridge.of("server.started")
    assert line["ports"] == [bridge.port]
    assert line["client"] == client_file().source
    assert line["settings"]["WSBRIDGE_JWT_SECRET"] == line["settings"]["WSBRIDGE_ADMIN_TOKEN"] == "***"
    assert line["settings"]["WSBRIDGE_HISTORY_SIZE"] == "100"
    assert not [line for line in bridge.lines if SECRET in json.dumps(line) or "the operator's" in json.dumps(line)]


@pytest.mark.parametrize(("setting", "loop"), [("auto", DEFAULT_LOOP), ("asyncio", "asyncio")])
async def test_start_names_the_event_loop_in_the_log_and_in_a_metric(spawn: Spawn, setting: str, loop: str) -> None:
    bridge = await spawn(LOOP=setting)
    (line,) = bridge.of("server.started")
    assert line["loop"] == loop
    _, metrics = await bridge.get("/metrics")
    assert f'wsbridge_info{{loop="{loop}",version="{__version__}"}} 1.0' in metrics


async def test_unknown_setting_is_a_warning_with_the_nearest_name(spawn: Spawn) -> None:
    bridge = await spawn(HISTROY_SIZE="7")
    (line,) = bridge.of("settings.unknown")
    assert "WSBRIDGE_HISTROY_SIZE" in line["why"]
    assert "WSBRIDGE_HISTORY_SIZE" in line["why"]


async def test_malformed_setting_fails_the_start(spawn: Spawn) -> None:
    bridge = await spawn(PORT="tcp://10.0.0.7:8004", HISTORY_SIZE="many")
    assert await bridge.code() != 0
    errors = bridge.errors.decode().splitlines()
    assert len(errors) == 2
    assert any("WSBRIDGE_PORT" in line and "enableServiceLinks" in line for line in errors)
    assert any("WSBRIDGE_HISTORY_SIZE" in line for line in errors)


async def test_port_in_use_is_one_line(bridge: Running, spawn: Spawn) -> None:
    spawned = await spawn(PORT=str(bridge.port))
    assert await spawned.code() != 0
    (line,) = spawned.errors.decode().splitlines()
    assert str(bridge.port) in line


class Client:
    """Leaves as configured; notes the time, and its messages until then."""

    def __init__(self, peer: WebSocketPeer) -> None:
        self.peer = peer
        self.goodbye: dict[str, Any] = {}
        self.events: list[Any] = []
        self.close = (0, "")
        self.closed_at = 0.0

    async def run(self) -> None:
        while True:
            opcode, payload = await self.peer.frame()
            if opcode == CLOSE:
                self.close, self.closed_at = (
                    (int.from_bytes(payload[:2], "big"), payload[2:].decode()),
                    time.monotonic(),
                )
                return await self.peer.send_frame(CLOSE, payload[:2])
            if opcode == TEXT:
                message = json.loads(payload)
                if message["type"] == "goodbye":
                    self.goodbye = message
                else:
                    self.events.append(message["event"])


async def stalled(bridge: Spawned, count: int) -> list[StalledReader]:
    """A client with more data in flight than the kernel buffers."""
    peers = [StalledReader(bridge.port) for _ in range(count)]
    for peer in peers:
        await peer.__aenter__()
        await peer.opened("stalled")
    for _ in range(10):
        assert await bridge.publish({"user_id": "stalled", "padding": "x" * 500_000}) == "SUCCESS"

    async def is_stuck() -> bool:
        _, found = await bridge.get("/users/stalled")
        return len([s for s in found["sessions"] if s["unsent_bytes"] > 100_000]) == count

    await until_told(is_stuck)
    return peers


async def test_graceful_stop_with_a_thousand_clients_closes_all(spawn: Spawn) -> None:
    """Every client gets its goodbye and its close in time."""
    asyncio.get_running_loop().set_debug(False)
    window, many, stuck = 6.0, 990, 10
    bridge = await spawn(DRAIN_TIMEOUT=str(window), MAX_CONNECTIONS_PER_USER="0")
    peers = [WebSocketPeer(bridge.port) for _ in range(many)]
    for some in range(0, many, 90):
        await asyncio.gather(*(peer.__aenter__() for peer in peers[some : some + 90]))
        await asyncio.gather(*(peer.opened("many") for peer in peers[some : some + 90]))
    slow = await stalled(bridge, stuck)
    clients = [Client(peer) for peer in peers]
    running = [asyncio.create_task(client.run()) for client in clients]

    began = time.monotonic()
    bridge.terminate()
    await until(lambda: all(client.goodbye for client in clients))
    assert await bridge.publish({"user_id": "many", "n": "while we leave"}) == "SUCCESS"
    published = time.monotonic() - began
    status, health = await bridge.get("/health")
    assert (status, health["status"]) == (503, "unavailable")
    assert (await bridge.get("/healthz"))[0] == 200
    async with Peer(bridge.port) as newcomer:
        assert (await newcomer.request(GOOD + "\r\n"))[0] == 503
    await asyncio.gather(*running)
    assert await bridge.code() == 0
    took = time.monotonic() - began
    for peer in [*peers, *slow]:
        peer.sock.close()

    assert took < window + 5
    for client in clients:
        goodbye = client.goodbye
        assert list(goodbye) == ["type", "code", "reason", "reconnect", "reconnect_after_ms", "close_after_ms"]
        assert (goodbye["code"], goodbye["reason"], goodbye["reconnect"]) == (1012, "shutdown", True)
        assert 0 <= goodbye["reconnect_after_ms"] < goodbye["close_after_ms"] <= window * 1000
        assert client.close == (1012, "shutdown")
    late = [client for client in clients if client.goodbye["close_after_ms"] / 1000 > published]
    assert late  # on a busy machine, others may be closed before the event is published
    for client in late:
        assert client.events == [{"user_id": "many", "n": "while we leave"}]
    times = sorted(client.closed_at for client in clients)
    assert times[-1] - times[0] > window / 3
    assert times[many * 3 // 4] - times[many // 4] > window / 10  # spread, not all at once
    (done,) = bridge.of("drain.done")
    assert done["sessions"] == many + stuck
    assert bridge.lines[-1]["event"] == "server.stopped"
    codes = [line["code"] for line in bridge.of("session.closed")]
    assert codes.count(1012) == many + stuck
    assert not bridge.of("internal.error")
    assert bridge.errors == b""


async def test_second_signal_ends_the_drain(spawn: Spawn) -> None:
    bridge = await spawn(DRAIN_TIMEOUT="60")
    sockets = [(await bridge.opened(f"u{n}"))[0] for n in range(5)]
    bridge.terminate()
    for ws in sockets:
        assert (await receive(ws))["type"] == "goodbye"
    bridge.terminate()
    for ws in sockets:
        assert await closed(ws) == (1012, "shutdown")
    assert await bridge.code() == 0
    assert bridge.of("drain.done")
    assert bridge.errors == b""


async def test_stop_without_clients_is_immediate(spawn: Spawn) -> None:
    bridge = await spawn(DRAIN_TIMEOUT="60")
    bridge.terminate()
    assert await bridge.code() == 0
    assert bridge.of("drain.done")[0]["sessions"] == 0


# A background job that ends.

DIES = """
from wsbridge.sessions.bus import Bus
async def broadcast(self):
    await self._queue.get()
    {end}
Bus.broadcast = broadcast
"""


@pytest.mark.fault("E4")
@pytest.mark.parametrize("end", ["raise RuntimeError('the broadcaster dies')", "return"])
async def test_process_whose_broadcaster_ends_exits_with_1_and_names_it(spawn: Spawn, end: str) -> None:
    bridge = await spawn(broken=DIES.format(end=end), DRAIN_TIMEOUT="60")
    ws, _ = await bridge.opened()
    with contextlib.suppress(aiohttp.ClientError):  # the process may end before it answers
        await bridge.post(cloud_event({"user_id": "u1"}))
    goodbye = await receive(ws)
    assert (goodbye["type"], goodbye["reconnect"]) == ("goodbye", True)
    assert 0 <= goodbye["reconnect_after_ms"] <= 1000 * SPREAD
    assert await closed(ws) == (1012, "shutdown")
    assert await bridge.code() == 1
    (line,) = bridge.of("job.failed")
    assert (line["job"], line["level"]) == ("broadcast", "error")
    assert ("the broadcaster dies" if "raise" in end else "'broadcast' has ended") in line["exception"]
    assert not bridge.of("server.stopped")
    assert bridge.errors == b""


ACCEPTS_NOTHING = """
from wsbridge.connections.listener import Listener
async def accept(self, sock):
    {end}
Listener.accept = accept
"""


@pytest.mark.fault("E4")
@pytest.mark.parametrize("end", ["raise RuntimeError('the accept loop dies')", "return"])
async def test_process_whose_accept_loop_ends_exits_with_1_and_names_it(spawn: Spawn, end: str) -> None:
    bridge = await spawn(broken=ACCEPTS_NOTHING.format(end=end), DRAIN_TIMEOUT="60")
    assert await bridge.code() == 1
    (line,) = bridge.of("job.failed")
    assert line["job"].startswith("accept on ")
    assert not bridge.of("server.stopped")


@pytest.mark.fault("E4")
async def test_job_that_fails_during_the_drain_ends_it_with_1(spawn: Spawn) -> None:
    bridge = await spawn(broken=DIES.format(end="raise RuntimeError"), DRAIN_TIMEOUT="60")
    ws, _ = await bridge.opened()
    bridge.terminate()
    assert (await receive(ws))["type"] == "goodbye"
    with contextlib.suppress(aiohttp.ClientError):
        await bridge.post(cloud_event({"user_id": "u1"}))
    assert await closed(ws) == (1012, "shutdown")
    assert await bridge.code() == 1
    assert bridge.of("job.failed")


@pytest.mark.fault("E4")
async def test_bridge_whose_job_has_ended_refuses_everything_at_once(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.expected.add("job.failed")

    async def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("wsbridge.sessions.heartbeat.Heartbeat.run", broken)
    bridge = await start()
    await logs.line("job.failed", job="heartbeat")
    for path in ("/healthz", "/health", "/stats", "/metrics", "/ws"):
        status, body = await bridge.get(path)
        assert (status, "'heartbeat' has ended" in str(body)) == (503, True), path
    async with bridge.http.post(f"{bridge.url}/events/task-updates", json=cloud_event({"user_id": "u1"})) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert bridge.bridge.metrics.errors["internal"] == 1


TELLS_AT_THE_END = """
import atexit, gc, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
atexit.register(lambda: print(gc.get_freeze_count(), *resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr))
"""


async def test_serve_raises_the_descriptor_limit_and_freezes_the_objects_of_the_start(spawn: Spawn) -> None:
    bridge = await spawn(broken=TELLS_AT_THE_END)
    bridge.terminate()
    assert await bridge.code() == 0
    frozen, limit, most = (int(number) for number in bridge.errors.split())
    assert frozen > 10_000
    assert 256 < limit <= most
