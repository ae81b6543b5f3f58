"""`wsbridge chain` with programs that fail. tests/e2e/test_make_chain.py has it with real ones."""

from pathlib import Path

import pytest

from tests.support.command import command
from tests.support.processes import children, is_running
from tests.support.running import until
from wsbridge.cli.main import run


def test_chain_without_its_programs_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chain"], {"PATH": "/nowhere", "KAFKA_HOME": "/nowhere"}) == 1
    notes = capsys.readouterr().err.splitlines()
    assert notes[0] == "wsbridge: java is not in PATH: apt-get install default-jre-headless"
    assert any(note.startswith("wsbridge: KAFKA_HOME") for note in notes)


def machine(directory: Path, java: str) -> dict[str, str]:
    """The environment of a machine with all programs, of which `java` is this script."""
    for name, script in (("java", java), ("daprd", "exit 1")):
        program = directory / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (directory / "libs").mkdir()
    return {"PATH": f"{directory}:/usr/bin:/bin", "KAFKA_HOME": str(directory), "TMPDIR": str(directory)}


def logs(directory: Path) -> list[Path]:
    """The folders of chains that are still there."""
    return list(directory.glob("wsbridge-chain-*"))


async def test_chain_whose_kafka_fails_shows_its_last_lines_and_keeps_the_logs(tmp_path: Path) -> None:
    async with command("chain", stdout=None, **machine(tmp_path, "echo no room left; exit 3")) as chain:
        notes = [await chain.note() for _ in range(3)]
        assert await chain.ended() == 1
    assert notes[1] == "no room left\n"
    [kept] = logs(tmp_path)
    assert notes[2] == f"wsbridge: kafka-format ended with exit code 3; the logs are kept in {kept}\n"
    assert (kept / "kafka-format.log").read_text() == "no room left\n"


async def test_chain_that_is_terminated_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    async with command("chain", stdout=None, **machine(tmp_path, "exec sleep 1000")) as chain:
        await until(lambda: children(chain.process.pid))
        [child] = children(chain.process.pid)
        chain.process.terminate()
        assert await chain.ended() == 0
    assert not is_running(child)
    assert logs(tmp_path) == []
