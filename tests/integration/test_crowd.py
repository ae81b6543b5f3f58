"""`make crowd` and `make million` run to their ends. Their numbers are not checked."""

import os
import subprocess
import sys

import pytest

from benchmarks.million import HEADS
from benchmarks.pinned import LOAD_CORE, SERVER_CORE
from tests.support.running import ROOT


def output(*words: str) -> str:
    """The output of a benchmark, which must succeed."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.once
@pytest.mark.skipif(not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0), reason="needs the first two cores")
def test_small_crowd_measures_each_stage() -> None:
    sizes = ["--connections", "60", "--bridges", "2", "--seconds", "1", "--rate", "400", "--ping-seconds", "1"]
    text = output("benchmarks.crowd", *sizes)
    for stage in ("a handshake", "memory of a connection", "idle", "400 events a second", "a client that resumes"):
        assert f"| {stage}" in text


@pytest.mark.once
def test_small_simulation_has_a_row_for_each_step() -> None:
    text = output("benchmarks.million", "--users", "50", "200", "--events", "1000", "--seconds", "0.1")
    rows = [line.count("|") for line in text.splitlines() if line.startswith(("| 50 ", "| 200 "))]
    assert rows == [len(HEADS) + 1] * 2
