"""Output and exit codes of the commands, in this process."""

import asyncio
import json
import re
import time
from pathlib import Path

import jwt
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.running import Running, Start, receive, until
from wsbridge.cli.main import run

SECRET = "0123456789abcdef0123456789abcdef"


async def running(*words: str, **environ: str) -> int:
    """Run a command in a thread: the bridge that it calls may run in this loop."""
    return await asyncio.to_thread(run, words, environ)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> "Said":
    return Said(capsys)


class Said:
    """Output of a command since the last call, without the log lines of a bridge in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def out(self) -> list[str]:
        return self._split()[0]

    def notes(self) -> list[str]:
        return self._split()[1]

    def _split(self) -> tuple[list[str], list[str]]:
        out, err = self._capsys.readouterr()
        return [line for line in out.splitlines() if not re.match(r"\d{4}-", line)], err.splitlines()


def test_token_prints_only_the_token(said: Said) -> None:
    environ = {"WSBRIDGE_JWT_SECRET": SECRET, "WSBRIDGE_JWT_AUDIENCE": "us", "WSBRIDGE_JWT_USER_CLAIM": "uid"}
    assert run(["token", "--user", "u1", "--ttl", "60"], environ) == 0
    (token,) = said.out()
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="us")
    assert claims["uid"] == "u1"
    assert claims["exp"] == pytest.approx(time.time() + 60, abs=5)


def test_token_algorithm_defaults_to_the_first_allowed(said: Said) -> None:
    environ = {"WSBRIDGE_JWT_SECRET": SECRET * 2, "WSBRIDGE_JWT_ALGORITHMS": "HS512,HS256"}
    for words, algorithm in (([], "HS512"), (["--algorithm", "HS256"], "HS256")):
        assert run(["token", "--user", "u1", *words], environ) == 0
        assert jwt.get_unverified_header(said.out()[0])["alg"] == algorithm


@pytest.mark.parametrize(
    ("environ", "words", "line"),
    [
        ({}, [], "wsbridge: WSBRIDGE_JWT_SECRET (or WSBRIDGE_JWT_SECRET_FILE) is not set"),
        ({"WSBRIDGE_JWT_SECRET": SECRET}, ["--algorithm", "RS256"], "wsbridge: --algorithm: expected one of HS256"),
        ({"WSBRIDGE_PORT": "x", "WSBRIDGE_TOPICS": "x"}, [], "wsbridge: WSBRIDGE_PORT: expected a whole number"),
    ],
)
def test_token_without_a_usable_key_is_refused(
    said: Said, environ: dict[str, str], words: list[str], line: str
) -> None:
    assert run(["token", "--user", "u1", *words], environ) == 2
    assert said.notes()[0].startswith(line)


def test_check_prints_settings_and_mistakes(said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    sound = {"WSBRIDGE_JWT_SECRET": SECRET, "APP_API_TOKEN": "t" * 16, "WSBRIDGE_INTERNAL_PORT": "8005"}
    assert run(["check"], sound) == 0
    out, err = capsys.readouterr()
    assert "***" in out
    assert SECRET not in out
    assert err == ""
    assert run(["check"], sound | {"APP_API_TOKEN": ""}) == 0
    (weak,) = said.notes()
    assert weak.startswith("wsbridge: warning: APP_API_TOKEN is not set")
    assert run(["check"], {"WSBRIDGE_PORT": "0x1\x1b[2J", "WSBRIDGE_PROT": "1"}) == 2
    port, unknown = said.notes()
    assert port == "wsbridge: WSBRIDGE_PORT: expected a whole number from 0 to 65535, got '0x1\\x1b[2J'"
    assert unknown == "wsbridge: WSBRIDGE_PROT: no such setting; did you mean WSBRIDGE_PORT?"


async def test_publish_finds_the_bridge_of_the_settings(bridge: Running, said: Said) -> None:
    tab, _ = await bridge.opened("u1")
    words = ("publish", "task.created", "--user", "u1", "title=Buy milk", "done:=false", "--id", "7")
    assert await running(*words, WSBRIDGE_HOST="0.0.0.0", WSBRIDGE_AUTH="none", WSBRIDGE_PORT=str(bridge.port)) == 0
    assert said.out() == ["SUCCESS"]
    event = (await receive(tab))["event"]
    assert {"title": "Buy milk", "done": False}.items() <= event.items()


async def test_publish_takes_the_internal_port_and_the_app_token(start: Start, said: Said) -> None:
    bridge = await start(INTERNAL_PORT="0", APP_API_TOKEN="t" * 16)
    ports = {"WSBRIDGE_PORT": str(bridge.server.ports[0]), "WSBRIDGE_INTERNAL_PORT": str(bridge.server.ports[1])}
    assert await running("publish", "--user", "u1", "x", **ports, APP_API_TOKEN="t" * 16) == 0
    assert said.notes()[0].startswith("wsbridge: u1 has no connection")
    assert await running("publish", "--user", "u1", "x", **ports) == 1
    assert said.notes()[0].startswith("wsbridge: 401: ")
    assert await running("publish", "--user", "u1", "x", "--url", bridge.url, APP_API_TOKEN="t" * 16) == 1
    assert said.notes()[0].startswith("wsbridge: 404: ")


async def sidecar(aiohttp_server: AiohttpServer, pubsub: str) -> tuple[str, list[str | None]]:
    """The URL of a stand-in that accepts every event for that component, and the tokens that it gets."""
    tokens = []

    async def handle(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("dapr-api-token"))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post(f"/v1.0/publish/{pubsub}/task-updates", handle)
    return str((await aiohttp_server(app)).make_url("")), tokens


async def test_publish_through_a_sidecar(aiohttp_server: AiohttpServer, said: Said) -> None:
    url, tokens = await sidecar(aiohttp_server, "pubsub-2")
    for words in (["--dapr", url, "task.created", "a=b"], ["task.created", "a=b", "--dapr", url]):
        assert await running("publish", "--user", "u1", "--pubsub", "pubsub-2", *words, DAPR_API_TOKEN="api") == 0
        assert said.out() == ["204"]
    assert await running("publish", "--user", "u1", "x", "--dapr", url) == 1
    assert tokens == ["api", "api"]
    assert said.notes()[0].startswith("wsbridge: 404: the sidecar does not know")


async def test_publish_through_a_sidecar_reads_the_token_as_the_bridge_does(
    aiohttp_server: AiohttpServer, said: Said, tmp_path: Path
) -> None:
    url, tokens = await sidecar(aiohttp_server, "pubsub-kafka")
    words = ("publish", "--user", "u1", "x", "--dapr", url)
    file = tmp_path / "token"
    file.write_text("from a file\n")
    assert await running(*words, DAPR_API_TOKEN_FILE=str(file)) == 0
    assert await running(*words, DAPR_API_TOKEN="with a line end\n") == 0
    assert tokens == ["from a file", "with a line end"]
    assert await running(*words, DAPR_API_TOKEN="of two\nlines") == 1
    assert said.notes() == ["wsbridge: a token has a line end or another control character in it; write it in one line"]
    assert await running(*words, DAPR_API_TOKEN_FILE=str(tmp_path / "nowhere")) == 2
    assert said.notes()[0].startswith("wsbridge: DAPR_API_TOKEN_FILE: cannot read ")


@pytest.mark.parametrize(("field", "pair"), [("uid", "uid=bob"), ("meta.user", "meta:={}"), ("user_id", "user_id=bob")])
async def test_publish_data_cannot_replace_the_user(said: Said, field: str, pair: str) -> None:
    words = ("publish", "--user", "alice", "x", pair)
    assert await running(*words, WSBRIDGE_USER_ID_FIELD=field) == 2
    name = field.partition(".")[0]
    expected = f"Error: {name} is set by --user, because WSBRIDGE_USER_ID_FIELD is {field}; leave it out"
    assert said.notes()[-1] == expected


async def test_publish_data_may_have_a_user_id_beside_the_user(bridge: Running, said: Said) -> None:
    words = ("publish", "--user", "alice", "x", "user_id=bob", "--url", bridge.url)
    assert await running(*words, WSBRIDGE_USER_ID_FIELD="@subject") == 0
    assert said.out() == ["SUCCESS"]


async def test_publish_on_a_closed_port_reports_it(unused_tcp_port: int, said: Said) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    for option, what in (("--url", "bridge"), ("--dapr", "sidecar")):
        assert await running("publish", "--user", "u1", "x", option, url) == 1
        assert said.notes() == [f"wsbridge: cannot reach {url}: Connection refused. Is the {what} running there?"]


async def test_healthcheck_prints_the_status(start: Start, said: Said, unused_tcp_port: int) -> None:
    bridge = await start()
    assert await running("healthcheck", WSBRIDGE_PORT=str(bridge.port)) == 0
    assert await running("healthcheck", "--url", bridge.url) == 0
    assert said.out() == ["healthy", "healthy"]
    bridge.bridge.admission.draining = True
    assert await running("healthcheck", "--url", bridge.url) == 1
    assert said.notes() == [f"wsbridge: {bridge.url}/health answers 503 (unavailable)"]
    assert await running("healthcheck", "--url", f"{bridge.url}/nothing") == 1
    assert said.notes() == [f"wsbridge: {bridge.url}/nothing answers 404 (404)"]
    assert await running("healthcheck", "--url", f"{bridge.url}/stats") == 1
    assert said.notes() == [f"wsbridge: {bridge.url}/stats answers 200, but not as a bridge does: check --url"]
    url = f"http://127.0.0.1:{unused_tcp_port}/health"
    assert await running("healthcheck", WSBRIDGE_PORT=str(unused_tcp_port)) == 1
    assert said.notes() == [f"wsbridge: cannot reach {url}: Connection refused. Is the bridge running there?"]


async def test_healthcheck_prints_control_characters_escaped(aiohttp_server: AiohttpServer, said: Said) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response({"status": "\x1b[31m\n"}, status=503)

    app = web.Application()
    app.router.add_get("/health", handle)
    server = await aiohttp_server(app)
    assert await running("healthcheck", "--url", str(server.make_url("/"))) == 1
    assert said.notes()[0].endswith("/health answers 503 (\\u001b[31m\\u000a)")


async def test_healthcheck_of_another_server_fails(aiohttp_server: AiohttpServer, said: Said) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=500, text="<html>")

    app = web.Application()
    app.router.add_get("/health", handle)
    server = await aiohttp_server(app)
    assert await running("healthcheck", "--url", str(server.make_url("/"))) == 1
    assert said.notes()[0].endswith("/health answers 500 (no status)")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("::", "[::1]:9"),
        ("[::]", "[::1]:9"),
        ("::1", "[::1]:9"),
        ("localhost", "localhost:9"),
        ("127.0.0.2", "127.0.0.2:9"),
    ],
)
def test_healthcheck_address_follows_the_host(
    said: Said, host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def send(url: str, **_: object) -> object:
        from wsbridge.cli.http import Answer  # noqa: PLC0415 - as the command does

        asked.append(url)
        return Answer(200, b'{"status":"degraded"}')

    monkeypatch.setattr("wsbridge.cli.http.send", send)
    environ = {"WSBRIDGE_HOST": host, "WSBRIDGE_PORT": "9", "WSBRIDGE_AUTH": "none"}
    assert run(["healthcheck"], environ) == 0
    assert asked == [f"http://{address}/health"]
    assert said.out() == ["degraded"]


def test_commands_with_port_0_require_url(said: Said) -> None:
    for words in (["healthcheck"], ["listen", "--user", "u1"], ["publish", "--user", "u1", "x"]):
        assert run(words, {"WSBRIDGE_PORT": "0"}) == 2
        assert "--url" in said.notes()[0]


def test_commands_ignore_mistakes_in_unneeded_settings(unused_tcp_port: int, said: Said) -> None:
    bad = {"WSBRIDGE_PORT": "x"}
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert run(["healthcheck", "--url", url], bad) == 1
    assert run(["publish", "--user", "u1", "x", "--dapr", url], bad) == 1
    assert run(["publish", "--user", "u1", "x", "--url", url], bad) == 2
    assert json.dumps(said.notes()[-1]).startswith('"wsbridge: WSBRIDGE_PORT: expected')


async def test_listen_prints_messages_until_a_final_close(bridge: Running, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"ws://127.0.0.1:{bridge.port}"
    listening = asyncio.create_task(running("listen", "--user", "u1", "--url", url, "--token", "a.b.c"))
    await until(lambda: len(bridge.bridge.registry) == 1)
    await bridge.publish({"user_id": "u1"})
    bridge.bridge.registry.disconnect("u1")
    assert await listening == 1
    out, err = capfd.readouterr()
    types = re.findall(r'\{"type":"(\w+)"', out)  # perhaps behind a log line of the bridge that has no end yet
    assert types == ["connected", "task_update", "goodbye"]
    unchecked, explained, position = err.splitlines()
    assert unchecked == "wsbridge: this bridge does not check tokens: --token had no effect"
    assert explained.startswith("wsbridge: 4509 force_disconnect: ")
    assert position.startswith("wsbridge: to resume here: --last-event-id ")


@pytest.mark.fault("A7")
async def test_publish_follows_the_settings_and_prints_the_number_of_connections(start: Start, said: Said) -> None:
    bridge = await start(USER_ID_FIELD="owner.id", TOPICS="notes=note", ADMIN_TOKEN="operator-" * 4)
    tabs = [await bridge.opened("u1") for _ in range(2)]
    environ = {"WSBRIDGE_PORT": str(bridge.port), "WSBRIDGE_USER_ID_FIELD": "owner.id", "WSBRIDGE_TOPICS": "notes=note"}
    words = ("publish", "note.made", "--user", "u1", "--user", "u2")
    assert await running(*words, **environ, WSBRIDGE_ADMIN_TOKEN="operator-" * 4) == 0
    assert said.notes() == [
        "wsbridge: u1 has 2 connections to this replica",
        "wsbridge: u2 has no connection to this replica now; the event is in the history",
    ]
    for tab, _ in tabs:
        assert (await receive(tab))["type"] == "note"
    assert await running(*words[:-2], **environ) == 0
    assert said.notes() == [
        "wsbridge: to see whether u1 is connected, set WSBRIDGE_ADMIN_TOKEN to the same value as the bridge's"
    ]


@pytest.mark.fault("A7")
async def test_publish_through_a_sidecar_takes_component_and_topic_of_the_settings(
    aiohttp_server: AiohttpServer, said: Said
) -> None:
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append((request.path_qs, (await request.json())["data"]))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/{tail:.*}", handle)
    url = str((await aiohttp_server(app)).make_url(""))
    environ = {"WSBRIDGE_PUBSUB_NAME": "bus", "WSBRIDGE_TOPICS": "notes=note", "WSBRIDGE_USER_ID_FIELD": "@key"}
    assert await running("publish", "--user", "u1", "x", "timestamp=t", "--dapr", url, **environ) == 0
    assert asked == [("/v1.0/publish/bus/notes?metadata.partitionKey=u1", {"event_type": "x", "timestamp": "t"})]
    assert run(["publish", "--user", "u1", "x"], environ) == 2
    assert run(["publish", "--user", "u1", "--user", "u2", "x", "--dapr", url], environ) == 2
    assert ["@key" in note for note in said.notes()] == [True, True]


@pytest.mark.fault("A7")
async def test_publish_with_tls_to_a_plain_port_says_so(bridge: Running, said: Said) -> None:
    url = f"https://127.0.0.1:{bridge.port}"
    assert await running("publish", "--user", "u1", "x", "--url", url) == 1
    assert "it does not speak TLS" in said.notes()[0]


@pytest.mark.fault("A7")
def test_run_mistyped_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    for word, meant in (("lisen", "listen"), ("pubish", "publish"), ("chek", "check")):
        assert run([word], {}) == 2
        assert f"No such command '{word}'. Did you mean '{meant}'?" in capsys.readouterr().err
