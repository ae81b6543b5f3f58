"""`wsbridge doctor` on the command line: output, JSON, exit codes, and no secret in it."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.support.command import finished
from tests.support.doctor import NOWHERE, StandIn
from tests.support.running import ADMIN_TOKEN, APP_TOKEN, ROOT, SECRET, Running, Start, variables
from wsbridge.cli.doctor import command
from wsbridge.cli.main import run


async def doctor(bridge: Running, *words: str, **settings: str) -> tuple[int, str, str]:
    return await finished("doctor", *words, DAPR_HTTP_PORT="1", WSBRIDGE_PORT=str(bridge.port), **settings)


async def test_doctor_of_a_bridge_on_its_defaults_finds_no_failure(bridge: Running) -> None:
    code, out, notes = await doctor(bridge)
    assert (code, notes) == (0, "")
    *lines, counts = out.splitlines()
    assert counts.startswith("0 failures in what was checked, 1 warning, 5 ok, ")
    assert "; to check more: --public-url URL (ingress), --canary (partitions), --token JWT " in counts
    assert lines[0].startswith("warning      partitions    no valid event has been delivered since the start ")
    assert lines[1].startswith("ok           bridge        it is healthy, version ")


async def test_doctor_with_json_prints_each_finding_and_exits_with_1_after_a_failure(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    code, out, _ = await doctor(bridge, "--json", **variables({"JWT_SECRET": SECRET}))
    found = json.loads(out)
    states = {finding["check"]: finding["state"] for finding in found["findings"]}
    assert (code, found["healthy"]) == (1, False)
    assert [name for name, state in states.items() if state == "failure"] == ["sidecar"]


async def test_doctor_reads_the_sidecars_token_from_a_file_as_the_bridge_does(bridge: Running, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("what the sidecar requires\n")
    async with StandIn() as sidecar:
        sidecar.api_token = "what the sidecar requires"
        token = {"DAPR_API_TOKEN_FILE": str(file), "WSBRIDGE_PORT": str(bridge.port)}
        _, out, _ = await finished("doctor", "--json", DAPR_HTTP_PORT=str(sidecar.port), **token)
    states = {finding["check"]: finding["state"] for finding in json.loads(out)["findings"]}
    assert states["api-token"] == "ok"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_doctor_says_what_takes_long_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert run(["doctor", "--url", NOWHERE, "--public-url", NOWHERE, "--idle", "1"], {}) == 1
    assert capsys.readouterr().err == ("ingress: takes 1 s (--idle)\n" if is_terminal else "")


def test_doctor_accepts_the_commands_of_the_docs() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    lines = re.findall(r"wsbridge (doctor [^#\n]*)", text.split("```sh\n")[1].split("```")[0])
    assert len(lines) == 4
    for line in lines:
        _, *words = shlex.split(line)
        assert command.doctor.make_context("doctor", words).params


@pytest.mark.parametrize("option", ["--url", "--public-url", "--dapr", "--caller"])
async def test_doctor_with_a_password_or_a_query_in_a_url_refuses_it_without_printing_it(option: str) -> None:
    for url in ("http://user:open-sesame@127.0.0.1:1", "http://127.0.0.1:1?token=open-sesame"):
        code, out, notes = await finished("doctor", option, url)
        assert (code, out, "open-sesame" in notes) == (2, "", False)
        assert "without user, password and query" in notes


async def test_doctor_prints_no_secret(start: Start, unused_tcp_port: int) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    secrets = {
        "WSBRIDGE_JWT_SECRET": "0123456789abcdef0123456789abcdef",
        "WSBRIDGE_ADMIN_TOKEN": ADMIN_TOKEN[::-1],
        "APP_API_TOKEN": APP_TOKEN[::-1],
        "DAPR_API_TOKEN": "the token of the API",
    }
    redis = f"redis://wsbridge:open-sesame@127.0.0.1:{unused_tcp_port}"
    words = ("--public-url", bridge.url, "--idle", "1", "--canary", "--dapr", f"http://127.0.0.1:{unused_tcp_port}")
    code, out, notes = await doctor(bridge, *words, WSBRIDGE_REDIS_URL=redis, **secrets)
    assert (code, notes) == (1, "")
    assert "the bridge has another WSBRIDGE_ADMIN_TOKEN" in out
    assert not [secret for secret in (*secrets.values(), "open-sesame") if secret in out]
