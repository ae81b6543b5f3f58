"""`wsbridge why` on the command line: its output and its exit codes."""

import asyncio
import json

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.command import finished
from tests.support.running import ADMIN_TOKEN, SECRET, Running, Start
from wsbridge.cli.http import Answer
from wsbridge.cli.options import Failed
from wsbridge.cli.why import ask, report


async def why(bridge: Running, *words: str, **settings: str) -> tuple[int, list[str], str]:
    code, out, notes = await finished("why", *words, "--url", bridge.url, **settings)
    return code, out.splitlines(), notes


async def test_why_of_a_delivered_event_prints_the_answer_then_the_stations(bridge: Running) -> None:
    await bridge.opened()
    await bridge.publish({"user_id": "u1"}, id="e1")
    code, (answer, *stations), notes = await why(bridge, "u1", "e1")
    assert (code, notes) == (0, "")
    assert answer.startswith("delivered to 1 of 1 connection ")
    assert [line.split()[1] for line in stations] == ["opened", "resumed", "received", "relayed", "written"]
    assert {line.split()[2] for line in stations} == {bridge.bridge.stations.replica}


async def test_why_of_an_unknown_event_with_json_prints_the_response_and_exits_with_1(bridge: Running) -> None:
    code, (line,), _ = await why(bridge, "u1", "e1", "--json")
    found = json.loads(line)
    assert (code, found["code"], found["event_id"]) == (1, "never_received", "e1")


@pytest.mark.parametrize("text", [".", "..", "%2e", "a/..", "a//b", "ü&user_id=u2#?", "a b+c"])
async def test_why_of_ids_that_url_parsers_change_finds_the_event(bridge: Running, text: str) -> None:
    await bridge.publish({"user_id": text}, id=text)
    code, (answer, *_), _ = await why(bridge, text, text)
    assert (code, answer.startswith("no connection when it arrived; in the history at ")) == (1, True)


async def test_why_of_an_id_that_is_stored_as_its_digest_finds_the_event(bridge: Running) -> None:
    event_id = "i" * 300
    await bridge.publish({"user_id": "u1"}, id=event_id)
    code, (answer, *_), _ = await why(bridge, "u1", event_id)
    assert (code, answer.startswith("no connection when it arrived; in the history at ")) == (1, True)
    async with bridge.http.get(
        f"{bridge.url}/console/payload", params={"user_id": "u1", "event_id": event_id}
    ) as response:
        assert (response.status, await response.json(content_type=None)) == (200, {"user_id": "u1"})


async def test_why_with_an_admin_token_sends_it(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    await bridge.publish({"user_id": "u1"}, id="e1")
    code, lines, notes = await why(bridge, "u1", "e1")
    assert (code, lines) == (1, [])
    assert "401: WSBRIDGE_ADMIN_TOKEN is not set in this shell: set it to the same value" in notes
    _, _, notes = await why(bridge, "u1", "e1", WSBRIDGE_ADMIN_TOKEN=ADMIN_TOKEN[::-1])
    assert "401: the bridge rejected the token: set WSBRIDGE_ADMIN_TOKEN" in notes
    code, (answer, *_), _ = await why(bridge, "u1", "e1", WSBRIDGE_ADMIN_TOKEN=ADMIN_TOKEN)
    assert answer.startswith("no connection when it arrived; ")


async def test_why_of_an_event_with_control_characters_prints_them_escaped(bridge: Running) -> None:
    await bridge.publish({"user": "u1"}, id="e\x1b[31m\n1")
    code, lines, _ = await why(bridge, "u1", "e\x1b[31m\n1")
    assert (code, len(lines)) == (1, 2)
    assert "\x1b" not in "".join(lines)


async def test_why_with_json_prints_control_characters_escaped(bridge: Running) -> None:
    """A terminal takes U+009B for the beginning of a command."""
    await bridge.publish({"user": "u1"}, id="e\x9b31m\u202e1")
    _, (line,), _ = await why(bridge, "u1", "e\x9b31m\u202e1", "--json")
    assert line.isascii()
    assert json.loads(line)["event_id"] == "e\x9b31m\u202e1"


async def test_why_without_a_bridge_prints_the_reason_and_exits_with_1(unused_tcp_port: int) -> None:
    code, out, notes = await finished("why", "u1", "e1", WSBRIDGE_PORT=str(unused_tcp_port))
    assert (code, out) == (1, "")
    assert f"cannot reach http://127.0.0.1:{unused_tcp_port}: Connection refused" in notes


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "no such route"), (429, "wait a second"), (403, "rejected the request"), (200, "check --url")],
)
async def test_ask_explains_a_response_without_an_answer(aiohttp_server: AiohttpServer, status: int, text: str) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    server = await aiohttp_server(app)
    with pytest.raises(Failed, match=text):
        await asyncio.to_thread(ask, str(server.make_url("")), "u1", "e1", token=None)


def test_report_makes_one_line_of_each_station() -> None:
    station = {"at": "12:00", "name": "closed", "replica": "r\u202e", "text": "a\nb"}
    body = json.dumps({"answer": "yes", "stations": [station]}).encode()
    assert report(Answer(200, body)).splitlines() == ["yes", "  12:00  closed    r\\u202e  a\\u000ab"]
