"""Processes pinned to a core; CPU time and memory of a process with all its children."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

SERVER_CORE, LOAD_CORE = 0, 1


def spawn(command: list[str], core: int, **options: Any) -> subprocess.Popen[Any]:
    """Start a process on a core. All its threads and children stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a child inherits it
    try:
        return subprocess.Popen(command, **options)
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes and all their threads, to the nanosecond.

    /proc/PID/stat has the same sum in ticks of 10 ms. The clock id is that of clock_getcpuclockid(3).
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def memory_kilobytes(pids: list[int]) -> int:
    """Proportional set size: resident memory, where pages shared by several processes count in parts."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except OSError:  # the process has just ended
        return 0
