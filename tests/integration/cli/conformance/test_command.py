"""`wsbridge conformance` as a process, with the clients of this project and one that passes little."""

import asyncio
import json
import platform
import re
import shlex
import sys
from typing import Any

import pytest

from tests.support.command import command, finished
from tests.support.node_modules import installed, unavailable
from tests.support.running import ROOT
from wsbridge.cli.conformance.command import conformance as command_of_conformance
from wsbridge.cli.conformance.scenarios import SCENARIOS, SOCKETS, STREAMS
from wsbridge.cli.options import USAGE

CLIENTS = ROOT / "tests" / "conformance"
PYTHON = f"{sys.executable} {CLIENTS / 'follow.py'} {{url}} {{token_url}}"
STREAM = {"refused_stream": "skipped: only over streams", "token_stream": "skipped: only over streams"}
NAIVE = f"{sys.executable} {CLIENTS / 'naive.py'} {{url}}"
LONGEST = 200.0  # seconds; the scenario `silence` takes a minute
DIFFERENT = [
    name
    for name, each in SCENARIOS.items()
    if not name.startswith("close_") and name != "silence" and each.only != STREAMS
]
TYPED = re.findall(
    r"^ *(?:\$ )?(wsbridge conformance.*)", (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8"), re.MULTILINE
)


async def verdicts(client: str, *only: str) -> dict[str, dict[str, Any]]:
    """Run the client in these scenarios, or in all. Return the verdict of each."""
    options = [word for name in only for word in ("--only", name)]
    async with command("conformance", client, "--json", *options) as run, asyncio.timeout(LONGEST):
        out, notes = await run.process.communicate()
    assert notes == b""
    found = {verdict["scenario"]: verdict for verdict in map(json.loads, out.splitlines())}
    assert list(found) == list(only or SCENARIOS)
    assert run.process.returncode == any(verdict["result"] == "failed" for verdict in found.values())
    return found


def failures(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: f"{verdict['result']}: {verdict['reason']}" for name, verdict in found.items() if verdict["reason"]}


@pytest.mark.parametrize("line", TYPED)
def test_conformance_command_in_the_documents_can_be_typed(line: str) -> None:
    command_of_conformance.make_context("conformance", shlex.split(line)[2:])


@pytest.mark.once
async def test_conformance_python_client_passes() -> None:
    assert failures(await verdicts(PYTHON)) == STREAM


def in_node(version: str, socket: str) -> str:
    """The command of the JavaScript client in a version of Node.js, with one of its classes of WebSockets."""
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        unavailable(f"the locked Node.js is not for {system}")
    modules = installed(ROOT / "tests" / "nodes")
    flags = "--experimental-websocket --no-warnings" if version == "20" else ""
    entry = {"ws": modules / "ws" / "wrapper.mjs", "undici": modules / "undici" / "index.js"}.get(socket, "")
    return (
        f"{modules / f'node-{version}' / 'bin' / 'node'} {flags} {CLIENTS / 'follow.mjs'} {{url}} {{token_url}} {entry}"
    )


@pytest.mark.once
async def test_conformance_javascript_client_passes() -> None:
    assert failures(await verdicts(in_node("22", "its own"))) == STREAM


@pytest.mark.once
async def test_conformance_javascript_client_passes_over_streams() -> None:
    found = failures(await verdicts(in_node("22", "its own").replace("{url}", "{sse_url}")))
    closes = [name for name, each in SCENARIOS.items() if each.only == SOCKETS]
    assert found == dict.fromkeys(closes, "skipped: only over WebSockets")


@pytest.mark.once
async def test_conformance_naive_client_of_streams_fails_with_reasons() -> None:
    naive = "while true; do curl -sN {sse_url} | sed -un '/^id: e:0/d; s/^id: //p'; done"
    assert failures(await verdicts(naive, "messages", "resume", "token_stream", "close_4509")) == {
        "resume": "failed: connected with no last_event_id; expected e:1",
        "token_stream": "skipped: the command has no {token_url}",
        "close_4509": "failed: connected again; expected the client to end",
    }


@pytest.mark.once
@pytest.mark.parametrize(
    ("version", "socket"),
    [("20", "its own"), ("20", "ws"), ("20", "undici"), ("22", "ws"), ("22", "undici")],
)
async def test_conformance_javascript_client_passes_with_other_sockets(version: str, socket: str) -> None:
    assert failures(await verdicts(in_node(version, socket), *DIFFERENT, "close_4429", "close_4509")) == {}


@pytest.mark.once
async def test_conformance_naive_client_fails_with_reasons() -> None:
    found = await verdicts(NAIVE, "messages", "large", "resume", "missed", "goodbye_late", "token", "close_4509")
    assert failures(found) == {
        "large": "failed: printed nothing; expected e:1 e:2; it has closed a connection with 1009",
        "resume": "failed: connected with no last_event_id; expected e:1",
        "missed": "failed: connected with no last_event_id; expected e:1",
        "goodbye_late": "failed: connected with no last_event_id; expected e:1",
        "token": "skipped: the command has no {token_url}",
        "close_4509": "failed: connected again; expected the client to end",
    }


async def test_conformance_client_that_ends_fails_with_its_last_complaint() -> None:
    code, out, notes = await finished("conformance", "echo no such client >&2; exit 3; {url}", "--only", "messages")
    assert (code, notes) == (1, "")
    assert out.splitlines() == [
        "messages              failed: expected a connection: the client ended (exit code 3: no such client)",
        "1 scenarios: 0 passed, 1 failed, 0 skipped",
    ]


async def test_conformance_client_that_prints_an_endless_line_fails() -> None:
    client = "head -c 70000 /dev/zero | tr '\\0' x; sleep 60; : {url}"
    code, out, notes = await finished("conformance", client, "--only", "messages")
    assert (code, notes) == (1, "")
    assert out.splitlines()[-1] == "1 scenarios: 0 passed, 1 failed, 0 skipped"


async def test_conformance_list_has_each_scenario() -> None:
    code, out, _ = await finished("conformance", "--list")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, list(SCENARIOS))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["x {url}", "--only", "nothing"], "no scenario is called nothing"),
        (["./client"], "has neither {url} nor {sse_url}"),
        (["./client {url} {sse_url}"], "or has both"),
        ([], "COMMAND is missing"),
    ],
)
async def test_conformance_with_wrong_words_explains_them(words: list[str], complaint: str) -> None:
    code, out, notes = await finished("conformance", *words)
    assert (code, out) == (USAGE, "")
    assert complaint in notes
