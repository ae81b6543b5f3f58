"""The workflows of GitHub Actions, examined by actionlint and zizmor."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import builds, parts
from tests.release import packages
from tests.support.running import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"])


def test_workflows_pass_actionlint() -> None:
    """It has the scripts of the steps checked by shellcheck."""
    parts.required(lambda: builds.program("shellcheck"))
    packages.run(parts.required(parts.actionlint), "-shellcheck=shellcheck", "-pyflakes=", *WORKFLOWS)


def test_workflows_pass_zizmor() -> None:
    packages.run(
        Path(sys.executable).with_name("zizmor"), "--offline", "--persona=pedantic", "--no-progress", ROOT / ".github"
    )


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_actions_are_pinned_by_commit_with_their_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text(encoding="utf-8"))
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_jobs_have_their_own_rights_and_a_limit_of_time(workflow: Path) -> None:
    for name, job in jobs(workflow).items():
        assert "permissions" in job, name
        assert job["timeout-minutes"] <= 90, name


def test_release_publishes_only_after_its_check() -> None:
    found = jobs(FOLDER / "release.yml")
    first = {name for name, job in found.items() if "needs" not in job}
    assert first == {"packages"}
    assert any(step.get("run") == "make release-check" for step in found["packages"]["steps"])
    assert {name for name, job in found.items() if "id-token" in job["permissions"]} == {
        "chart",
        "image",
        "npm",
        "pypi",
    }


def test_workflows_use_no_secret_of_the_repository() -> None:
    assert not any("secrets." in workflow.read_text(encoding="utf-8") for workflow in WORKFLOWS)
