"""`GET /ws` on real sockets: the messages and closes of docs/protocol.md."""

import json
import re
import time
from collections.abc import Callable

import aiohttp
import pytest

from tests.support.deliveries import EXAMPLE, cloud_event, enveloped
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Peer,
    StalledReader,
    WebSocketPeer,
)
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, receive, token, until
from wsbridge.sessions.state import State
from wsbridge.transports import base

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UPDATE = re.compile(
    rb'\{"type":"task_update","event":(.*),"timestamp":"' + TIMESTAMP.pattern.encode() + rb'",'
    rb'"id":"([a-z0-9]+:\d+)"(?:,"event_id":"[^"]+")?\}',
    re.DOTALL,
)
HEADERS = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_websocket_connected_is_first_with_its_fields_in_order(bridge: Running) -> None:
    _, hello = await bridge.opened("user-123")
    assert list(hello) == [
        "type",
        "message",
        "user_id",
        "timestamp",
        "session_id",
        "last_event_id",
        "ping_interval_ms",
    ]
    assert hello["type"] == "connected"
    assert hello["message"] == "WebSocket connected successfully"
    assert hello["user_id"] == "user-123"
    assert TIMESTAMP.fullmatch(hello["timestamp"])
    assert re.fullmatch("[0-9a-f]{12}", hello["session_id"])
    assert re.fullmatch("[A-Za-z0-9]+:0", hello["last_event_id"])
    assert hello["ping_interval_ms"] == 25_000


async def test_websocket_connected_has_recovered_and_the_expiry_of_the_token(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, PING_INTERVAL="7.5")
    _, hello = await bridge.opened("u1", token=token(ttl=3600), last_event_id="k3f9x2:41")
    assert list(hello)[-4:] == ["last_event_id", "recovered", "ping_interval_ms", "expires_in_ms"]
    assert hello["recovered"] is False
    assert hello["ping_interval_ms"] == 7_500
    assert 3_500_000 < hello["expires_in_ms"] <= 3_600_000


@pytest.mark.parametrize(
    "data",
    [
        EXAMPLE,
        b'{"z":1,"user_id":"user-123","a":12345678901234567890123456789,"f":1.10,"e":1E+2}',
        b'{ "user_id" :\t"user-123",\r\n "nested": {"b": [1,  2], "a": null} }',
        b'{"user_id":"user-123","same":1,"same":2,"slash":"\\/","escaped":"\\u00e9\\ud83d\\ude00"}',
        '{"user_id":"user-123","title":"Zoë 買う 🛒 </script>\u2028"}'.encode(),
        b'{"user_id":"user-123","padding":"' + b"x" * 70_000 + b'"}',
    ],
    ids=["example", "numbers", "white space", "duplicate names, escapes", "unicode", "70 kB"],
)
async def test_websocket_update_has_the_data_verbatim(bridge: Running, data: bytes) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened("user-123")
        assert await bridge.post(enveloped(data)) == {"status": "SUCCESS"}
        opcode, payload = await peer.frame()
        assert opcode == TEXT
        found = UPDATE.fullmatch(payload)
        assert found
        assert found[1] == data
        assert found[2].decode() == hello["last_event_id"].removesuffix("0") + "1"


async def test_websocket_update_type_is_that_of_the_topic(start: Start) -> None:
    bridge = await start(TOPICS="task-updates=task_update,notes=note")
    ws, _ = await bridge.opened()
    await bridge.post(cloud_event({"user_id": "u1"}), topic="notes")
    assert (await receive(ws))["type"] == "note"


async def test_websocket_pings_as_text_and_as_frames_are_answered(bridge: Running) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        await peer.send_frame(TEXT, b'{"type":"ping"}')
        assert await peer.frame() == (TEXT, b'{"type":"pong"}')
        await peer.send_frame(PING, b"are you there?")
        assert await peer.frame() == (PONG, b"are you there?")
        await peer.send_frame(PONG, b"unasked")  # RFC 6455 §5.5.3: no answer is expected
        await peer.send_frame(TEXT, b'{"type":', final=False)
        await peer.send_frame(PING, b"between fragments")
        await peer.send_frame(CONTINUATION, b'"ping"}')
        assert await peer.frame() == (PONG, b"between fragments")
        assert await peer.frame() == (TEXT, b'{"type":"pong"}')


async def test_websocket_server_sends_pings(start: Start) -> None:
    bridge = await start(PING_INTERVAL="0.1")
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        for _ in range(3):
            assert await peer.frame() == (PING, b"")
            await peer.send_frame(PONG)


async def test_websocket_auth_extends_the_session(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws, hello = await bridge.opened(token=token(ttl=20))
    await ws.send_str(json.dumps({"type": "auth", "token": token(ttl=3600)}))
    answer = await receive(ws)
    assert list(answer) == ["type", "expires_in_ms"]
    assert answer["type"] == "authenticated"
    assert 3_500_000 < answer["expires_in_ms"] <= 3_600_000
    assert logs.of("session.authenticated", session=hello["session_id"], user="u1")


@pytest.mark.parametrize(
    ("fresh", "close"),
    [
        (lambda: "nonsense", (4401, "token_invalid")),
        (lambda: token(key="another secret of thirty-two bytes"), (4401, "token_invalid")),
        (lambda: token(ttl=-3600), (4401, "token_expired")),
        (lambda: token("somebody-else"), (4503, "user_mismatch")),
    ],
    ids=["nonsense", "forged", "expired", "of another user"],
)
async def test_websocket_auth_with_an_invalid_token_closes(
    start: Start, logs: Logs, fresh: Callable[[], str], close: tuple[int, str]
) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws, hello = await bridge.opened(token=token())
    await ws.send_str(json.dumps({"type": "auth", "token": fresh()}))
    message = await ws.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE  # without a goodbye
    assert (message.data, message.extra) == close
    assert logs.of("auth.failed", session=hello["session_id"], code=close[0], reason=close[1])
    assert bridge.bridge.metrics.errors["auth"] == 1
    assert await logs.line("session.closed", session=hello["session_id"], code=close[0], by="server")


async def test_websocket_auth_without_authentication_is_answered(bridge: Running) -> None:
    ws, _ = await bridge.opened()
    await ws.send_str('{"type":"auth","token":"whatever"}')
    assert await receive(ws) == {"type": "authenticated"}


BAD_MESSAGES = [
    '{"type":"subscribe"}',
    '{"type":"auth"}',
    '{"type":"auth","token":null}',
    '{"type":"auth","token":7}',
    '{"type":7}',
    "{}",
    "[]",
    "null",
    '"ping"',
    "ping",
    "",
    "NaN",
    '{"type":"ping"',
    '{"type":"\\ud800"}',
    "[" * 8_000,
]


@pytest.mark.parametrize("text", BAD_MESSAGES, ids=[repr(text[:20]) for text in BAD_MESSAGES])
async def test_websocket_invalid_message_gets_an_error_and_stays_open(bridge: Running, text: str) -> None:
    ws, _ = await bridge.opened()
    await ws.send_str(text)
    answer = await receive(ws)
    assert list(answer) == ["type", "code", "message"]
    assert (answer["type"], answer["code"]) == ("error", "bad_message")
    assert answer["message"]
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}


async def test_websocket_tenth_bad_message_within_a_minute_closes(bridge: Running, logs: Logs) -> None:
    ws, hello = await bridge.opened()
    for _ in range(9):
        await ws.send_str("bad")
        assert (await receive(ws))["type"] == "error"
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}
    await ws.send_str("bad")
    assert await closed(ws) == (1008, "policy")
    await logs.line("session.closed", session=hello["session_id"], code=1008, reason="policy", by="server")


@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (BINARY, b'{"type":"ping"}', 1003),
        (TEXT, b'{"type":"ping"}'.ljust(16_385), 1009),
        (TEXT, b"\xff", 1007),
        (3, b"", 1002),
    ],
    ids=["binary", "over 16 KiB", "bad UTF-8", "opcode"],
)
async def test_websocket_unreadable_message_closes(bridge: Running, opcode: int, payload: bytes, code: int) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        await peer.send_frame(opcode, payload)
        assert (await peer.closed())[0] == code


@pytest.mark.parametrize("opcode", [3, TEXT], ids=["opcode", "bad UTF-8"])
async def test_websocket_unreadable_message_ends_the_connection_at_once(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, opcode: int
) -> None:
    """The client's close would not be read, so the bridge does not wait for it (RFC 6455 §7.1.7)."""
    monkeypatch.setattr("wsbridge.transports.base.CLOSE_TIMEOUT", 3_600)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        await peer.send_frame(opcode, b"\xff")
        await peer.closed()
        assert await peer.rest() == b""


async def test_websocket_message_of_16_kib_is_accepted(bridge: Running) -> None:
    ws, _ = await bridge.opened()
    await ws.send_str('{"type":"ping"}'.ljust(16 * 1024))
    assert await receive(ws) == {"type": "pong"}


async def test_websocket_goodbye_precedes_a_forced_disconnect(bridge: Running) -> None:
    ws, _ = await bridge.opened("u1")
    async with bridge.http.post(f"{bridge.url}/users/u1/disconnect") as response:
        assert response.status == 202
    assert await ws.receive_str() == (
        '{"type":"goodbye","code":4509,"reason":"force_disconnect","reconnect":false,'
        '"reconnect_after_ms":0,"close_after_ms":0}'
    )
    assert await closed(ws) == (4509, "force_disconnect")


async def test_websocket_goodbye_precedes_the_close_for_an_expired_token(start: Start, logs: Logs) -> None:
    """Within a second of its expiry. A fresh token before that keeps the session."""
    bridge = await start(JWT_SECRET=SECRET, JWT_LEEWAY="0")
    expires = int(time.time()) + 2
    ends, hello = await bridge.opened(token=token(exp=expires))
    stays, other = await bridge.opened(token=token(exp=expires))
    await stays.send_str(json.dumps({"type": "auth", "token": token(ttl=60)}))
    assert (await receive(stays))["type"] == "authenticated"
    assert await receive(ends) == {
        "type": "goodbye",
        "code": 4401,
        "reason": "token_expired",
        "reconnect": True,
        "reconnect_after_ms": 0,
        "close_after_ms": 0,
    }
    late = time.time() - expires
    assert await closed(ends) == (4401, "token_expired")
    assert -0.1 < late < 2.5
    await logs.line("session.closed", session=hello["session_id"], code=4401, reason="token_expired")
    await bridge.publish({"user_id": "u1"})
    assert (await receive(stays))["type"] == "task_update"
    assert not logs.of("session.closed", session=other["session_id"])


@pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
async def test_websocket_close_of_the_peer_is_echoed(bridge: Running, logs: Logs, code: int | None) -> None:
    async with WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened()
        await peer.send_frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + b"bye")
        assert await peer.frame() == (CLOSE, b"" if code is None else code.to_bytes(2, "big"))
        assert await peer.rest() == b""
        line = await logs.line("session.closed", session=hello["session_id"], by="client", code=code or 1005)
        assert line["reason"] == ("bye" if code else "")
    assert len(bridge.bridge.registry) == 0


async def test_websocket_peer_that_does_not_answer_a_close_is_cut(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.1)
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened()
        await peer.send_frame(BINARY, b"x")
        assert await peer.closed() == (1003, "binary")
        await peer.send_frame(TEXT, b'{"type":"ping"}')  # nothing is answered after a close
        assert await peer.rest() == b""


REFUSED: dict[str, tuple[dict[str, str | None], int, dict[str, str]]] = {
    "no WebSocket request": ({"Upgrade": None, "Connection": None}, 426, {"Upgrade": "websocket"}),
    "upgrade to something else": ({"Upgrade": "h2c"}, 426, {"Upgrade": "websocket"}),
    "stripped by a proxy": ({"Connection": "keep-alive"}, 426, {"Upgrade": "websocket"}),
    "no Connection": ({"Connection": None}, 426, {"Upgrade": "websocket"}),
    "old version": ({"Sec-WebSocket-Version": "8"}, 426, {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}),
    "no version": ({"Sec-WebSocket-Version": None}, 426, {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}),
    "no key": ({"Sec-WebSocket-Key": None}, 400, {}),
    "short key": ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400, {}),
    "key that is not base64": ({"Sec-WebSocket-Key": "!" * 24}, 400, {}),
}


@pytest.mark.parametrize(("changes", "status", "expected"), REFUSED.values(), ids=REFUSED)
async def test_websocket_request_without_a_valid_handshake_is_refused(
    bridge: Running, changes: dict[str, str | None], status: int, expected: dict[str, str]
) -> None:
    headers = {name: value for name, value in (HEADERS | changes).items() if value is not None}
    async with bridge.http.get(f"{bridge.url}/ws?user_id=u1", headers=headers) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type=None)
        assert (problem["type"], problem["status"]) == ("about:blank", status)
        assert problem["title"]
        assert problem["detail"]
        assert {name: response.headers.get(name) for name in expected} == expected


async def test_websocket_during_a_drain_is_refused_with_retry_after(bridge: Running) -> None:
    bridge.bridge.admission.draining = True
    async with bridge.http.get(f"{bridge.url}/ws?user_id=u1", headers=HEADERS) as response:
        assert response.status == 503
        assert response.content_type == "application/problem+json"
        assert int(response.headers["Retry-After"]) > 0


async def test_websocket_for_http_1_0_is_refused(bridge: Running) -> None:
    """RFC 6455 §4.2.1: HTTP/1.1 or higher."""
    async with Peer(bridge.port) as peer:
        status, _ = await peer.request(UPGRADE.format(path="/ws?user_id=u1").replace("HTTP/1.1", "HTTP/1.0") + "\r\n")
        assert status in (400, 426)


async def test_websocket_handshake_selects_the_subprotocol_without_compression(bridge: Running) -> None:
    ws = await bridge.http.ws_connect(f"{bridge.url}/ws?user_id=u1", protocols=("bearer.x", "wsbridge.v1"), compress=15)
    assert ws.protocol == "wsbridge.v1"
    assert not ws.compress
    await ws.close()
    ws = await bridge.http.ws_connect(f"{bridge.url}/ws?user_id=u1", protocols=("something.else",))
    assert ws.protocol is None
    await ws.close()


async def publish(bridge: Running, count: int, user: str = "u1") -> list[bytes]:
    """Publish this many events; return their frames as a live connection got them."""
    async with WebSocketPeer(bridge.port) as peer:
        await peer.opened(user)
        for n in range(count):
            assert await bridge.publish({"user_id": user, "n": n}) == "SUCCESS"
        return [(await peer.frame())[1] for _ in range(count)]


def position(frame: bytes) -> str:
    return str(json.loads(frame)["id"])


async def test_websocket_resume_replays_missed_events_then_live_ones(bridge: Running) -> None:
    live = await publish(bridge, 5)
    async with WebSocketPeer(bridge.port) as peer:
        hello = await peer.opened(query=f"&last_event_id={position(live[1])}")
        assert hello["recovered"] is True
        assert hello["last_event_id"] == position(live[1])
        assert [(await peer.frame())[1] for _ in range(3)] == live[2:]
        live += await publish(bridge, 1)
        assert (await peer.frame())[1] == live[5]


async def test_websocket_resume_at_the_position_of_connected_replays_all(bridge: Running) -> None:
    ws, hello = await bridge.opened()
    await ws.close()
    live = await publish(bridge, 2)
    async with WebSocketPeer(bridge.port) as peer:
        assert (await peer.opened(query=f"&last_event_id={hello['last_event_id']}"))["recovered"] is True
        assert [(await peer.frame())[1] for _ in range(2)] == live


async def test_websocket_resume_at_the_newest_position_is_recovered(bridge: Running) -> None:
    live = await publish(bridge, 2)
    ws, hello = await bridge.opened(last_event_id=position(live[1]))
    assert (hello["recovered"], hello["last_event_id"]) == (True, position(live[1]))
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}  # no event came before


async def test_websocket_resume_from_an_empty_position_is_a_new_session(bridge: Running) -> None:
    live = await publish(bridge, 1)
    _, hello = await bridge.opened(last_event_id="")
    assert "recovered" not in hello
    assert hello["last_event_id"] == position(live[0])


@pytest.mark.parametrize(
    ("settings", "reason"), [({"HISTORY_SIZE": "3"}, "trimmed"), ({"HISTORY_TTL": "0"}, "expired")]
)
async def test_websocket_resume_from_a_trimmed_position_gets_a_gap_only(
    start: Start, logs: Logs, settings: dict[str, str], reason: str
) -> None:
    bridge = await start(**settings)
    live = await publish(bridge, 5)
    asked, top = position(live[0]), position(live[4])
    ws, hello = await bridge.opened(last_event_id=asked)
    assert (hello["recovered"], hello["last_event_id"]) == (False, top)
    assert await ws.receive_str() == (f'{{"type":"gap","after":"{asked}","last_event_id":"{top}","reason":"{reason}"}}')
    await bridge.publish({"user_id": "u1"})
    assert (await receive(ws))["id"].endswith(":6")
    await logs.line("session.opened", session=hello["session_id"], recovered=False, gap=reason)


async def test_websocket_resume_at_the_top_of_expired_events_is_recovered(start: Start) -> None:
    bridge = await start(HISTORY_TTL="0")
    live = await publish(bridge, 3)
    _, hello = await bridge.opened(last_event_id=position(live[2]))
    assert hello["recovered"] is True


POSITIONS = ["{epoch}:4", "{epoch}:99999999999999999", "0ther0ne:1", "{other}:1"]
MALFORMED = [
    ":",
    "x",
    "{epoch}",
    "{epoch}:",
    "{epoch}:-1",
    "{epoch}:01",
    "{epoch}:1.5",
    "{epoch}:1 ",
    "{epoch}:\u0661",
    "\0",
]


@pytest.mark.parametrize("asked", [*POSITIONS, *MALFORMED, "{epoch}:" + "9" * 5_000])
async def test_websocket_resume_from_an_invalid_position_is_a_reset(bridge: Running, logs: Logs, asked: str) -> None:
    """A gap, and no event of the other user."""
    theirs = await publish(bridge, 3, user="other")
    top = position((await publish(bridge, 3))[2])
    filled = asked.format(epoch=top.split(":")[0], other=position(theirs[0]).split(":")[0])
    ws, hello = await bridge.opened(last_event_id=filled)
    assert (hello["recovered"], hello["last_event_id"]) == (False, top)
    after = {"after": filled} if asked in POSITIONS else {}
    assert await receive(ws) == {"type": "gap", **after, "last_event_id": top, "reason": "reset"}
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}
    await logs.line("session.opened", session=hello["session_id"], recovered=False, gap="reset", replayed=0)


async def test_websocket_live_events_during_a_replay_arrive_once(start: Start, logs: Logs) -> None:
    bridge = await start(HISTORY_SIZE="1000", MAX_BACKLOG_BYTES="1000000")
    padding, count = "x" * 50_000, 150
    for n in range(count):
        assert await bridge.publish({"user_id": "u1", "n": n, "padding": padding}) == "SUCCESS"
    epoch = str((await bridge.bridge.broker.resume("u1", None)).position.epoch)
    async with StalledReader(bridge.port) as peer:  # 7.5 MB are more than the kernel buffers, so it stalls
        assert (await peer.opened(query=f"&last_event_id={epoch}:0"))["recovered"] is True
        (session,) = bridge.bridge.registry.of("u1")
        for n in range(count, count + 5):
            assert await bridge.publish({"user_id": "u1", "n": n}) == "SUCCESS"
        await until(bridge.bridge.bus.is_empty)
        assert session.state is State.REPLAYING
        del session
        messages = [await peer.message() for _ in range(count + 5)]
        assert [message["event"]["n"] for message in messages] == list(range(count + 5))
        assert [message["id"] for message in messages] == [f"{epoch}:{n + 1}" for n in range(count + 5)]
        await bridge.publish({"user_id": "u1", "n": "live"})
        assert (await peer.message())["id"] == f"{epoch}:{count + 6}"


async def test_websocket_slow_replay_is_not_a_silence(start: Start) -> None:
    """The replay is written at the client's pace, and a client that reads is not silent."""
    bridge = await start(HISTORY_SIZE="1000", PING_INTERVAL="0.4", PING_TIMEOUT="0.4")
    count = 150
    for n in range(count):
        assert await bridge.publish({"user_id": "u1", "n": n, "padding": "x" * 50_000}) == "SUCCESS"
    epoch = str((await bridge.bridge.broker.resume("u1", None)).position.epoch)
    async with StalledReader(bridge.port) as peer:
        await peer.opened(query=f"&last_event_id={epoch}:0")
        (session,) = bridge.bridge.registry.of("u1")
        begin = session.opened_at
        await until(lambda: time.monotonic() > begin + 2)  # reads nothing yet, but has time for a portion
        assert [(await peer.message())["event"]["n"] for _ in range(count)] == list(range(count))
        await peer.send_frame(TEXT, b'{"type":"ping"}')
        assert await peer.message() == {"type": "pong"}
