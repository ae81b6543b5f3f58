"""`make guard`: fails if an event or a handshake needs a tenth more instructions than in the accepted baseline.

Counts the instructions of whole servers with callgrind, so other work on the machine does not change the result.
Processors, interpreters and libraries do. Therefore it compares ratios: to a plain aiohttp service that does the same
job in the same run. Kernel time is not counted.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.callgrind import Counted
from benchmarks.dialects import SIDECAR
from benchmarks.load import Load, compiled

BASELINE = Path(__file__).with_name("guard.json")
FILES = Path("build/guard")  # for the files of callgrind
WORSE, BETTER = 1.1, 0.95  # times the baseline
OPTIONS = {"upgrade": SIDECAR.upgrade, "patience": "60", **SIDECAR.options}
BRIDGE = [sys.executable, "-m", "wsbridge", "serve"]
PLAIN = [sys.executable, "-m", "benchmarks.services.aiohttp_service", "{port}", "1000"]
SETTINGS = {
    "WSBRIDGE_AUTH": "none",
    "WSBRIDGE_HANDSHAKE_RATE": "0",
    "WSBRIDGE_LOOP": "asyncio",  # like the plain service; uvloop's C code differs from release to release
    "WSBRIDGE_MAX_CONNECTIONS_PER_USER": "0",
    "WSBRIDGE_PING_INTERVAL": "1000",
}
TO_DO = """
To find the cause: callgrind_annotate build/guard/bridge/NAME.callgrind lists instructions by function, py-spy shows
time by line, and `make bench` measures microseconds. If the change is worth its cost, explain that in its commit,
accept the new baseline with `make guard ACCEPT=1` and commit benchmarks/guard.json.
"""


class Work(NamedTuple):
    """`requests` requests with `size` events each, to `sockets` sockets, of which each user has `per_user`."""

    sockets: int
    per_user: int
    size: int
    requests: int


WORKS = {
    "single": Work(40, 1, 1, 600),
    "bulk": Work(100, 1, 100, 30),
    "bursts": Work(30, 3, 50, 40),
    "fanout": Work(200, 200, 1, 80),
}
HANDSHAKE, HANDSHAKES = "handshake", 200


def judged(baseline: Mapping[str, float], ratios: Mapping[str, float]) -> list[str]:
    """A sentence for each ratio that is too much worse than the baseline."""
    return [
        f"{name} needs {ratio / baseline[name] - 1:.0%} more instructions than accepted: "
        f"{ratio:.3f} times the plain service, instead of {baseline[name]:.3f}"
        for name, ratio in ratios.items()
        if ratio > baseline[name] * WORSE
    ]


def measure(command: list[str], environment: dict[str, str], program: Path, directory: Path) -> dict[str, float]:
    """Instructions of a server for each event or handshake."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    with Counted(command, environment, directory) as server, Load(program, server.port, OPTIONS) as load:
        for name, work in WORKS.items():
            load.tell("close")
            load.tell(f"open {work.sockets} {work.per_user} 8")
            load.set(SIDECAR.settings(is_bulk=work.size > 1))
            post = f"1000 1 {work.size} 0"  # a time limit that is never reached, lanes, events in a request, no rate
            load.tell(f"post {work.requests // 2} {post}")  # warm-up: fills caches
            server.start()
            events = load.tell(f"post {work.requests} {post}").events
            found[name] = server.instructions(name) / events
        load.tell("close")
        load.tell("idle 2")  # until the server has handled the closed sockets
        server.start()
        load.tell(f"open {HANDSHAKES} 1 1")
        found[HANDSHAKE] = server.instructions(HANDSHAKE) / HANDSHAKES
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make guard", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write the measured ratios to the baseline")
    asked = parser.parse_args()
    if not (shutil.which("valgrind") and shutil.which("vgdb")):
        raise SystemExit("make guard counts instructions with valgrind: install it (Debian's package valgrind)")
    FILES.mkdir(parents=True, exist_ok=True)
    program = compiled("load", FILES)
    bridge = measure(BRIDGE, SETTINGS, program, FILES / "bridge")
    plain = measure(PLAIN, {}, program, FILES / "plain")
    ratios = {name: bridge[name] / plain[name] for name in bridge}
    baseline: dict[str, float] = json.loads(BASELINE.read_text(encoding="utf-8"))
    for name, ratio in ratios.items():
        print(
            f"guard: {name:10}{bridge[name]:>11,.0f} instructions, {ratio:.3f} times the plain service, "
            f"accepted {baseline.get(name, 0):.3f}"
        )
    if asked.accept:
        rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
        BASELINE.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")
    elif worse := judged(baseline, ratios):
        raise SystemExit("guard: " + "\nguard: ".join(worse) + TO_DO)
    elif any(ratio < baseline[name] * BETTER for name, ratio in ratios.items()):
        print(
            "guard: better than the baseline. Keep the gain: `make guard ACCEPT=1`, and commit benchmarks/guard.json."
        )


if __name__ == "__main__":
    main()
