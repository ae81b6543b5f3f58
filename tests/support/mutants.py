"""`python -m tests.support.mutants [PATTERN ...]`: runs mutmut from scratch and prints its score, for tox.

Exits with 1 if some mutants were not tried within `MINUTES`, or if fewer than `FLOOR` of all were killed.
"""

import contextlib
import fnmatch
import os
import shutil
import signal
import subprocess
import sys

from tests.support.running import ROOT

FLOOR = 96.5  # per cent
MINUTES = 45  # for all mutants; each has five seconds more than its tests take (timeout_multiplier in pyproject.toml)
KILLED = {"killed", "timeout", "segfault"}


def run(*patterns: str) -> None:
    """Try the mutants. Those that are not tried in time keep the result "not checked"."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)  # mutmut would keep old results, and tests that were deleted
    mutmut = subprocess.Popen(["mutmut", "run", *patterns], cwd=ROOT, start_new_session=True)
    try:
        if code := mutmut.wait(60 * MINUTES):
            sys.exit(code)
    except subprocess.TimeoutExpired:
        pass  # main() reports mutants that were not tried
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mutmut.pid, signal.SIGKILL)


def results(*patterns: str) -> dict[str, str]:
    """The status of each mutant, by its name."""
    command = ["mutmut", "results", "--all", "true"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = dict(line.strip().split(": ") for line in listed.splitlines())
    return {name: found[name] for name in found if any(fnmatch.fnmatch(name, pattern) for pattern in patterns or "*")}


def main(*patterns: str) -> None:
    run(*patterns)
    found = results(*patterns)
    left = {name: status for name, status in found.items() if status not in KILLED}
    killed, total = len(found) - len(left), len(found)
    score = 100 * killed / total
    untried = sum(status == "not checked" for status in left.values())
    for name, status in left.items():
        print(f"{status}: {name}")  # noqa: T201 - a program
    print(f"killed/total = {killed}/{total} = {score:.1f} %")  # noqa: T201 - a program
    if untried:
        sys.exit(f"{untried} not tried within {MINUTES} minutes")
    if not patterns and score < FLOOR:
        sys.exit(f"below the floor of {FLOOR} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
