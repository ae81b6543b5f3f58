"""`wsbridge top` against a bridge: in a pipe, on a terminal, and where it cannot work."""

import asyncio
import os
import pty
import re
import signal
import sys
import time

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.command import command, finished
from tests.support.running import ADMIN_TOKEN, SECRET, Running, Start
from wsbridge.cli.main import run

VIEWER = "v" * 32


async def test_top_in_a_pipe_prints_the_numbers_once(bridge: Running) -> None:
    await bridge.opened()
    await bridge.publish({"nobody": "u1"}, id="e1")
    code, out, notes = await finished("top", "--url", bridge.url)
    assert (code, notes) == (0, "")
    head, _, row, *rest = [line for line in out.splitlines() if line.strip()]
    assert head.split()[:5] == ["replica", "state", "up", "connections", "users"]
    words = row.split()
    assert (words[:2], words[4:6]) == ([bridge.bridge.stations.replica, "healthy"], ["1", "1"])
    assert rest == ["not stored  dropped 1", "why         no_user 1"]


async def test_top_explains_closes_whose_name_does_not(bridge: Running) -> None:
    for count, close in enumerate((("1006", "lost"), ("4401", "token_missing")), 1):
        bridge.bridge.metrics.closes[close] += count
    _, out, _ = await finished("top", "--url", bridge.url)
    assert out.splitlines()[-2:] == [
        "closed      4401 token_missing 2, 1006 lost 1",
        "            1006 lost: no close frame came: the network or a proxy cut the connection, or the client crashed",
    ]


async def test_top_tells_of_lost_histories_and_explains_refusals(bridge: Running) -> None:
    metrics = bridge.bridge.metrics
    metrics.losses, metrics.lost_at = 1, time.time() - 7_200
    metrics.closes["4401", "token_invalid"] += 1
    metrics.failed("auth")
    metrics.failed("denied")
    _, out, _ = await finished("top", "--url", bridge.url)
    lost, closed, closed_text, errors, auth, denied = out.splitlines()[-6:]
    assert lost == "lost        histories 1, 2 h ago: clients got gaps. wsbridge doctor looks for the cause"
    assert closed == "closed      4401 token_invalid 1"
    assert closed_text.startswith("            4401 token_invalid: the bridge refused the client's token: ")
    assert errors == "errors      auth 1, denied 1"
    assert (auth.split(":")[0].strip(), denied.split(":")[0].strip()) == ("auth", "denied")


async def test_top_sends_the_token_of_an_operator_or_a_viewer(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER)
    code, out, notes = await finished("top", "--url", bridge.url)
    assert (code, out) == (1, "")
    assert "401: WSBRIDGE_ADMIN_TOKEN is not set in this shell: set it to the same value" in notes
    for token in (VIEWER, ADMIN_TOKEN):
        code, out, _ = await finished("top", "--url", bridge.url, WSBRIDGE_ADMIN_TOKEN=token)
        assert (code, "healthy" in out) == (0, True)
        assert re.search(r"sidecar: ok, but no sidecar seen yet \(started \d+ s ago\)", out), out


@pytest.mark.parametrize("line", ["hello \x1b[31m", "[]", '{"type": "numbers"}', '{"type": "replicas"}', "[" * 100_000])
@pytest.mark.parametrize("command", [["top", "--once"], ["why", "u1", "e1"]])
async def test_command_with_an_answer_of_another_form_prints_one_line(
    aiohttp_server: AiohttpServer, line: str, command: list[str]
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=line + "\n")

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    server = await aiohttp_server(app)
    code, out, notes = await finished(*command, "--url", str(server.make_url("")).rstrip("/"))
    assert (code, out, notes) == (1, "", "wsbridge: 200: unexpected response; check --url\n")


async def test_top_without_a_bridge_prints_the_reason_and_exits_with_1(unused_tcp_port: int) -> None:
    code, out, notes = await finished("top", "--once", WSBRIDGE_PORT=str(unused_tcp_port))
    assert (code, out) == (1, "")
    assert f"cannot reach http://127.0.0.1:{unused_tcp_port}" in notes
    assert "Connection refused" in notes


async def test_top_on_a_terminal_draws_until_it_is_interrupted(bridge: Running) -> None:
    reading, writing = pty.openpty()
    try:
        async with command("top", "--url", bridge.url, stdout=writing, TERM="xterm", COLUMNS="150", LINES="20") as top:
            os.close(writing)
            screen = b""
            while screen.count(b"healthy") < 2:  # drawn twice
                screen += await asyncio.to_thread(os.read, reading, 65_536)
            top.send(signal.SIGINT)
            assert await top.ended() == 130
    finally:
        os.close(reading)


def test_top_without_rich_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    for name in [name for name in sys.modules if name.startswith(("rich.", "wsbridge.cli.top.screen"))]:
        monkeypatch.delitem(sys.modules, name)
    assert run(["top"], {}) == 1
    assert f"rich is not installed: {sys.executable} -m pip install rich" in capsys.readouterr().err
