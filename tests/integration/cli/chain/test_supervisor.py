"""Starting parts, noticing their end, and ending them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsbridge.cli.chain import supervisor
from wsbridge.cli.chain.supervisor import Part, PartFailed, Stopped, Supervisor

SLEEPS = ["sh", "-c", "echo awake; exec sleep 1000"]
IGNORES_SIGTERM = ["sh", "-c", "trap '' TERM; echo awake; while :; do sleep 0.1; done"]


class Started:
    """A supervisor in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stopping = threading.Event()
        self.supervisor = Supervisor(directory, self.stopping)

    def part(self, name: str, command: list[str]) -> Part:
        """A part that is ready when it has written a line."""
        return Part(name, command, lambda: b"awake" in (self.directory / f"{name}.log").read_bytes())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    started.supervisor.end()


def test_part_that_ends_while_another_starts_is_reported_with_its_lines(started: Started) -> None:
    started.supervisor.start(started.part("good", SLEEPS))
    with pytest.raises(PartFailed, match="bad ended with exit code 3") as raised:
        started.supervisor.start(started.part("bad", ["sh", "-c", "echo why; exit 3"]))
    assert raised.value.lines == ["why"]


def test_part_that_ends_later_is_reported(started: Started) -> None:
    started.supervisor.start(started.part("brief", ["sh", "-c", "echo awake; sleep 0.3; kill -9 $$"]))
    with pytest.raises(PartFailed, match="brief was killed by SIGKILL"):
        started.supervisor.hold()


def test_part_that_does_not_become_ready_is_reported(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.2)
    with pytest.raises(PartFailed, match=r"slow is not ready after 0\.2 s"):
        started.supervisor.start(Part("slow", SLEEPS, lambda: False))


def test_command_that_fails_is_reported_and_one_that_succeeds_is_not(started: Started) -> None:
    started.supervisor.finish("good", ["true"])
    with pytest.raises(PartFailed, match="bad ended with exit code 1"):
        started.supervisor.finish("bad", ["false"])


def test_signal_ends_every_wait(started: Started) -> None:
    started.supervisor.start(started.part("part", SLEEPS))
    started.stopping.set()
    with pytest.raises(Stopped):
        started.supervisor.hold()
    with pytest.raises(Stopped):
        started.supervisor.until(lambda: False, "part")
    with pytest.raises(Stopped):
        started.supervisor.finish("command", SLEEPS)


def test_end_kills_what_ignores_sigterm(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE", 0.2)
    started.supervisor.start(started.part("deaf", IGNORES_SIGTERM), started.part("good", SLEEPS))
    started.supervisor.end()
    with pytest.raises(PartFailed):
        started.supervisor.until(lambda: False, "deaf")
