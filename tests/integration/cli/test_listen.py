"""`wsbridge listen`: its reaction to each close, gap and goodbye, with scripted servers and a real bridge."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.running import DEADLINE, ROOT, Running, Start, until
from wsbridge.auth.tokens import mint
from wsbridge.cli.formatting import explain
from wsbridge.cli.listen import Listener, Token
from wsbridge.client import STABLE, TOO_BIG, Client, Ended, delays
from wsbridge.core.close_codes import CLOSES, FORCE_DISCONNECT, INTERNAL, LOST, SLOW_CONSUMER, TOKEN_EXPIRED, Close

SECRET = "0123456789abcdef0123456789abcdef"
STAY_AWAY = Close(4509, "force_disconnect")
Scene = Callable[[web.WebSocketResponse], Awaitable[object]]


class Following:
    """A running listener and its output. Its delays are very short, and its clock stands still."""

    def __init__(self, url: str, token: Token = None, position: str | None = None) -> None:
        self.shown: list[bytes] = []
        self.notes: list[str] = []
        self.now = 1000.0
        self.waits: list[float] = []
        self.client = Client(url, "u1", token, position, new_delays=lambda: delays(self._wait), clock=lambda: self.now)
        self.listener = Listener(self.client, show=self.shown.append, note=self.notes.append)

    def _wait(self, _: float, high: float) -> float:
        self.waits.append(high)
        return 0.001

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.shown]

    async def to_the_end(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.listener.follow()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.listener.follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def renewed(*tokens: str) -> Token:
    """A function that returns one token after the other, and then the last one."""
    left = list(tokens)

    async def token() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return token


class Stage:
    """A server that plays one script for each connection, and then closes with a final code."""

    def __init__(self, *scenes: Scene) -> None:
        self._scenes = list(scenes)
        self.requests: list[web.Request] = []

    async def play(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if len(self.requests) <= len(self._scenes):
            await self._scenes[len(self.requests) - 1](ws)
        if not ws.closed:
            await ws.close(code=STAY_AWAY.code, message=STAY_AWAY.reason.encode())
        return ws

    async def open(self, aiohttp_server: AiohttpServer) -> str:
        app = web.Application()
        app.router.add_get("/ws", self.play)
        return str((await aiohttp_server(app)).make_url("/ws"))


def closing(close: Close, *messages: str) -> Scene:
    async def scene(ws: web.WebSocketResponse) -> None:
        for message in messages:
            await ws.send_str(message)
        await ws.close(code=close.code, message=close.reason.encode())

    return scene


def connected(**fields: Any) -> str:
    return json.dumps({"type": "connected", "last_event_id": "k:0", **fields})


@pytest.mark.parametrize("close", [*CLOSES, Close(1000, ""), Close(1001, ""), Close(4321, "new"), Close(4600, "new")])
async def test_listen_reconnects_by_the_range_of_the_code(close: Close, aiohttp_server: AiohttpServer) -> None:
    stage = Stage(closing(close))
    following = Following(await stage.open(aiohttp_server), renewed("t"))
    await following.to_the_end()
    stays_away = close.code in (1002, 1003, 1007, 1008, 1009) or close.code >= 4500
    assert len(stage.requests) == (1 if stays_away else 2)
    assert following.notes[0].startswith(f"{close.code} {close.reason}".rstrip())
    assert ("Reconnecting " in following.notes[0]) is not stays_away


async def test_listen_reconnect_resumes_after_the_last_shown_message(aiohttp_server: AiohttpServer) -> None:
    stage = Stage(
        closing(INTERNAL, connected()),
        closing(INTERNAL, connected(), '{"type":"task_update","event":{},"id":"k:1"}', "no json", '{"type":"pong"}'),
        closing(INTERNAL, connected(recovered=True, last_event_id="k:1"), '{"type":"x_made_up_later","id":"k:2"}'),
    )
    following = Following(await stage.open(aiohttp_server))
    await following.to_the_end()
    assert [r.query.get("last_event_id") for r in stage.requests] == [None, "k:0", "k:1", "k:2"]
    assert {r.query["user_id"] for r in stage.requests} == {"u1"}
    assert following.client.position == "k:2"
    assert following.shown[3] == b"no json"


async def test_listen_starts_at_the_given_position(aiohttp_server: AiohttpServer) -> None:
    stage = Stage()
    await Following(await stage.open(aiohttp_server), position="k:7").to_the_end()
    assert stage.requests[0].query["last_event_id"] == "k:7"


async def test_listen_gap_is_noted_and_moves_the_position(aiohttp_server: AiohttpServer) -> None:
    not_recovered = connected(recovered=False, last_event_id="n:9")
    gap = '{"type":"gap","after":"k:1","last_event_id":"n:9","reason":"expired"}'
    stage = Stage(
        closing(INTERNAL, not_recovered), closing(INTERNAL, not_recovered, gap), closing(INTERNAL, '{"type":"gap"}')
    )
    following = Following(await stage.open(aiohttp_server), position="k:1")
    await following.to_the_end()
    assert [r.query["last_event_id"] for r in stage.requests] == ["k:1", "k:1", "n:9", "n:9"]
    assert following.notes[1] == (
        "gap (expired): the events after k:1 are lost; an application loads its state again here. "
        "Events continue from n:9"
    )
    assert following.notes[3].startswith("gap (): the events are lost")


async def test_listen_goodbye_delays_the_reconnect(aiohttp_server: AiohttpServer) -> None:
    goodbye = '{"type":"goodbye","code":1012,"reconnect":true,"reconnect_after_ms":80}'
    stage = Stage(closing(Close(1012, "shutdown"), connected(), goodbye))
    following = Following(await stage.open(aiohttp_server))
    loop = asyncio.get_running_loop()
    started = loop.time()
    await following.to_the_end()
    assert loop.time() - started >= 0.08
    assert following.notes[0].endswith("Reconnecting in 0.1 s")


async def test_listen_backoff_grows_until_a_stable_connection(aiohttp_server: AiohttpServer) -> None:
    async def stable(ws: web.WebSocketResponse) -> None:
        await ws.send_str(connected())
        await until(lambda: following.shown)
        following.now += STABLE
        await ws.close(code=1011)

    refused = closing(INTERNAL)
    stage = Stage(refused, refused, refused, stable, refused)
    following = Following(await stage.open(aiohttp_server))
    await following.to_the_end()
    assert following.waits == [0.5, 1, 2, 0.5, 1]


async def test_listen_refused_token_is_renewed_at_once_then_with_backoff(aiohttp_server: AiohttpServer) -> None:
    refused = closing(TOKEN_EXPIRED, connected())
    stage = Stage(refused, refused, refused)
    following = Following(await stage.open(aiohttp_server), renewed("first", "second", "third", "fourth"))
    await following.to_the_end()
    assert [r.headers["Authorization"] for r in stage.requests] == [
        "Bearer first",
        "Bearer second",
        "Bearer third",
        "Bearer fourth",
    ]
    assert all("token" not in r.query for r in stage.requests)
    assert following.notes[0].endswith("Reconnecting now with a new token")
    assert following.waits == [0.5, 1]


async def test_listen_slow_consumer_reconnects_at_once_then_with_backoff(aiohttp_server: AiohttpServer) -> None:
    refused = closing(SLOW_CONSUMER, connected())
    stage = Stage(refused, refused, refused)
    following = Following(await stage.open(aiohttp_server))
    await following.to_the_end()
    assert following.notes[0].endswith("Reconnecting now")
    assert following.waits == [0.5, 1]


async def test_client_whose_caller_gives_up_goes_on_waiting(aiohttp_server: AiohttpServer) -> None:
    goodbye = '{"type":"goodbye","code":1012,"reconnect":true,"reconnect_after_ms":60000}'
    stage = Stage(closing(Close(1012, "shutdown"), connected(), goodbye))
    following = Following(await stage.open(aiohttp_server))
    client = following.client
    async with client:
        assert [(await anext(client)).type for _ in range(2)] == ["connected", "goodbye"]
        while not following.notes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(client)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(client)
        assert len(stage.requests) == 1
        following.now += 60
        with pytest.raises(Ended):
            await anext(client)
    assert len(stage.requests) == 2


async def test_listen_given_token_is_not_retried(aiohttp_server: AiohttpServer) -> None:
    stage = Stage(closing(TOKEN_EXPIRED))
    following = Following(await stage.open(aiohttp_server), "t")
    await following.to_the_end()
    assert len(stage.requests) == 1
    assert following.notes == [explain(TOKEN_EXPIRED)]
    assert "see auth.failed" in explain(TOKEN_EXPIRED)


async def test_listen_broken_connection_reconnects(aiohttp_server: AiohttpServer) -> None:
    async def reset(ws: web.WebSocketResponse) -> None:
        transport = stage.requests[-1].transport
        assert transport is not None
        transport.abort()

    async def nonsense(ws: web.WebSocketResponse) -> None:
        transport = stage.requests[-1].transport
        assert transport is not None
        transport.write(b"\xff\xff\xff\xff")  # reserved bits
        await ws.receive()

    async def without_code(ws: web.WebSocketResponse) -> None:
        transport = stage.requests[-1].transport
        assert transport is not None
        transport.write(b"\x88\x00")
        await ws.receive()

    stage = Stage(reset, without_code, nonsense)
    following = Following(await stage.open(aiohttp_server))
    await following.to_the_end()
    assert [note.split(":")[0] for note in following.notes] == ["1006 lost", "1005", "1002"]
    assert len(stage.requests) == 3


async def test_listen_to_another_server_ends(bridge: Running) -> None:
    following = Following(f"{bridge.url}/nothing/here")
    await following.to_the_end()
    assert following.notes == [f"no WebSocket at {bridge.url}/nothing/here (HTTP status 404); check --url"]


async def test_listen_unreachable_server_is_noted_once_and_retried(
    aiohttp_server: AiohttpServer, unused_tcp_port: int
) -> None:
    statuses = iter((503, 503, 429))

    async def handle(request: web.Request) -> web.StreamResponse:
        status = next(statuses, None)
        return await Stage().play(request) if status is None else web.Response(status=status)

    following = Following(f"ws://127.0.0.1:{unused_tcp_port}/ws")
    async with following.running():
        await until(lambda: len(following.waits) >= 3)
        app = web.Application()
        app.router.add_get("/ws", handle)
        await aiohttp_server(app, port=unused_tcp_port)
        await until(lambda: len(following.notes) >= 4)
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws"
    assert following.notes[:3] == [
        f"cannot reach {url}: Connection refused. Retrying until it answers",
        f"cannot reach {url}: HTTP status 503. Retrying until it answers",
        f"cannot reach {url}: HTTP status 429. Retrying until it answers",
    ]
    assert following.notes[3].startswith("4509")


async def test_listen_prints_no_secret_of_its_url(unused_tcp_port: int) -> None:
    following = Following(f"ws://me:secret@127.0.0.1:{unused_tcp_port}/ws?token=a.b.c")
    async with following.running():
        await until(lambda: following.notes)
    assert following.notes[0].startswith(f"cannot reach ws://***@127.0.0.1:{unused_tcp_port}/ws?***: ")


async def test_listen_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.client.CONNECT_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts for it
        following = Following(f"ws://127.0.0.1:{server.getsockname()[1]}/ws")
        async with following.running():
            await until(lambda: following.notes)
    assert "no answer within 0.05 s" in following.notes[0]


async def test_listen_broken_output_raises(bridge: Running) -> None:
    def broken(_: bytes) -> None:
        raise BrokenPipeError

    listener = Listener(Client(f"{bridge.url}/ws", "u1"), show=broken, note=print)
    with pytest.raises(BrokenPipeError):
        await listener.follow()


async def test_listen_to_a_real_bridge_loses_nothing(bridge: Running) -> None:
    following = Following(f"{bridge.url}/ws")
    async with following.running():
        await until(lambda: following.shown)
        for number in range(20):
            await bridge.publish({"user_id": "u1", "n": number})
            if number % 5 == 4:
                for session in bridge.bridge.registry.of("u1"):
                    session.end(INTERNAL)
        await until(lambda: sum(m["type"] == "task_update" for m in following.messages) == 20)
        for session in bridge.bridge.registry.of("u1"):
            session.end(FORCE_DISCONNECT)
    assert [m["event"]["n"] for m in following.messages if m["type"] == "task_update"] == list(range(20))
    assert all(m["recovered"] for m in following.messages[1:] if m["type"] == "connected")
    assert following.client.position == following.messages[-1].get("id", following.client.position)


async def test_listen_with_a_minted_token_connects(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    settings = bridge.bridge.settings
    following = Following(f"{bridge.url}/ws", renewed(mint(settings, "u1", ttl=60)))
    async with following.running():
        await until(lambda: following.shown)
    assert following.messages[0]["user_id"] == "u1"
    refused = Following(f"{bridge.url}/ws")
    await refused.to_the_end()
    assert refused.notes == [
        "4401 token_missing: the server requires a token: give --token, or set WSBRIDGE_JWT_SECRET to make tokens"
    ]


async def test_listen_large_message_is_shown(start: Start) -> None:
    bridge = await start(MAX_EVENT_BYTES="8000000", MAX_BACKLOG_BYTES="20000000")
    following = Following(f"{bridge.url}/ws")
    async with following.running():
        await until(lambda: following.shown)
        await bridge.publish({"user_id": "u1", "title": "x" * 5_000_000})
        await until(lambda: len(following.shown) == 2)
    assert len(following.shown[1]) > 5_000_000


async def test_listen_cancelled_closes_with_1000(aiohttp_server: AiohttpServer) -> None:
    codes = []

    async def until_closed(ws: web.WebSocketResponse) -> None:
        await ws.send_str(connected())
        await ws.receive()
        codes.append(ws.close_code)

    following = Following(await Stage(until_closed).open(aiohttp_server))
    async with following.running():
        await until(lambda: following.shown)
    await until(lambda: codes)
    assert codes == [1000]


async def test_listen_cancelled_while_it_closes_aborts_the_connection(aiohttp_server: AiohttpServer) -> None:
    ended = asyncio.Event()

    async def without_an_answer_to_the_close(ws: web.WebSocketResponse) -> None:
        await ws.send_str(connected())
        await ended.wait()

    stage = Stage(without_an_answer_to_the_close)
    following = Following(await stage.open(aiohttp_server))
    task = asyncio.create_task(following.listener.follow())
    await until(lambda: following.shown)
    for _ in range(2):  # the first cancels recv(), the second close()
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: stage.requests[0].transport is None)
    ended.set()


@pytest.mark.fault("A7")
async def test_listen_with_tls_to_a_plain_port_says_so(bridge: Running) -> None:
    following = Following(f"wss://127.0.0.1:{bridge.port}/ws")
    async with following.running():
        await until(lambda: following.notes)
    assert "it does not speak TLS; use ws://" in following.notes[0]


async def test_client_position_moves_after_the_loop_has_finished_the_message(aiohttp_server: AiohttpServer) -> None:
    stage = Stage(closing(INTERNAL, connected(), '{"type":"task_update","event":{"n":1},"id":"k:1"}'))
    async with asyncio.timeout(DEADLINE), Client(await stage.open(aiohttp_server)) as client:
        seen = [(await anext(client), client.position)[1] for _ in range(2)]
        with pytest.raises(Ended, match="4509"):
            await anext(client)
    assert [*seen, client.position] == [None, "k:0", "k:1"]
    assert [r.query.get("last_event_id") for r in stage.requests] == [None, "k:1"]
    assert all("user_id" not in r.query for r in stage.requests)


async def test_client_that_is_left_closes_its_connection(bridge: Running) -> None:
    async with Client(f"{bridge.url}/ws", "u1") as client:
        assert (await anext(client)).type == "connected"
    await until(lambda: bridge.closes("1000") == 1)


async def test_client_as_in_the_guide_prints_events(bridge: Running, capsys: pytest.CaptureFixture[str]) -> None:
    section = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8").split("\n## Python\n")[1]
    code, _, last = section.split("```python\n")[1].split("```")[0].rpartition("asyncio.run")
    assert last == '(main("ws://localhost:8004/ws"))\n'
    names: dict[str, Any] = {}
    exec(code, names)
    task = asyncio.create_task(names["main"](f"{bridge.url}/ws"))
    await until(lambda: len(bridge.bridge.registry) == 1)
    await bridge.publish({"user_id": "alice", "n": 1})
    printed = ""

    def has_printed() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "'n': 1" in printed

    await until(has_printed)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_client_over_its_bound_says_what_to_do_and_resumes_with_a_larger_one(bridge: Running) -> None:
    url = f"{bridge.url}/ws"
    client = Client(url, "u1", max_message_bytes=1_000)
    async with asyncio.timeout(DEADLINE), client:
        await anext(client)
        await bridge.publish({"user_id": "u1", "n": 1})
        assert (await anext(client)).data["n"] == 1
        await bridge.publish({"user_id": "u1", "n": 2, "text": "x" * 1_000})
        with pytest.raises(Ended, match=r"the message after \w+:1 is larger than max_message_bytes \(1000\)") as ended:
            await anext(client)
    assert ended.value.cause is TOO_BIG
    async with asyncio.timeout(DEADLINE), Client(url, "u1", position=client.position) as larger:
        assert (await anext(larger)).recovered is True
        assert (await anext(larger)).data["n"] == 2


async def test_client_bounds_a_message_in_fragments() -> None:
    """A server that sends one message without an end does not fill the memory of its client."""

    async def endless(ws: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await ws.send("x" * 1_000 for _ in range(100_000))

    async with serve(endless, "127.0.0.1", 0) as server:
        following = Following(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws")
        following.client.max_message_bytes = 50_000
        await following.to_the_end()
    assert following.notes == [explain(TOO_BIG)]
    assert "set WSBRIDGE_MAX_EVENT_BYTES here" in following.notes[0]


async def test_client_does_not_take_the_close_of_a_server_for_its_own(aiohttp_server: AiohttpServer) -> None:
    following = Following(await Stage(closing(Close(1009, "max_message_bytes"))).open(aiohttp_server))
    with pytest.raises(Ended, match="1009") as ended:
        await anext(following.client)
    assert ended.value.cause is not TOO_BIG


@pytest.mark.parametrize(
    ("idle", "close", "is_noted"),
    [
        ([6.0, 6.2, 6.1, 6.1], LOST, True),
        ([6.0, 6.0], LOST, False),
        ([6.0, 6.0, 6.7], LOST, False),
        ([0.5, 0.5, 0.5], LOST, False),
        ([45.0, 45.0, 45.0], LOST, False),
        ([6.0, 6.0, 6.0], Close(1001, ""), True),
        ([6.0, 6.0, 6.0], Close(1012, "shutdown"), False),
    ],
)
async def test_listen_of_cuts_at_a_constant_interval_notes_an_idle_timeout_once(
    idle: list[float], close: Close, is_noted: bool, aiohttp_server: AiohttpServer
) -> None:
    def scene(number: int, seconds: float) -> Scene:
        async def cut(ws: web.WebSocketResponse) -> None:
            await ws.send_str(connected())
            await until(lambda: len(following.shown) == number)
            following.now += seconds
            if close is not LOST:
                await ws.close(code=close.code, message=close.reason.encode())
                return
            transport = stage.requests[-1].transport
            assert transport is not None
            transport.abort()

        return cut

    stage = Stage(*(scene(number, seconds) for number, seconds in enumerate(idle, 1)))
    following = Following(await stage.open(aiohttp_server))
    await following.to_the_end()
    noted = [note for note in following.notes if note.startswith("cut after")]
    assert len(noted) == is_noted
    if noted:
        assert "cut after 6." in noted[0]
        assert "s without a message, 3 times: probably a proxy ends idle connections" in noted[0]
