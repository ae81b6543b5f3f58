"""Bundles JavaScript that imports packages of tests/clients, for a page."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.node_modules import installed
from tests.support.running import ROOT

SOURCE = ROOT / "tests" / "clients"


def bundled(folder: Path, files: Mapping[str, str]) -> str:
    """Write the files into the folder and bundle the last one with everything that it imports."""
    (folder / "node_modules").symlink_to(installed(SOURCE))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "build.mjs").write_bytes((SOURCE / "build.mjs").read_bytes())  # it finds the packages beside itself
    command = ["node", "build.mjs", [*files][-1]]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    return (folder / "built.js").read_text(encoding="utf-8")
