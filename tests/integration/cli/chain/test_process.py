"""Programs beside this one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.processes import is_running
from tests.support.running import DEADLINE, ROOT
from wsbridge.cli.chain.process import Process

PRINTS = "import os; print(os.environ['NAME'], os.environ.get('WSBRIDGE_PORT'), os.getcwd())"
STARTS_A_CHILD = """
from pathlib import Path
import sys, time
from wsbridge.cli.chain.process import Process
print(Process(["sleep", "1000"], Path(sys.argv[1])).pid, flush=True)
time.sleep(1000)  # until it is killed
"""


def test_process_writes_its_output_to_the_log(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", PRINTS], tmp_path / "log", {"NAME": "x"}, tmp_path)
    assert process.wait() == 0
    assert process.last_lines() == [f"x None {tmp_path}"]
    assert process.end == "ended with exit code 0"


def test_process_that_was_killed_names_the_signal(tmp_path: Path) -> None:
    process = Process(["sleep", "1000"], tmp_path / "log")
    assert process.running
    process.wait_until(time.monotonic())  # does not wait longer
    process.kill()
    assert process.end == "was killed by SIGKILL"
    process.kill()


def test_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_A_CHILD, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks: only a parent can wait for the end of a process
