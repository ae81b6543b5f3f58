"""All measurements of a run, with medians, ratios and spreads."""

import dataclasses
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any, Self

from benchmarks.plan import AT_SCALE, SCENARIOS, Measured, Plan, Scenario
from tests.support.running import ROOT

BUSY = 0.7  # share of its core above which the load generator may have been the bottleneck
OURS = "wsbridge"
FLOOR = "C floor"


def is_floor(name: str) -> bool:
    """Whether the contender does nothing but the system calls. There are several in Python."""
    return name.startswith((FLOOR, "Python floor"))


class Results:
    """One measurement for each contender, scenario and round."""

    def __init__(self, versions: dict[str, str], plan: Plan, absent: dict[str, str], about: dict[str, str]) -> None:
        """`versions` has every measured contender; `absent` has the reason for each one that is not measured."""
        self.names = list(versions)
        self.versions, self.plan, self.absent, self.about = versions, plan, absent, about
        self.failures: dict[str, str] = {}  # contender → reason
        self._rounds: dict[tuple[str, str], list[Measured]] = {}

    def add(self, contender: str, scenario: str, measured: Measured) -> None:
        self._rounds.setdefault((contender, scenario), []).append(measured)

    def typical(self, contender: str, scenario: str) -> Measured | None:
        """The median of each number."""
        rounds = [dataclasses.astuple(measured) for measured in self._rounds.get((contender, scenario), [])]
        return Measured(*map(statistics.median, zip(*rounds, strict=True))) if rounds else None

    def spread(self, contender: str, scenario: str) -> float:
        """The difference between the greatest and the least value, as a part of the median."""
        values = [measured.value for measured in self._rounds.get((contender, scenario), [])]
        return (max(values) - min(values)) / statistics.median(values) if values and any(values) else 0.0

    def ratio(self, contender: str, scenario: Scenario, to: str) -> float | None:
        """The contender's value as a multiple of the value of `to`."""
        own, other = self.typical(contender, scenario.name), self.typical(to, scenario.name)
        return own.value / other.value if own and other and other.value else None

    def is_busy(self, contender: str, scenario: str) -> bool:
        """Whether the load generator may have been the bottleneck."""
        return any(measured.load_share > BUSY for measured in self._rounds.get((contender, scenario), []))

    def ahead(self) -> list[tuple[Scenario, float, list[tuple[str, float]]]]:
        """Scenarios in which others are better than every wsbridge: our best value, the better ones in order."""
        found = []
        for scenario in (*SCENARIOS, *AT_SCALE):
            values = [(name, one.value) for name in self.names if (one := self.typical(name, scenario.name))]
            ours = min((value for name, value in values if name.startswith(OURS)), default=0.0)
            better = [(name, value) for name, value in values if value < ours and not is_floor(name)]
            if better:
                found.append((scenario, ours, sorted(better, key=lambda one: one[1])))
        return found

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of `as_json`."""
        results = cls(content["versions"], Plan(**content["plan"]), content["absent"], content["machine"])
        results.failures.update(content["failures"])
        for entry in content["results"]:
            for measured in entry["rounds"]:
                results.add(entry["contender"], entry["scenario"], Measured(**measured))
        return results

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.about,
            "plan": dataclasses.asdict(self.plan),
            "versions": self.versions,
            "absent": self.absent,
            "failures": self.failures,
            "results": [
                {"contender": contender, "scenario": scenario, "rounds": [dataclasses.asdict(one) for one in rounds]}
                for (contender, scenario), rounds in self._rounds.items()
            ],
        }


def machine() -> dict[str, str]:
    """The hardware and software on which the numbers depend."""
    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }
