"""The commands that a newcomer is shown, and their effect."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT, Running, Start, receive
from tests.support.shell import typed
from wsbridge.web.quickstart import program, welcome

COMMAND = f"{shlex.quote(sys.executable)} -m wsbridge"


def offered(text: str, verb: str) -> str:
    [found] = re.findall(rf"^ +(\S.* {verb} .*|{verb} .*)$", text.replace("\\\n", ""), re.MULTILINE)
    return str(found)


@pytest.mark.fault("A3", "A5")
@pytest.mark.parametrize("verb", ["publish", "curl"])
@pytest.mark.parametrize("topics", ["task-updates=task_update", "orders=order,task-updates=task_update"])
async def test_welcome_commands_make_a_task_on_the_demo_page(start: Start, verb: str, topics: str) -> None:
    if verb == "curl" and shutil.which("curl") is None and os.environ.get("REQUIRE_ALL_TESTS") != "1":
        pytest.skip("curl is not installed")
    bridge = await start(TOPICS=topics)
    tab, _ = await bridge.opened("alice")
    (topic, kind), *_ = bridge.bridge.settings.topics
    line = offered(welcome(COMMAND, "127.0.0.1", [bridge.port], topic), verb)
    assert "SUCCESS" in await typed(line, {"PYTHONPATH": str(ROOT)})
    update = await receive(tab)
    assert update["type"] == kind
    event = update["event"]
    assert {name: event[name] for name in ("event_type", "user_id", "task_id", "title")} == {
        "event_type": "task.created",
        "user_id": "alice",
        "task_id": "1",
        "title": "Buy milk",
    }


@pytest.mark.fault("A5")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_of_the_back_end_page_publishes_an_event_with_its_id(bridge: Running) -> None:
    tab, _ = await bridge.opened("alice")
    text = (ROOT / "docs" / "back-end.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^(curl localhost:8004.*?)^```", text, re.MULTILINE | re.DOTALL)
    line = command.replace("localhost:8004", f"127.0.0.1:{bridge.port}")
    assert await typed(line) == '{"status":"SUCCESS"}'
    assert (await receive(tab))["event_id"] == "task-456-created"


def test_welcome_on_another_port_passes_the_url() -> None:
    here = welcome("wsbridge", "127.0.0.1", [8004], "task-updates")
    assert "--url" not in here
    assert "--topic" not in here
    elsewhere = welcome("wsbridge", "[::1]", [8004, 9000], "task-updates")
    assert "--user alice --url ws://[::1]:8004/ws\n" in elsewhere
    assert "title='Buy milk' --url http://[::1]:9000\n" in elsewhere
    assert "Open   http://[::1]:9000/\n" in elsewhere


@pytest.mark.fault("A5")
def test_program_outside_the_path_is_a_quoted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "try me"
    folder.mkdir()
    script = folder / "wsbridge"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(program(str(script))) == [str(script)]
    monkeypatch.chdir(folder)
    assert shlex.split(program("./wsbridge")) == [str(script)]
    assert program("python -m") == "wsbridge"
    monkeypatch.setenv("PATH", str(folder))
    assert program(str(script)) == "wsbridge"


def make(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The repository's Makefile, with a virtual environment in that folder."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    return subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), f"venv={folder}/venv", *words],
        env=kept | environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.fault("A5")
@pytest.mark.parametrize(
    ("words", "environ", "port"),
    [
        ([], {}, "8004"),
        (["PORT=9000"], {}, "9000"),
        ([], {"PORT": "9001"}, "9001"),
        ([], {"WSBRIDGE_PORT": "9002"}, "9002"),
        (["PORT=9003"], {"WSBRIDGE_PORT": "9002"}, "9003"),
    ],
)
def test_make_run_takes_the_port_from_the_command_line_or_the_environment(
    tmp_path: Path, words: list[str], environ: dict[str, str], port: str
) -> None:
    assert f"WSBRIDGE_PORT={port} " in make(tmp_path, "--dry-run", "run", *words, **environ).stdout


@pytest.mark.fault("A5")
def test_make_run_repairs_an_incomplete_virtual_environment(tmp_path: Path) -> None:
    """As without Debian's python3-venv: there is a python but no pip."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p "$4/bin"; touch "$4/bin/python"\n'
        '[ -n "$ENSUREPIP" ] || { echo no ensurepip >&2; exit 1; }\n[ "$3" = --clear ] && touch "$4/bin/pip"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    made, pip = tmp_path / "venv" / ".made", tmp_path / "venv" / "bin" / "pip"
    first = make(tmp_path, str(made), f"PYTHON={python}")
    assert (first.returncode, "no ensurepip" in first.stderr) == (2, True)
    assert not made.exists()
    second = make(tmp_path, str(made), f"PYTHON={python}", ENSUREPIP="1")
    assert (second.returncode, second.stderr) == (0, "")
    assert made.exists()
    assert pip.exists()


@pytest.mark.fault("A5")
def test_make_run_on_a_taken_port_names_the_setting_to_change(tmp_path: Path, unused_tcp_port: int) -> None:
    bin_ = tmp_path / "venv" / "bin"
    bin_.mkdir(parents=True)
    script = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m wsbridge "$@"\n'
    (bin_ / "wsbridge").write_text(script, encoding="utf-8")
    (bin_ / "wsbridge").chmod(0o755)
    for stamp in (".made", ".installed"):
        (tmp_path / "venv" / stamp).touch()
    with socket.create_server(("127.0.0.1", unused_tcp_port)):
        ended = make(tmp_path, "run", f"PORT={unused_tcp_port}")
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{unused_tcp_port}" in ended.stderr
    assert "set WSBRIDGE_PORT to another port" in ended.stderr
    assert "Open" not in ended.stdout
