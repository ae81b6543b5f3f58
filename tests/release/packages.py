"""Builds what a release publishes, and installs it as users do."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.running import ROOT

DIST = ROOT / "dist"  # the release workflow publishes what was checked
TIMEOUT = 300  # seconds for any step


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program; return its output. The test fails with that output if the program does."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert result.returncode == 0, f"{' '.join(map(str, command))}: {result.stdout[-4_000:]}{result.stderr[-4_000:]}"
    return result.stdout


def python(*arguments: str | Path) -> str:
    return run(sys.executable, "-m", *arguments)


def build() -> None:
    """Build the browser client, an sdist, a wheel from that sdist, and the npm package."""
    shutil.rmtree(DIST, ignore_errors=True)
    (DIST / "npm").mkdir(parents=True)
    python("tests.support.npm", "build")
    python("build", "--no-isolation", "--outdir", DIST / "python")
    run("npm", "pack", "--pack-destination", DIST / "npm", cwd=ROOT / "client")


def wheel() -> Path:
    (found,) = (DIST / "python").glob("*.whl")
    return found


def tarball() -> Path:
    (found,) = (DIST / "npm").glob("*.tgz")
    return found


def install(folder: Path) -> None:
    """Install the wheel with its locked dependencies, and nothing else, into a new virtual environment."""
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-I", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--require-hashes", "--requirement", ROOT / "requirements.txt")
    run(*pip, "install", "--quiet", "--no-index", wheel())
    run(*pip, "check")
