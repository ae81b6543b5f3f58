"""`python -m tests.siege`: a calm phase, the siege, and a look at what is left ten seconds later.

Exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
from collections.abc import AsyncIterator

from tests.siege.bridge import bridged
from tests.siege.judge import judged
from tests.siege.phase import phase
from tests.siege.plan import FULL, SHORT, Plan
from tests.siege.publisher import Publisher
from tests.support.command import LONGEST_LINE
from tests.support.running import ROOT

LAST_EVENTS = 1.0  # seconds after the last event for its bytes to reach the clients' process
AFTERWARDS = 10.0  # seconds after which nothing of the bad peers may be left
LEAST_FLOOD = 0.9  # of the planned rate: the flood shares the machine with the bridge
PATIENCE = 180.0  # seconds, for each step of the setup


@contextlib.asynccontextmanager
async def running(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the siege; killed at the end if it still runs."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, env=environ, limit=64 * LONGEST_LINE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> bytes:
    """End a process; return its output."""
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate(b"")
    return out


async def besieged(plan: Plan) -> list[str]:
    """Run the plan and print the measurements; return the broken promises."""
    async with contextlib.AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(bridged())
        good = await stack.enter_async_context(running("tests.siege.good", str(bridge.port), str(plan.good)))
        publisher = Publisher(bridge, plan)
        publishing = [asyncio.create_task(work()) for work in (publisher.small, publisher.large)]
        async with phase("calm", bridge, {"good": good.pid}) as calm:
            await asyncio.sleep(plan.calm)
        before = await bridge.state()
        async with contextlib.AsyncExitStack() as bad_ones:
            bad = await bad_ones.enter_async_context(running("tests.siege.bad", str(bridge.port), json.dumps(plan.bad)))
            flood = await bad_ones.enter_async_context(
                running("tests.siege.flood", str(bridge.port), str(plan.handshakes))
            )
            async with phase("siege", bridge, {"good": good.pid, "bad": bad.pid, "flood": flood.pid}) as siege:
                await asyncio.sleep(plan.seconds)
            refused = float(await ended(flood))
            during = await bridge.state()
            await ended(bad)
        await asyncio.sleep(AFTERWARDS)
        after = await bridge.state()
        publisher.stopped = True
        await asyncio.gather(*publishing)
        await asyncio.sleep(LAST_EVENTS)
        seen = json.loads(await ended(good))
    for moment, state in (("before", before), ("during", during), ("after", after)):
        print(f"{moment:8}{state}")
    print(f"flood   {refused:.0f} bad handshakes a second of {plan.handshakes} planned")
    broken = judged(plan, publisher.published, seen, [calm, siege], before, after)
    if plan.judges_time and refused < LEAST_FLOOD * plan.handshakes:
        broken.append(f"the flood reached {refused:.0f} handshakes a second: the figures are those of a smaller one")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a twentieth of it, and times are not judged")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}")
    broken = asyncio.run(besieged(SHORT if args.short else FULL))
    for line in broken:
        print(f"BROKEN  {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
