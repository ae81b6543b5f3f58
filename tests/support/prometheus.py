"""A real Prometheus with the shipped rules, which does not outlive its test. Debian's package `prometheus` has it."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import yaml

from tests.support.manifests import K8S, documents
from tests.support.running import until_told
from tests.support.valkey import free_port

MONITORING = K8S / "monitoring"
BUSY = {  # alerts that a busy machine may cause
    "WsbridgeCheckFailing",  # of Redis: a late reply is enough where its two minutes are less than a second
    "WsbridgeDown",
    "WsbridgeEventLoopSlow",
    "WsbridgeEventsSlowFastBurn",
    "WsbridgeEventsSlowSlowBurn",
    "WsbridgeRedisSlow",
}
SCRAPE, EVALUATION, FASTER = 0.25, 0.25, 200  # seconds; the durations in the rules are divided by the last
SHORTEST = 2.0  # seconds of a range, after the division: a rate needs several scrapes


def command(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    found = shutil.which(name)
    if found is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    return found


def promtool(*arguments: str, text: str = "") -> str:
    """Run promtool. Returns its output; fails if it complains."""
    done = subprocess.run([command("promtool"), *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> dict[str, Any]:
    """The groups of rules, as a Prometheus without the operator reads them."""
    [document] = documents(MONITORING / "rules.yaml")
    return dict(document["spec"])


def seconds(duration: str) -> float:
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[duration[-1]]


def faster(groups: dict[str, Any], by: float) -> str:
    """The rules with shorter durations, so that an alert fires within a test."""

    def shorter(duration: str) -> str:
        return f"{max(SHORTEST, seconds(duration) / by) * 1_000:.0f}ms"

    for group in groups["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(?<=\[)\w+(?=\])|(?<=offset )\w+", lambda found: shorter(found[0]), rule["expr"])
            if "for" in rule:
                rule["for"] = f"{seconds(rule['for']) / by * 1_000:.0f}ms"
    return yaml.safe_dump(groups)


class Prometheus:
    """One process: `async with Prometheus(tmp_path, {"websocket-service": [port]})`. Jobs → ports on loopback."""

    def __init__(self, directory: Path, jobs: Mapping[str, list[int]], *, faster_by: float = FASTER) -> None:
        self.port = free_port()
        self._faster_by = faster_by
        self._directory = directory / f"prometheus-{self.port}"
        self._jobs = jobs
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._directory.mkdir()
        (self._directory / "rules.yaml").write_text(faster(rules(), self._faster_by), encoding="utf-8")
        (self._directory / "prometheus.yaml").write_text(yaml.safe_dump(self._config()), encoding="utf-8")
        with (self._directory / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                command("prometheus"),
                f"--config.file={self._directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]},
            )
        self._http = await aiohttp.ClientSession().__aenter__()
        try:
            await until_told(self._is_ready)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that the expression has now."""
        answer = await self._get("query", query=expression)
        assert answer["status"] == "success", (expression, answer)
        return list(answer["data"]["result"])

    async def value(self, expression: str) -> float:
        """The value of an expression that has one series."""
        [found] = await self.query(expression)
        return float(found["value"][1])

    async def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = (await self._get("alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def fires(self, alert: str) -> None:
        """Wait until the alert fires."""

        async def is_firing() -> bool:
            return alert in await self.firing()

        await until_told(is_firing)

    async def _is_ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return bool(await self.query("up == 1"))
        return False

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        async with self._http.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=query) as response:
            return dict(await response.json())

    def _config(self) -> dict[str, Any]:
        return {
            "global": {
                "scrape_interval": f"{SCRAPE * 1_000:.0f}ms",
                "scrape_timeout": f"{SCRAPE * 1_000:.0f}ms",
                "evaluation_interval": f"{EVALUATION * 1_000:.0f}ms",
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [
                        {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"namespace": "default"}}
                    ],
                }
                for job, ports in self._jobs.items()
            ],
        }


def queries(*, dapr: bool) -> dict[str, str]:
    """Panel → query of the dashboard, for a Prometheus that scrapes often: those on Dapr's metrics, or the others."""
    board = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if ("dapr_" in target["expr"]) is dapr
    }
    variables = {"$instance": ".*", "$app_id": ".*", "$__rate_interval": "3s", "$__range": "1m"}
    for name, value in variables.items():
        found = {panel: query.replace(name, value) for panel, query in found.items()}
    return found
