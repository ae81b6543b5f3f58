"""`make bench`: compares wsbridge with other servers. The server has one core, the load generator has another.

The load generator checks every event. The run fails if a server loses, repeats, reorders or misroutes one.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.chart import chart
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.load import Load, MiscountError, compiled
from benchmarks.pinned import LOAD_CORE, SERVER_CORE
from benchmarks.plan import QUICK, Measured, Plan
from benchmarks.report import markdown
from benchmarks.results import Results, machine
from benchmarks.scenarios import Visit
from benchmarks.server import ContenderError, Server, raise_descriptor_limit

USUAL_PING = 25.0  # seconds


def measure(contenders: Sequence[Contender], plan: Plan, absent: dict[str, str]) -> Results:
    """Run all rounds. Contenders take turns in each round, so that a slow minute of the machine affects all of them."""
    results = Results({one.name: one.version() for one in contenders}, plan, absent, machine())
    kinds = [(Visit.costs, USUAL_PING)] * plan.rounds
    kinds += [(Visit.heartbeats, plan.ping_seconds), (Visit.crowd, USUAL_PING)]
    with tempfile.TemporaryDirectory() as name:
        program = compiled("load", Path(name))
        for place, (kind, ping_seconds) in enumerate(kinds, 1):
            for contender in contenders:
                if contender.name in results.failures:
                    continue
                start = time.monotonic()
                try:
                    for scenario, measured in _visit(contender, plan, program, kind, ping_seconds):
                        results.add(contender.name, scenario, measured)
                except ContenderError as error:  # continue with the others; the exit code is 1
                    results.failures[contender.name] = str(error)
                    print(f"{contender.name} failed: {error}", file=sys.stderr, flush=True)
                    continue
                done = f"{place} of {len(kinds)}: {contender.name}, {time.monotonic() - start:.0f} s"
                print(done, file=sys.stderr, flush=True)
    return results


def _visit(
    contender: Contender,
    plan: Plan,
    program: Path,
    kind: Callable[[Visit], Iterator[tuple[str, Measured]]],
    ping_seconds: float,
) -> Iterator[tuple[str, Measured]]:
    options = {"upgrade": contender.dialect.upgrade, **contender.dialect.options}
    with (
        tempfile.TemporaryDirectory() as name,
        Server(contender, Path(name), ping_seconds) as server,
        Load(program, server.port, options, posts=server.posts) as load,
    ):
        try:
            yield from kind(Visit(server, load, plan))
        except MiscountError as error:
            print(server.log(), file=sys.stderr)
            raise ContenderError(str(error)) from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="check the events; the measured costs mean nothing")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="length of each measurement")
    parser.add_argument("--only", nargs="*", default=[], help="only contenders whose names begin with one of these")
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench"), help="directory of bench.json and bench.svg"
    )
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="print the results in this bench.json and measure nothing"
    )
    asked = parser.parse_args()
    if asked.again:
        print(markdown(Results.from_json(json.loads(asked.again.read_text(encoding="utf-8")))))
        return
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("make bench needs two cores: one for the server, one for the load generator")
    plan = QUICK if asked.quick else Plan(seconds=asked.seconds, rounds=asked.rounds)
    if raise_descriptor_limit() < (needed := plan.most + 1_000):
        raise SystemExit(f"make bench needs {needed:,} file descriptors in a process: raise ulimit -Hn")
    chosen = [one for one in CONTENDERS if not asked.only or one.name.startswith(tuple(asked.only))]
    absent = {one.name: reason for one in chosen if (reason := one.missing())}
    results = measure([one for one in chosen if one.name not in absent], plan, absent)
    print(markdown(results))
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "bench.json").write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
    (asked.output / "bench.svg").write_text(chart(results), encoding="utf-8")
    if results.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
