"""Parts that the tests and `make chain` build: at the same time, each once, and ended together."""

import fcntl
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import builds
from tests.e2e.builds import Missing, cached, run, together
from tests.support.processes import is_running

DEADLINE = 30.0  # seconds


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing that is interrupted."""
    monkeypatch.setattr(builds, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(builds, "interrupted", threading.Event())
    return tmp_path / "cache"


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def part(cache: Path, name: str, build: Callable[[], object] = lambda: None) -> Callable[[], Path]:
    """A part that is a file with its name in it."""

    def make(scratch: Path) -> Path:
        build()
        (scratch / "made").write_text(name)
        return scratch / "made"

    return lambda: cached(cache / name, make)


def test_together_builds_parts_of_different_pipelines_at_the_same_time(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = threading.Barrier(2, timeout=DEADLINE)  # fails unless both builds get there
    with caplog.at_level(logging.INFO):
        together([part(cache, "kafka", both.wait)], [part(cache, "daprd", both.wait)])
    assert [(cache / name).read_text() for name in ("kafka", "daprd")] == ["kafka", "daprd"]
    assert sorted(caplog.messages) == ["daprd is ready after 0 s.", "kafka is ready after 0 s."]


def test_together_builds_parts_of_one_pipeline_in_their_order(cache: Path) -> None:
    order: list[str] = []
    together([part(cache, name, partial(order.append, name)) for name in "cab"])
    assert order == ["c", "a", "b"]


def test_cached_part_that_two_threads_need_is_built_once(cache: Path) -> None:
    built: list[str] = []
    begun, other = threading.Event(), threading.Event()

    def build() -> None:
        built.append("kafka")
        begun.set()
        assert other.wait(DEADLINE)

    def late() -> Path:
        assert begun.wait(DEADLINE)
        other.set()
        return part(cache, "kafka", build)()

    together([part(cache, "kafka", build)], [late])
    assert built == ["kafka"]


def test_together_error_of_a_part_names_it_and_ends_the_others(cache: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    go = script(tmp_path / "go", f"sleep 60 &\necho $! > {tmp_path}/new && mv {tmp_path}/new {pid}\nwait")
    mvn = script(tmp_path / "mvn", f"until [ -e {pid} ]; do sleep 0.1; done\necho no route to host\nexit 1")
    never = part(cache, "never")
    with pytest.raises(Missing) as raised:
        together([part(cache, "kafka", lambda: run(mvn, "-B"))], [part(cache, "daprd", lambda: run(go)), never])
    assert str(raised.value) == f"kafka: {mvn} -B failed: no route to host"
    assert not is_running(int(pid.read_text()))
    assert sorted(path.name for path in cache.iterdir()) == ["locks"]


def test_run_shows_progress_with_the_name_of_the_part(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(builds, "_NEWS", 0.0)
    slow = script(tmp_path / "mvn", "echo half of it\nsleep 1")
    with caplog.at_level(logging.INFO):
        part(cache, "kafka", lambda: run(slow))()
    assert "   0 s  kafka: half of it" in caplog.messages


def test_cached_part_that_another_process_builds_is_waited_for_until_an_interruption(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "locks").mkdir(parents=True)
    builds.interrupted.set()
    with (cache / "locks" / "kafka").open("w") as lock, caplog.at_level(logging.INFO):
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(KeyboardInterrupt):
            part(cache, "kafka")()
    assert caplog.messages == ["Another process builds kafka now. Waiting for it."]
