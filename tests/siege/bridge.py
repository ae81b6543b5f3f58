"""The besieged bridge: a process in production mode, whose log is not read."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.deliveries import bulk_bytes
from tests.support.running import ADMIN_TOKEN, APP_TOKEN, ROOT, SECRET, variables

PROBE = 0.02  # seconds between two looks at /healthz


@dataclass
class State:
    """What the bridge holds in memory."""

    connections: int
    descriptors: int
    tasks: int
    mebibytes: int


class Bridge:
    """One real bridge, whose log is not read."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.port = port
        self._http = http
        self.url = f"http://127.0.0.1:{port}"

    async def state(self) -> State:
        async with self._http.get(f"{self.url}/stats", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as answer:
            stats = await answer.json()
        async with self._http.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as answer:
            text = await answer.text()
        tasks = next(line.split()[1] for line in text.splitlines() if line.startswith("wsbridge_event_loop_tasks "))
        proc = Path(f"/proc/{self.process.pid}")
        resident = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return State(
            connections=stats["total_connections"],
            descriptors=len(list((proc / "fd").iterdir())),
            tasks=int(float(tasks)),
            mebibytes=int(resident.split()[1]) // 1024,
        )

    async def post(self, *events: bytes) -> None:
        """Deliver a bulk as a sidecar does: again until all of it is SUCCESS."""
        headers = {"content-type": "application/json", "dapr-api-token": APP_TOKEN}
        while True:
            async with self._http.post(
                f"{self.url}/events/task-updates", data=bulk_bytes(*events), headers=headers
            ) as answer:
                statuses = [each["status"] for each in (await answer.json())["statuses"]]
            if "DROP" in statuses:
                raise RuntimeError("the bridge drops an event of the siege; no delivery will ever be taken")
            if set(statuses) == {"SUCCESS"}:
                return
            await asyncio.sleep(PROBE)


@contextlib.asynccontextmanager
async def bridged() -> AsyncIterator[Bridge]:
    """A bridge in production mode; its log is not read after the first line."""
    reading, writing = os.pipe()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    settings = variables(
        {
            "PORT": "0",
            "JWT_SECRET": SECRET,
            "METRICS_TOKEN": ADMIN_TOKEN,
            "MAX_CONNECTIONS": "10000",
            "HISTORY_SIZE": "1",  # growing histories would hide the memory that bad peers leave in use
            "TRUSTED_PROXIES": "10.0.0.0/8",  # not loopback, so that each bad peer has its own budget
        }
    )
    with os.fdopen(reading, "rb", buffering=0) as log_of_it, os.fdopen(writing, "wb") as its_stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wsbridge", "serve", env=environ | settings, stdout=its_stdout.fileno()
        )
        its_stdout.close()
        try:
            line = b"{}"
            while "ports" not in (found := json.loads(line)):
                line = await asyncio.to_thread(log_of_it.readline)
            async with aiohttp.ClientSession() as http:
                yield Bridge(process, found["ports"][0], http)
        finally:
            process.terminate()
            await process.wait()
