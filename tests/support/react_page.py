"""The page in tests/react_page, which uses the client's adapters, built by Vite."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.support.node_modules import installed
from tests.support.running import ROOT

SOURCE = ROOT / "tests" / "react_page"


def project(folder: Path) -> Path:
    """Copy the page's sources to a new folder, with everything that they need."""
    modules = installed(SOURCE)
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").mkdir()
    for each in modules.iterdir():
        (folder / "node_modules" / each.name).symlink_to(each)
    _install_client(folder)
    return folder


def built(project: Path, react: str, mode: str = "development") -> Path:
    """Build the page with a version of React: for development, where StrictMode has an effect, or for production."""
    folder = project / f"{mode}-{react}"
    vite = project / "node_modules" / ".bin" / "vite"
    _run(vite, "build", "--logLevel", "error", "--outDir", folder, cwd=project, REACT=react, MODE=mode)
    return folder


def _install_client(project: Path) -> None:
    """Install the output of `npm pack`, as users of the package would, without the types."""
    _run("npm", "pack", "--ignore-scripts", "--pack-destination", project, cwd=ROOT / "client")
    (tarball,) = project.glob("*.tgz")
    with tarfile.open(tarball) as tar:
        tar.extractall(project, filter="data")
    (project / "package").rename(project / "node_modules" / "wsbridge-client")


def _run(*command: str | Path, cwd: Path, **environ: str) -> None:
    result = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1"} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {result.stdout}{result.stderr}")
