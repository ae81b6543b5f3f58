"""The command line as a process: its output and its exit code."""

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.support.command import Command, command, environment, finished
from tests.support.deliveries import cloud_event
from tests.support.running import DEADLINE, ROOT, Running, Start, closed, until
from wsbridge import __version__
from wsbridge.cli import main
from wsbridge.cli.options import BROKEN_PIPE, INTERRUPTED
from wsbridge.config.settings import HELP

SECRET = "0123456789abcdef0123456789abcdef"


def url_of(bridge: Running) -> str:
    return f"ws://127.0.0.1:{bridge.port}/ws"


@asynccontextmanager
async def served(**settings: str) -> AsyncIterator[tuple[Command, int]]:
    """A bridge in its own process, and its port. Once it answers, its signal handlers are set."""
    async with command("serve", stdout=None, **{"WSBRIDGE_PORT": "0", **settings}) as bridge:
        (port,) = json.loads(await bridge.line_with("server.started"))["ports"]
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
        yield bridge, port


async def connect(http: aiohttp.ClientSession, port: int) -> aiohttp.ClientWebSocketResponse:
    ws = await http.ws_connect(f"http://127.0.0.1:{port}/ws?user_id=u1")
    await ws.receive()
    return ws


# ---- options and help


EXAMPLES = [
    (name, line.strip())
    for name, shown in main.cli.commands.items()
    for line in str(shown.epilog).splitlines()
    if re.match(rf"  (\S+=\S+ )*wsbridge {name}\b", line)
]


DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "examples", "charts") for path in (ROOT / folder).rglob("*.md")),
]
SHELL = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:\.venv/bin/)?wsbridge (\w.*)$", re.MULTILINE)
OFFERED = [
    (path.name, line)
    for path in DOCUMENTS
    for block in SHELL.findall(path.read_text(encoding="utf-8"))
    for line in TYPED.findall(block.replace("\\\n", " "))
]


def run_and_read(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, the output and the notes of a command that only parses its options."""
    return main.run(words, {}), *capsys.readouterr()


def test_run_without_words_shows_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_and_read(capsys)
    assert code == 0
    assert all(f"\n  {name} " in out for name in main.cli.commands)


@pytest.mark.parametrize("name", main.cli.commands)
def test_help_of_each_command_has_examples_and_fits_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_and_read(capsys, name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: wsbridge {name}")
    assert f"Examples:\n    wsbridge {name}" in out
    assert max(len(line) for line in out.splitlines() if not re.match("[A-Z]+_", line)) <= 82


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_help_example_can_be_typed(name: str, line: str) -> None:
    words = shlex.split(re.sub(r"\$\(.*?\)", "a.b.c", line).partition(" | ")[0])
    main.cli.commands[name].make_context(name, words[words.index(name) + 1 :])


@pytest.mark.parametrize(("document", "line"), OFFERED)
def test_command_in_a_document_can_be_typed(document: str, line: str) -> None:
    name, *words = shlex.split(line.partition(" | ")[0].removesuffix("&"), comments=True)
    main.cli.commands[name].make_context(name, words)


def test_help_of_the_group_has_examples_of_the_commands() -> None:
    lines = [line.strip() for line in str(main.cli.epilog).splitlines() if line.startswith("  wsbridge ")]
    assert set(lines) <= {line for _, line in EXAMPLES}
    assert {name for name, _ in EXAMPLES} == set(main.cli.commands)


def test_help_of_serve_lists_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_and_read(capsys, "serve", "--help")
    assert all(name in out for name in HELP)


def test_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_and_read(capsys, "--version") == (0, f"wsbridge {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["liste"], "No such command 'liste'. Did you mean 'listen'?"),
        (["listen"], "Missing option '--user'"),
        (["listen", "--us", "u1"], "No such option '--us'."),
        (["listen", "--user", ""], "'--user': expected a user id"),
        (["listen", "--user", "u1", "--token", "a b"], "'--token': expected a token"),
        (["listen", "--user", "u1", "--url", "ws://"], "'--url': expected a URL such as ws://127.0.0.1:8004/ws"),
        (["publish", "task.created"], "Missing option '--user'"),
        (["publish", "--user", "u1"], "Missing argument 'TYPE'"),
        (["publish", "--user", "u1", "x", "title"], "'[KEY=TEXT]...': expected key=text or key:=json, got 'title'"),
        (["publish", "--user", "u1", "x", "--dapr=nowhere"], "'--dapr': expected a URL such as http://127.0.0.1:3500"),
        (["publish", "--user", "u1", "x", "a=\udcff"], "expected UTF-8, got 'a=\\udcff'"),
        (["token", "--user", "u1", "--ttl", "1h"], "'--ttl': expected a whole number of seconds, 1 or more, got '1h'"),
        (["serve", "now"], "Got unexpected extra argument (now)"),
    ],
)
def test_run_with_a_mistake_names_it_and_exits_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, notes = run_and_read(capsys, *words)
    assert code == 2
    assert said in notes


@pytest.mark.parametrize(
    ("words", "dapr"),
    [
        (["x"], None),
        (["--dapr", "x", "a=b"], "http://127.0.0.1:3500"),
        (["x", "a=b", "--dapr"], "http://127.0.0.1:3500"),
        (["x", "--dapr", "http://h:1", "a=b"], "http://h:1"),
        (["--dapr=http://h:1", "x", "a=b"], "http://h:1"),
    ],
)
def test_publish_dapr_without_a_url_means_the_default(words: list[str], dapr: str | None) -> None:
    options = main.cli.commands["publish"].make_context("publish", ["--user", "u1", *words, "--user", "u2"]).params
    assert (options["event_type"], options["users"], options["dapr"]) == ("x", ("u1", "u2"), dapr)
    assert options["values"] in ((), (("a", "b"),))


def test_start_imports_nothing_slow() -> None:
    heavy = {"aiohttp", "structlog", "jwt", "prometheus_client", "asyncio", "cryptography", "redis", "difflib", "ssl"}
    code = f"import sys, wsbridge.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# ---- listen


async def test_listen_in_a_pipe_prints_each_message_verbatim(bridge: Running) -> None:
    async with command("listen", "--user", "u1", "--url", url_of(bridge)) as listen:
        hello = json.loads(await listen.line())
        assert hello["type"] == "connected"
        data = b'{"user_id":"u1",  "z":1,"a":12345678901234567890.10,"t":"\xc3\xbc\\u00fc"}'
        await bridge.post(data, "application/json")
        line = await listen.line()
        assert b'{"type":"task_update","event":' + data + b"," in line.encode()
        assert line.endswith(f'"id":"{hello["last_event_id"].split(":")[0]}:1"}}\n')


async def test_listen_reconnects_to_a_restarted_server() -> None:
    async with command("listen", "--user", "u1", "--url", "ws://127.0.0.1:1/ws") as nowhere:
        assert "cannot reach ws://127.0.0.1:1/ws: Connection refused" in await nowhere.note()
    async with (
        served(WSBRIDGE_DRAIN_TIMEOUT="0.1") as (first, port),
        command("listen", "--user", "u1", "--url", f"http://127.0.0.1:{port}") as listen,
    ):
        before = json.loads(await listen.line())["last_event_id"]
        first.send(signal.SIGTERM)
        assert json.loads(await listen.line())["type"] == "goodbye"
        assert (await listen.note()).startswith("wsbridge: 1012 shutdown: the server is shutting down")
        assert await first.ended() == 0
        async with served(WSBRIDGE_PORT=str(port)):
            again = json.loads(await listen.line())
            assert again["recovered"] is False
            gap = json.loads(await listen.line())
            assert (gap["type"], gap["after"]) == ("gap", before)
            while "gap (reset)" not in (note := await listen.note()):
                assert "cannot reach" in note


async def test_listen_final_close_is_explained(bridge: Running) -> None:
    async with command("listen", "--user", "u1", "--url", url_of(bridge)) as listen:
        position = json.loads(await listen.line())["last_event_id"]
        async with bridge.http.post(f"{bridge.url}/users/u1/disconnect") as answer:
            assert answer.status == 202
        assert await listen.note() == "wsbridge: 4509 force_disconnect: an operator ended this session\n"
        assert await listen.note() == f"wsbridge: to resume here: --last-event-id {position}\n"
        assert await listen.ended() == 1


async def test_listen_with_tokens(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    words = ("listen", "--user", "u1", "--url", url_of(bridge))
    async with command(*words, WSBRIDGE_JWT_SECRET=SECRET) as listen:
        assert json.loads(await listen.line())["user_id"] == "u1"
    code, out, notes = await finished(*words)
    assert (code, out) == (1, "")
    assert notes.startswith("wsbridge: 4401 token_missing: the server requires a token")
    code, _, notes = await finished(*words, "--token", "a.b.c", WSBRIDGE_JWT_SECRET=SECRET)
    assert code == 1
    assert notes.startswith("wsbridge: 4401 token_invalid: the server does not accept the token")


async def test_listen_without_a_reader_ends_at_once(bridge: Running) -> None:
    read, write = os.pipe()
    try:
        async with command("listen", "--user", "u1", "--url", url_of(bridge), stdout=write) as listen:
            os.close(write)
            await until(lambda: len(bridge.bridge.registry) == 1)
            os.close(read)
            assert await listen.ended() == BROKEN_PIPE
            assert await listen.note() == ""
    finally:
        await until(lambda: len(bridge.bridge.registry) == 0)


async def test_listen_ends_at_ctrl_c_without_a_traceback(bridge: Running) -> None:
    async with command("listen", "--user", "u1", "--url", url_of(bridge)) as listen:
        await listen.line()
        listen.send(signal.SIGINT)
        assert await listen.ended() == INTERRUPTED
        assert (await listen.note()).startswith("wsbridge: to resume here: --last-event-id ")
        assert await listen.note() == ""


async def test_listen_on_a_terminal_shows_text_in_colour(bridge: Running) -> None:
    read, write = pty.openpty()
    words = ("listen", "--user", "u1", "--url", url_of(bridge))
    async with command(*words, stdout=write, TERM="xterm") as listen:
        os.close(write)
        await until(lambda: len(bridge.bridge.registry) == 1)
        await bridge.publish({"user_id": "u1", "event_type": "task.created", "title": "\x1b[2Jmilk\r\n", "n": "last"})
        shown = ""
        async with asyncio.timeout(DEADLINE):
            while '"last"' not in shown:
                shown += (await asyncio.to_thread(os.read, read, 9999)).decode()
        listen.send(signal.SIGINT)
        assert await listen.ended() == INTERRUPTED
    os.close(read)
    assert "\x1b[1mtask.created\x1b[0m" in shown
    assert '"\\u001b[2Jmilk\\r\\n"' in shown
    assert "\x1b[2J" not in shown


# ---- the others


async def test_publish_and_its_exit_codes(bridge: Running, unused_tcp_port: int) -> None:
    words = ("publish", "--user", "u1", "task.created", "title=Buy milk", "--url")
    note = "wsbridge: u1 has no connection to this replica now; the event is in the history\n"
    assert await finished(*words, bridge.url) == (0, "SUCCESS\n", note)
    code, out, notes = await finished(*words, f"http://127.0.0.1:{unused_tcp_port}")
    assert (code, out) == (1, "")
    assert notes.count("\n") == 1
    code, out, notes = await finished(*words, bridge.url, "--topic", "none")
    assert (code, out) == (1, "")
    assert notes.startswith("wsbridge: 404: ")


async def test_check_and_its_exit_codes() -> None:
    code, out, notes = await finished("check", WSBRIDGE_JWT_SECRET=SECRET, WSBRIDGE_PROT="1")
    assert code == 2
    mistake, *warnings = notes.splitlines()
    assert mistake == "wsbridge: WSBRIDGE_PROT: no such setting; did you mean WSBRIDGE_PORT?"
    assert all(line.startswith("wsbridge: warning: ") for line in warnings)
    assert SECRET not in out + notes
    assert (await finished("check"))[0] == 0


async def test_healthcheck_and_its_exit_codes(bridge: Running, unused_tcp_port: int) -> None:
    assert await finished("healthcheck", WSBRIDGE_PORT=str(bridge.port)) == (0, "healthy\n", "")
    assert (await finished("healthcheck", WSBRIDGE_PORT=str(unused_tcp_port)))[0] == 1


async def test_output_without_a_reader_gives_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    for words in (["--help"], ["check"]):
        async with command(*words, stdout=write) as run:
            assert await run.ended() == BROKEN_PIPE
            assert await run.note() == ""
    os.close(write)


# ---- serve


async def test_serve_names_every_mistake() -> None:
    code, out, notes = await finished("serve", WSBRIDGE_PORT="tcp://10.0.0.1:8004", WSBRIDGE_TOPICS="")
    assert (code, out) == (2, "")
    assert notes.startswith("wsbridge: WSBRIDGE_PORT: expected a whole number")
    assert "enableServiceLinks: false" in notes


async def test_serve_on_a_console_prints_commands_with_its_first_topic() -> None:
    """The other terminal, in which they are typed, does not have the setting."""
    settings = {"WSBRIDGE_TOPICS": "orders=order_update,task-updates=task_update", "WSBRIDGE_LOG_FORMAT": "console"}
    async with command("serve", stdout=None, WSBRIDGE_PORT="0", **settings) as bridge:
        assert "title='Buy milk' --topic orders --url http://127.0.0.1:" in await bridge.line_with("wsbridge publish ")
        assert "/events/orders -H" in await bridge.line_with("curl http")


async def test_serve_on_a_taken_port_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, notes = await finished("serve", WSBRIDGE_PORT=str(port))
        assert code == 2
        assert notes == (
            f"wsbridge: cannot listen on 127.0.0.1:{port}: Address already in use; "
            "stop the process that listens there, or set WSBRIDGE_PORT to another port\n"
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_signal_ends_with_0(number: signal.Signals) -> None:
    async with served(WSBRIDGE_DRAIN_TIMEOUT="0.1") as (bridge, port), aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}/events/task-updates"
        async with http.post(url, json=cloud_event({"user_id": "u1"})) as answer:
            assert await answer.json() == {"status": "SUCCESS"}
        bridge.send(number)
        await bridge.line_with("server.stopped")
        assert await bridge.ended() == 0
        assert await bridge.note() == ""


async def test_serve_second_signal_ends_the_drain() -> None:
    async with served(WSBRIDGE_DRAIN_TIMEOUT="3600") as (bridge, port), aiohttp.ClientSession() as http:
        leaving = asyncio.create_task(closed(await connect(http, port)))
        bridge.send(signal.SIGTERM)
        await bridge.line_with("drain.started")
        bridge.send(signal.SIGTERM)
        await bridge.line_with("server.stopped")
        assert await bridge.ended() == 0
        assert await leaving == (1012, "shutdown")
