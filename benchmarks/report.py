"""The results as Markdown and as JSON."""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.scenarios import SCENARIOS, Measured, Plan, Scenario
from tests.support.running import ROOT

BUSY = 0.7  # share of its core above which the load generator may have been the bottleneck
OURS = "wsbridge"
FLOOR = "C floor"


class Results:
    """All measurements: contender, scenario, one for each round."""

    def __init__(self, contenders: Sequence[Contender], plan: Plan, absent: dict[str, str]) -> None:
        self.names = [contender.name for contender in contenders]
        self.versions = {contender.name: contender.version() for contender in contenders}
        self.plan, self.absent = plan, absent
        self._measured: dict[tuple[str, str], list[Measured]] = {}

    def add(self, contender: str, scenario: str, measured: Measured) -> None:
        self._measured.setdefault((contender, scenario), []).append(measured)

    def of(self, contender: str, scenario: str) -> list[Measured]:
        return self._measured.get((contender, scenario), [])

    def median(self, contender: str, scenario: str) -> float | None:
        """Of all rounds."""
        values = [measured.value for measured in self.of(contender, scenario)]
        return statistics.median(values) if values else None

    def is_busy(self, contender: str, scenario: str) -> bool:
        """Whether the load generator may have been the bottleneck."""
        return any(measured.load_share > BUSY for measured in self.of(contender, scenario))

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": machine(),
            "plan": dataclasses.asdict(self.plan),
            "versions": self.versions,
            "absent": self.absent,
            "results": [
                {"contender": contender, "scenario": scenario, "rounds": [dataclasses.asdict(one) for one in rounds]}
                for (contender, scenario), rounds in self._measured.items()
            ],
        }

    def as_markdown(self) -> str:
        heads = [f"{scenario.title}, {scenario.unit}" for scenario in SCENARIOS]
        lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
        for name in self.names:
            cells = [self._cell(name, scenario) for scenario in SCENARIOS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self._remarks(), ""])

    def _cell(self, name: str, scenario: Scenario) -> str:
        median, floor = self.median(name, scenario.name), self.median(FLOOR, scenario.name)
        if median is None:
            return "–"
        redis = statistics.median(measured.redis for measured in self.of(name, scenario.name))
        text = number(median) + (f" + {number(redis)}" if redis else "")
        text += f" ({median / floor:.1f} ×)" if floor and name != FLOOR and scenario.unit != "KB" else ""
        return text + (" †" if self.is_busy(name, scenario.name) else "")

    def _remarks(self) -> list[str]:
        lines = ["Median of the rounds; in brackets: how many times the C floor. With Redis: the bridge + Redis."]
        if any(self.is_busy(name, scenario.name) for name in self.names for scenario in SCENARIOS):
            lines.append(f"† The load generator used more than {BUSY:.0%} of its core.")
        lines.append(f"Versions: {', '.join(f'{name} {text}' for name, text in self.versions.items() if text)}.")
        lines += [f"Not measured: {name}: {reason}." for name, reason in self.absent.items()]
        lines.append("")
        lines.append("Where others are ahead of wsbridge:" if self._wins() else "Nobody is ahead of wsbridge.")
        lines += self._wins()
        return lines

    def _wins(self) -> list[str]:
        """Where somebody else is cheaper, the floor apart: it is not a product."""
        ours = [name for name in self.names if name.startswith(OURS)]
        lines = []
        for scenario in SCENARIOS:
            own = [median for name in ours if (median := self.median(name, scenario.name)) is not None]
            for name in self.names:
                median = self.median(name, scenario.name)
                if own and median is not None and name not in (*ours, FLOOR) and median < min(own):
                    lines.append(f"- {scenario.title}: {name} {number(median)}, wsbridge {number(min(own))}")
        return lines


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def written(results: Results, directory: Path) -> None:
    """The JSON file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bench.json").write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
