"""A connection before aiohttp gets it: bounded heads, cheap refusals, and no memory kept for handshakes."""

import asyncio
import gc
import json

import pytest
from aiohttp.web_protocol import RequestHandler

from tests.support.bystander import Bystander
from tests.support.deliveries import cloud_event
from tests.support.frames import CLOSE, GOOD, TEXT, UPGRADE, Peer, WebSocketPeer
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, connect, receive, token, until
from wsbridge import server
from wsbridge.connections import connection_limit

GET = "GET /healthz HTTP/1.1\r\nHost: a\r\n"
UNTRUSTED = {"TRUSTED_PROXIES": "192.0.2.1"}  # no proxy at the address of the tests is trusted


def refused(bridge: Running, reason: str) -> int:
    return bridge.bridge.metrics.refusals[reason]


def handlers() -> int:
    """aiohttp's objects for connections."""
    return sum(
        issubclass(type(found), RequestHandler) for found in gc.get_objects()
    )  # `isinstance` would follow weak proxies


def head_bytes(bridge: Running) -> float:
    return bridge.bridge.metrics.registry.get_sample_value("wsbridge_request_head_bytes") or 0.0


async def send_often(peer: Peer, data: bytes) -> None:
    """Send 2 MB, or until the other side closes."""
    for _ in range(0, 2_000_000, len(data)):
        await peer.send(data)
        await asyncio.sleep(0)


# Size.


@pytest.mark.fault("D6")
@pytest.mark.parametrize("target", ["/ws?user_id=u1", "/healthz"])
async def test_header_of_32_kb_is_accepted(bridge: Running, target: str) -> None:
    text = GOOD.replace("/ws?user_id=u1", target)
    async with Peer(bridge.port) as peer:
        status, _ = await peer.request(f"{text}Cookie: a={'x' * 20_000}\r\nX-More: {'y' * 11_000}\r\n\r\n")
    assert status in (101, 200)


@pytest.mark.fault("D6")
async def test_header_with_a_large_token_is_accepted(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    large = token("u1", groups=[f"group-{n:020}" for n in range(500)])
    assert len(large) > 16_000
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened(headers=f"Authorization: Bearer {large}\r\n")
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened(query=f"&token={large}")


@pytest.mark.fault("D6")
@pytest.mark.parametrize("finished", [True, False])
async def test_header_that_is_too_large_is_answered_431_and_named_in_the_log(
    bridge: Running, logs: Logs, finished: bool
) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        end = "\r\n\r\n" if finished else ""
        status, answer = await peer.request(f"{GET}Cookie: {'x' * 33_000}{end}")
        assert status == 431
        assert "Cookie" in answer
        line = await logs.line("request.bad", header="Cookie", setting="WSBRIDGE_MAX_HEADER_BYTES")
    assert 32_000 < line["size"] < 34_000
    assert "WSBRIDGE_MAX_HEADER_BYTES" in line["error"]
    assert "xxx" not in logs.text
    assert refused(bridge, "header_bytes") == 1


@pytest.mark.fault("B3")
@pytest.mark.parametrize("rest", [f"Cookie: {'x' * 33_000}", "Expect: nope\r\n\r\n"], ids=["too large", "malformed"])
async def test_refused_head_is_logged_with_the_client_address(bridge: Running, logs: Logs, rest: str) -> None:
    async with Peer(bridge.port) as peer:
        assert (await peer.request(f"{GET}X-Forwarded-For: 203.0.113.7\r\n{rest}"))[0] in (400, 431)
    await logs.line("request.bad", peer="203.0.113.7")


@pytest.mark.fault("D6")
async def test_header_limit_is_a_setting(start: Start) -> None:
    bridge = await start(MAX_HEADER_BYTES="65536")
    async with Peer(bridge.port) as peer:
        assert (await peer.request(f"{GET}Cookie: {'x' * 60_000}\r\n\r\n"))[0] == 200
        assert (await peer.request(f"{GET}Cookie: {'x' * 66_000}\r\n\r\n"))[0] == 431


@pytest.mark.fault("D6")
@pytest.mark.parametrize("size", [40_000, 400_000])
async def test_large_request_behind_another_one_is_no_large_header(bridge: Running, size: int) -> None:
    body = json.dumps(cloud_event({"event_type": "task.created", "user_id": "u1", "text": "x" * size}))
    head = "POST /events/task-updates HTTP/1.1\r\nHost: a\r\nContent-Type: application/cloudevents+json\r\n"
    async with Peer(bridge.port) as peer:
        assert (await peer.request(f"{GET}\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"))[0] == 200
        assert b"SUCCESS" in await peer.until(b"SUCCESS")
    assert refused(bridge, "header_bytes") == 0


# Memory.


@pytest.mark.fault("C9")
async def test_incomplete_heads_use_bounded_memory_and_no_aiohttp_parser(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "MAX_HEAD_BYTES", 200_000)
    before = handlers()
    async with Bystander(bridge):
        peers = [Peer(bridge.port) for _ in range(50)]
        for peer in peers:
            await peer.__aenter__()
            await peer.send(f"{GET}X: {'x' * 20_000}".encode())
        await until(lambda: refused(bridge, "head_memory") == 41)  # 200,000 bytes hold nine
        assert head_bytes(bridge) <= 200_000
        assert handlers() <= before + 3  # of the bystander
        for peer in peers:
            peer.sock.close()
    await until(lambda: head_bytes(bridge) == 0)


@pytest.mark.fault("C9")
async def test_connection_with_endless_headers_is_cut_early(bridge: Running) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        await peer.send(GET.encode())
        with pytest.raises(ConnectionError):
            await send_often(peer, b"X: " + b"x" * 997 + b"\r\n")
    assert refused(bridge, "header_bytes") == 1


@pytest.mark.fault("C9")
async def test_heads_pipelined_behind_a_stream_end_it(bridge: Running) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        await peer.send(b"GET /sse?user_id=u1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await peer.until(b"connected")
        with pytest.raises(ConnectionError):
            await send_often(peer, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 997 + b"\r\n\r\n")
    await until(lambda: not bridge.bridge.registry.of("u1"))


@pytest.mark.fault("C10")
async def test_bytes_behind_a_declined_upgrade_leave_no_reference_cycle(bridge: Running) -> None:
    gc.collect()
    before = handlers()
    gc.disable()
    try:
        for _ in range(3):
            async with Peer(bridge.port) as peer:
                await peer.send(
                    b"GET /nope HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + b"\xff" * 99
                )
                assert b" 404 " in await peer.rest()
        await until(lambda: handlers() == before)
    finally:
        gc.enable()


# Requests one after the other.


async def test_pipelined_requests_are_answered_in_order(bridge: Running) -> None:
    event = json.dumps({"user_id": "u1"}).encode()
    post = b"POST /events/task-updates HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    async with Peer(bridge.port) as peer:
        await peer.send(
            GET.encode() + b"\r\n"
            + post + b"Content-Length: %d\r\n\r\n" % len(event) + event
            + post + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
            + b"GET /nope HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )  # fmt: skip
        answer = await peer.rest()
    assert [answer.count(text) for text in (b"ok\n", b"SUCCESS", b" 404 ")] == [1, 2, 1]


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_request_in_small_pieces_is_answered(bridge: Running, size: int) -> None:
    event = json.dumps({"user_id": "u1"}).encode()
    text = b"\r\n\r\nPOST /events/task-updates HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(event) + event
    async with Peer(bridge.port) as peer:
        for n in range(0, len(text), size):
            await peer.send(text[n : n + size])
            await asyncio.sleep(0)
        assert (await peer.request(b""))[0] == 200
        assert (await peer.request(GET + "\r\n"))[0] == 200


async def test_declined_upgrade_ends_the_connection(bridge: Running) -> None:
    async with Peer(bridge.port) as peer:
        await peer.send(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + GET.encode()
        )
        assert b"connection: close" in (await peer.rest()).lower()


# Time.


@pytest.mark.fault("G8")
async def test_idle_connection_outlives_the_header_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.KEEP_ALIVE > 75
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.2)
    bridge = await start(**UNTRUSTED)
    async with Peer(bridge.port) as idle:
        assert (await idle.request(GET + "\r\n"))[0] == 200
        async with Peer(bridge.port) as silent, Peer(bridge.port) as slow:
            await slow.send(GET.encode())
            assert await silent.rest() == await slow.rest() == b""  # both are cut at that deadline
        assert (await idle.request(GET + "\r\n"))[0] == 200
    assert (refused(bridge, "silence"), refused(bridge, "head_timeout")) == (1, 1)


@pytest.mark.fault("G8")
async def test_second_head_has_the_header_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.2)
    bridge = await start()
    async with Peer(bridge.port) as peer:
        assert (await peer.request(GET + "\r\n"))[0] == 200
        await peer.send(GET.encode())
        assert await peer.rest() == b""


# Budgets.


@pytest.mark.fault("C3")
async def test_address_over_its_failure_limit_is_refused_before_parsing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await start(JWT_SECRET=SECRET, FAILURE_RATE="1", **UNTRUSTED)
    now = asyncio.get_running_loop().time()
    failures = bridge.bridge.rate_limits
    monkeypatch.setattr(failures, "_clock", lambda: now)
    ws, _ = await bridge.opened(token=token())
    for _ in range(10):
        assert await closed(await bridge.connect(token="bad")) == (4401, "token_invalid")
    made = handlers()
    for _ in range(30):
        async with Peer(bridge.port) as peer:
            assert (await peer.rest())[:12] in (b"HTTP/1.1 429", b"")  # empty if the reset was faster
    assert refused(bridge, "failures") == 30
    gc.collect()
    assert handlers() <= made
    await ws.send_str('{"type":"ping"}')  # an earlier session stays open
    assert await receive(ws) == {"type": "pong"}
    monkeypatch.setattr(failures, "_clock", lambda: now + 1)
    await bridge.opened(token=token())


@pytest.mark.fault("C3", "B3")
async def test_failures_behind_a_proxy_count_for_the_client_and_are_logged_with_its_address(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await start(JWT_SECRET=SECRET, FAILURE_RATE="1")
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(bridge.bridge.rate_limits, "_clock", lambda: now)
    flood, other = "X-Forwarded-For: 203.0.113.7\r\n", "X-Forwarded-For: 203.0.113.8\r\n"
    for _ in range(10):
        async with WebSocketPeer(bridge.port) as peer:
            await peer.upgrade(query="&token=bad", headers=flood)
            assert await peer.closed() == (4401, "token_invalid")
    async with Peer(bridge.port) as peer:
        status, answer = await peer.request(GOOD + flood + "\r\n")
        assert (status, "retry-after: 1" in answer.lower()) == (429, True)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened(query=f"&token={token()}", headers=other)
    assert {line["peer"] for line in logs.of("auth.failed")} == {"203.0.113.7"}
    assert logs.of("http.request", status=429, peer="203.0.113.7")
    assert logs.of("session.opened", peer="203.0.113.8")


@pytest.mark.fault("C3")
async def test_many_users_behind_one_address_are_all_accepted(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, FAILURE_RATE="1", **UNTRUSTED)
    for n in range(50):
        await bridge.opened(f"u{n}", token=token(f"u{n}"))


@pytest.mark.fault("C3")
async def test_handshakes_over_the_rate_are_closed_with_1013(start: Start, logs: Logs) -> None:
    bridge = await start(HANDSHAKE_RATE="2")
    bridge.bridge.rate_limits.handshakes._clock = lambda: 1_000.0  # time alone would admit more
    first = [(await bridge.connect()) for _ in range(4)]
    late = await bridge.connect()
    goodbye = await receive(late)
    assert (goodbye["type"], goodbye["code"], goodbye["reconnect"]) == ("goodbye", 1013, True)
    assert await closed(late) == (1013, "overloaded")
    async with Peer(bridge.port) as peer:
        _, answer = await peer.request(GOOD.replace("GET /ws", "GET http://localhost/ws") + "\r\n")
        assert answer.startswith("HTTP/1.1 101 ")  # another spelling of the path does not avoid the limit
        await until(lambda: len(logs.of("session.refused", code=1013, reason="overloaded")) == 2)
    async with Peer(bridge.port) as peer:
        await peer.send(b"GET /sse?user_id=u1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'"code":1013' in await peer.rest()
    assert refused(bridge, "handshake_rate") == bridge.closes("1013") == 3
    assert [(await receive(ws))["type"] for ws in first] == ["connected"] * 4
    assert await bridge.publish({"user_id": "u1"}) == "SUCCESS"  # the limit does not apply to deliveries


async def test_request_for_ws_without_upgrade_over_the_rate_gets_426(start: Start) -> None:
    bridge = await start(HANDSHAKE_RATE="1")
    for _ in range(2):
        await bridge.connect()
    async with Peer(bridge.port) as peer:
        assert (await peer.request(GOOD.replace("Upgrade: websocket\r\n", "") + "\r\n"))[0] == 426


@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    ("request_", "counts"),
    [
        (UPGRADE.format(path="/ws?token=bad"), True),
        (UPGRADE.format(path="/ws?x=\xff"), True),
        ("GET /sse?token=bad HTTP/1.1\r\nHost: a\r\n", True),
        ("GET /sse?token=bad HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n", True),
        ("POST /sse HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", True),
        ("OPTIONS /sse HTTP/1.1\r\nHost: a\r\n", False),
    ],
)
async def test_client_that_fails_leaves_the_handshakes_to_others(
    start: Start, monkeypatch: pytest.MonkeyPatch, request_: str, counts: bool
) -> None:
    bridge = await start(JWT_SECRET=SECRET, FAILURE_RATE="1", HANDSHAKE_RATE="100")
    limits = bridge.bridge.rate_limits
    for bucket in (limits, limits.handshakes):
        monkeypatch.setattr(bucket, "_clock", lambda: 1_000.0)
    for _ in range(50):
        async with Peer(bridge.port) as peer:
            await peer.send(f"{request_}X-Forwarded-For: 203.0.113.7\r\n\r\nx".encode("latin-1"))
            assert (await peer.until(b"\r\n")).startswith(b"HTTP/1.1 ")
    assert limits.refuses("203.0.113.7") is counts
    assert sum(limits.handshakes.take() for _ in range(201)) >= 190  # its first ten may have counted


@pytest.mark.fault("C4")
async def test_full_bridge_refuses_sessions_and_answers_probes(bridge: Running) -> None:
    bridge.bridge.connection_limit.limit = 2
    for _ in range(2):
        await bridge.opened()
    assert await closed(await bridge.connect()) == (1013, "overloaded")
    assert (await bridge.get("/healthz"))[0] == 200
    assert refused(bridge, "descriptors") >= 1


# Malformed heads.

ODD = {
    "expectation that is no text": f"{GET}Expect: \xff\r\n\r\n",
    "expectation of something": f"{GET}Expect: 200-ok\r\n\r\n",
    "HTTP/2.0": "GET /sse?user_id=u1 HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/3": "GET /ws HTTP/3\r\n\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "LF": "GET / HTTP/1.1\nHost: a\n\n",
    "folded": f"{GET}X: a\r\n b\r\n\r\n",
}


@pytest.mark.fault("H4")
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
async def test_malformed_head_is_answered_400_with_one_line(bridge: Running, logs: Logs, text: str) -> None:
    async with Bystander(bridge), Peer(bridge.port) as peer:
        status, answer = await peer.request(text.encode("latin-1"))
        assert status == 400
        assert "application/problem+json" in answer
        await logs.line("request.bad", peer="127.0.0.1")
    assert len(logs.of("request.bad")) == 1
    assert "Traceback" not in logs.text


async def test_overloaded_websocket_that_offers_a_subprotocol_gets_it(start: Start, logs: Logs) -> None:
    bridge = await start(HANDSHAKE_RATE="1")
    for _ in range(2):
        await bridge.connect()
    late = await connect(
        bridge,
        query={"user_id": "u1"},
        protocols=("wsbridge.v1", "bearer.a.b.c"),
        headers={"X-Forwarded-For": "203.0.113.9"},
    )
    assert late.protocol == "wsbridge.v1"
    assert (await receive(late))["code"] == 1013
    assert logs.of("session.refused", code=1013)[-1]["peer"] == "203.0.113.9"


async def test_overloaded_websocket_gets_a_goodbye_and_a_close_frame(start: Start) -> None:
    bridge = await start(HANDSHAKE_RATE="1")
    for _ in range(2):
        await bridge.connect()
    async with WebSocketPeer(bridge.port) as peer:
        await peer.upgrade()
        opcode, payload = await peer.frame()
        assert (opcode, json.loads(payload)["reason"]) == (TEXT, "overloaded")
        assert await peer.frame() == (CLOSE, (1013).to_bytes(2, "big") + b"overloaded")


async def test_path_without_a_route_is_masked_in_the_log_whatever_refuses_it(start: Start, logs: Logs) -> None:
    bridge = await start(FAILURE_RATE="1")
    behind = {"X-Forwarded-For": "203.0.113.9"}
    statuses = set()
    for _ in range(30):
        path = f"/ws/OPAQUEsecret{'x' * 20}"
        async with bridge.http.post(bridge.url + path, headers=behind | {"Content-Encoding": "gzip"}, data=b"x") as r:
            statuses.add(r.status)
    assert statuses == {415, 429}
    paths = {line["path"] for line in logs.of("http.request") if line["status"] in statuses}
    assert paths == {"/ws/***"}
