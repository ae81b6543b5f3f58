"""`python -m tests.autobahn`: the cases of Autobahn's test suite against aiohttp, and `/ws` on each event loop.

Exits with 1 if the bridge neither passes a case nor does as well in it as aiohttp. All verdicts are in
`build/autobahn.json`.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator

from tests.autobahn import cases, client
from tests.autobahn.verdicts import summary, worse
from tests.support.running import ROOT
from wsbridge.supervision import event_loop

REPORT = ROOT / "build" / "autobahn.json"
PATIENCE = 20.0  # seconds for a server to start
LONGEST = 120.0  # seconds for all cases of one server
CASES = 301  # of the locked version; fewer would be a fault of `cases`
SETTINGS = {
    "WSBRIDGE_HOST": "127.0.0.1",
    "WSBRIDGE_PORT": "0",
    "WSBRIDGE_AUTH": "none",
    "WSBRIDGE_DRAIN_TIMEOUT": "1",
    "WSBRIDGE_MAX_CONNECTIONS_PER_USER": "0",  # all cases are of one user
}
SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    "aiohttp": ("tests.autobahn.aiohttp_echo", {}),
    "wsbridge, asyncio": ("tests.autobahn.echo", SETTINGS | {"WSBRIDGE_LOOP": "asyncio"}),
    "wsbridge, uvloop": ("tests.autobahn.echo", SETTINGS | {"WSBRIDGE_LOOP": "uvloop"}),
}


@contextlib.asynccontextmanager
async def served(module: str, settings: dict[str, str]) -> AsyncIterator[int]:
    """Run a server in a process of its own; the value is its port. An error in its log ends the run."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | settings
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while "ports" not in (found := json.loads(await process.stdout.readline())):
                pass
        reading = asyncio.create_task(process.stdout.read())
        yield found["ports"][0]
    finally:
        process.terminate()
        await process.wait()
    errors = [line for line in (await reading).splitlines() if json.loads(line)["level"] == "error"]
    if errors:
        raise RuntimeError(f"errors in the log of {module}, such as {errors[0]!r}")


async def verdicts(name: str, found: dict[str, type]) -> dict[str, client.Verdict]:
    module, settings = SERVERS[name]
    begin = time.monotonic()
    async with served(module, settings) as port, asyncio.timeout(LONGEST):
        result = await client.run_all(f"ws://127.0.0.1:{port}/ws?user_id=u1", found)
    print(f"{name}: {summary(result)}; {time.monotonic() - begin:.0f} s", flush=True)
    return result


async def main() -> int:
    found = cases.load()
    assert len(found) == CASES, len(found)
    all_of = {name: await verdicts(name, found) for name in SERVERS}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(all_of, indent=1))
    theirs = all_of.pop("aiohttp")
    lines = [f"{name}: {line}" for name, ours in all_of.items() for line in worse(ours, theirs)]
    for line in lines:
        print(f"WORSE  {line}")
    print(f"{len(found) * len(all_of) - len(lines)} passed, {len(lines)} failed")
    return 1 if lines else 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop.factory("auto")) as runner:
        sys.exit(runner.run(main()))
