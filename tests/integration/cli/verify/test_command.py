"""`wsbridge verify` as a process: its output, its exit codes and its page."""

import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import command, finished
from tests.support.running import APP_TOKEN, ROOT, SECRET, Running, Start
from wsbridge.cli.options import INTERRUPTED, USAGE
from wsbridge.cli.verify.command import verify as command_of_verify

DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "verify.md")
TYPED = [
    line
    for document in DOCUMENTS
    for line in re.findall(r"^ *(?:\$ )?(wsbridge verify .*)", document.read_text().replace("\\\n", " "), re.MULTILINE)
]
QUICK = ("--direct", "--seconds", "1", "--rate", "40", "--clients", "6")


def target(bridge: Running) -> tuple[str, ...]:
    return "--url", f"{bridge.url}/ws", "--publish-url", bridge.url


async def verify(bridge: Running, *words: str, **settings: str) -> tuple[int, dict[str, Any], str]:
    code, out, notes = await finished("verify", *target(bridge), *QUICK, "--json", *words, **settings)
    return code, json.loads(out), notes


@pytest.mark.parametrize("line", TYPED)
def test_verify_command_in_the_documents_can_be_typed(line: str) -> None:
    command_of_verify.make_context("verify", shlex.split(line)[2:])


async def test_verify_of_a_healthy_bridge_passes(bridge: Running, tmp_path: Path) -> None:
    page = tmp_path / "verify.html"
    code, out, notes = await finished("verify", *target(bridge), *QUICK, "--html", str(page))
    assert (code, out.splitlines()[-1]) == (0, "PASSED")
    sent = re.search(r"sent +(\d+) events for 3 users", out)
    assert sent
    assert int(sent[1]) > 20
    assert f"arrived       {2 * int(sent[1])} of {2 * int(sent[1])} at 6 clients" in out
    assert "6 of 6 clients are connected" in notes
    assert '<span class="PASSED">' in page.read_text()


async def test_verify_page_that_cannot_be_written_fails_after_the_report(bridge: Running, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "verify.html"
    code, out, notes = await finished("verify", *target(bridge), *QUICK, "--html", str(path))
    assert (code, out.splitlines()[-1]) == (1, "PASSED")
    assert f"cannot write {path}: No such file or directory" in notes


async def test_verify_with_tokens_makes_them_or_takes_them_from_a_command(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    code, found, notes = await verify(bridge, WSBRIDGE_JWT_SECRET=SECRET, APP_API_TOKEN=APP_TOKEN)
    assert (code, found["findings"]) == (0, []), notes
    make = f"WSBRIDGE_JWT_SECRET='{SECRET}' {sys.executable} -m wsbridge token --user {{user}}"
    words = ("--token-command", make, "--user", "a b;$(x)'", "--clients", "1")
    code, found, notes = await verify(bridge, *words, APP_API_TOKEN=APP_TOKEN)
    assert (code, found["findings"], found["users"]) == (0, [], 1), notes


async def test_verify_without_a_token_names_the_refusal(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    code, found, _ = await verify(bridge, APP_API_TOKEN=APP_TOKEN)
    (finding,) = found["findings"]
    assert (code, finding["code"]) == (1, "unreachable")
    assert finding["text"].startswith("6 of 6 clients: 4401 token_missing")


async def test_verify_with_a_command_without_a_token_names_its_exit_code(bridge: Running) -> None:
    code, found, _ = await verify(bridge, "--token-command", "exit 3")
    assert (code, found["findings"][0]["text"]) == (1, "6 of 6 clients: --token-command ended with exit code 3")


async def test_verify_whose_events_are_refused_names_the_reason(start: Start) -> None:
    bridge = await start(APP_API_TOKEN=APP_TOKEN)
    code, found, _ = await verify(bridge, "--wait", "1")
    (finding,) = found["findings"]
    assert (code, finding["code"]) == (1, "publish-failed")
    assert "401: the bridge refuses the token: set APP_API_TOKEN" in finding["text"]


async def test_verify_command_in_the_middle_that_fails_fails_the_run(bridge: Running) -> None:
    code, found, notes = await verify(bridge, "--during", "echo started; exit 4")
    assert "started" in notes
    assert (code, [finding["code"] for finding in found["findings"]]) == (1, ["during-failed"])
    assert found["during"] == {"command": "echo started; exit 4", "exit_code": 4}


async def test_verify_command_in_the_middle_may_take_longer_than_the_run(bridge: Running) -> None:
    code, found, _ = await verify(bridge, "--during", "sleep 2")
    assert (code, found["findings"], found["during"]["exit_code"]) == (0, [], 0)


async def test_verify_command_in_the_middle_that_does_not_end_is_killed(bridge: Running) -> None:
    code, found, _ = await verify(bridge, "--during", "sleep 1000", "--during-limit", "2")
    assert (code, [finding["code"] for finding in found["findings"]]) == (1, ["during-unfinished"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_verify_that_is_interrupted_reports_so_far(bridge: Running, number: signal.Signals) -> None:
    words = ("verify", *target(bridge), "--direct", "--seconds", "600", "--clients", "2")
    async with command(*words, stdout=None) as run:
        while "publishing" not in await run.note():
            pass
        run.send(number)
        last = await run.line_with("so far")
        assert await run.ended() == INTERRUPTED
    assert last == "PASSED so far: interrupted\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "3600", "--rate", "1000"], "more than 100,000 events"),
        (["--clients", "1", "--user", "a", "--user", "b"], "there are 2 users, which need as many --clients"),
        (["--clients", "0"], "'--clients'"),
        (["--url", "nowhere"], "'--url': expected a URL such as ws://127.0.0.1:8004/ws"),
    ],
)
async def test_verify_with_a_mistake_names_it(words: list[str], said: str) -> None:
    code, _, notes = await finished("verify", *words)
    assert code == USAGE
    assert said in " ".join(notes.split())


async def test_verify_direct_with_users_from_the_key_names_the_reason() -> None:
    code, _, notes = await finished("verify", "--direct", WSBRIDGE_USER_ID_FIELD="@key")
    assert code == USAGE
    assert "leave --direct out" in " ".join(notes.split())
