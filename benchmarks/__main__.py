"""`make bench`: wsbridge and others side by side, one core for the server, one for the load.

Everything that is counted is checked: a server that loses, repeats, reorders or misroutes one event ends the run.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.load import Load, MiscountError, compiled
from benchmarks.pinned import LOAD_CORE, SERVER_CORE
from benchmarks.report import Results, machine, written
from benchmarks.scenarios import Plan, Visit
from benchmarks.server import Server, raise_descriptor_limit

QUICK = Plan(seconds=0.1, rounds=1, users=100, idle=300, handshakes=100)


def measure(contenders: Sequence[Contender], plan: Plan, absent: dict[str, str]) -> Results:
    """All rounds. Contenders take turns, so that a slow minute of the machine hits all of them."""
    results = Results(contenders, plan, absent)
    with tempfile.TemporaryDirectory() as name:
        program = compiled("load", Path(name))
        for number in range(plan.rounds):
            for contender in contenders:
                start = time.monotonic()
                _visit(contender, plan, program, results)
                print(
                    f"round {number + 1} of {plan.rounds}: {contender.name}, {time.monotonic() - start:.0f} s",
                    file=sys.stderr,
                )
    return results


def _visit(contender: Contender, plan: Plan, program: Path, results: Results) -> None:
    with tempfile.TemporaryDirectory() as name, Server(contender, Path(name)) as server:
        options = {"upgrade": contender.dialect.upgrade, **contender.dialect.options}
        with Load(program, server.port, options) as load:
            try:
                for scenario, measured in Visit(server, load, plan).all():
                    results.add(contender.name, scenario, measured)
            except MiscountError as error:
                raise SystemExit(f"{contender.name}: {error}\n{server.log()}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, which checks the counts; no numbers")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="of each measurement")
    parser.add_argument("--only", nargs="*", default=[], help="contenders whose names begin with one of these")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="directory for bench.json")
    asked = parser.parse_args()
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("make bench needs two cores: one for the server, one for the load")
    raise_descriptor_limit()
    plan = QUICK if asked.quick else Plan(seconds=asked.seconds, rounds=asked.rounds)
    chosen = [one for one in CONTENDERS if not asked.only or one.name.startswith(tuple(asked.only))]
    absent = {one.name: reason for one in chosen if (reason := one.missing())}
    results = measure([one for one in chosen if one.name not in absent], plan, absent)
    print(", ".join(machine().values()))
    print()
    print(results.as_markdown())
    written(results, asked.output)


if __name__ == "__main__":
    main()
