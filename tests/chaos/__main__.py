"""Injects every kind of fault while events flow: `python -m tests.chaos --seed 1 --seconds 120`, or `make chaos`.

Two replicas, a real Redis or Valkey, a publisher like Dapr, clients that connect and disconnect, and faults one after
the other. If Prometheus is installed, it scrapes the replicas, and the alerts of the injected faults must fire; in a
run of two minutes each alert has its fault. The seed repeats the events and the order of the faults, but not their
exact timing.
"""

import argparse
import asyncio
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from tests.chaos.plan import Plan
from tests.chaos.run import chaos
from wsbridge.cli.verify.viewer import Broken

LONG = 120.0  # seconds of a run in which each alert must fire


def report(plan: Plan, tally: Counter[str]) -> str:
    """The counters of a run, one line each."""
    return "\n".join(f"{count:9,}  {name}" for name, count in sorted(tally.items()))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="another one each time if absent"
    )
    parser.add_argument("--seconds", type=float, default=LONG, help="how long faults come, 120 if absent")
    parser.add_argument("--no-redis", action="store_true", help="one replica alone, which is killed and drained")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this in their names, such as frozen")
    options = parser.parse_args(arguments)
    plan = Plan(
        seed=options.seed,
        seconds=options.seconds,
        redis=not options.no_redis,
        only=options.only,
        every_alert=options.seconds >= LONG and not options.only,
    )
    say(f"seed {plan.seed}: {plan.clients} clients of {plan.users} users, faults for {plan.seconds:g} s")
    try:
        tally = asyncio.run(interruptible(chaos(plan, say)))
    except Broken as broken:
        say(f"\nBROKEN, seed {plan.seed}\n{broken}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted")
        return 130
    say(report(plan, tally))
    say("every event that got SUCCESS reached every client of its user once and in order, or it was told of a gap")
    return 0


async def interruptible(run: Coroutine[Any, Any, Counter[str]]) -> Counter[str]:
    """Make SIGTERM end the run as Ctrl-C does, with all processes that it started."""
    task = asyncio.ensure_future(run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
