"""Finds the programs that pip does not install, or builds them once in a cache outside the repository."""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "wsbridge-tests"
_BUILD_TIMEOUT = 1_800  # seconds
_BUILDINFO = "github.com/dapr/dapr/pkg/buildinfo"


class Missing(Exception):  # noqa: N818 - names a missing program
    """A program is missing on this machine; the text names it and the reason in one line."""


def required(part: Callable[[], Path]) -> Path:
    """Return the part; if it is missing, skip the test, or fail if REQUIRE_ALL_TESTS is set."""
    try:
        return part()
    except Missing as missing:
        if os.environ.get("REQUIRE_ALL_TESTS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@functools.cache
def daprd() -> Path:
    """The sidecar: installed by `dapr init`, or built from the module beside this file."""
    for found in (shutil.which("daprd"), Path.home() / ".dapr" / "bin" / "daprd"):
        if found and Path(found).is_file():
            return Path(found)
    module = HERE / "daprd"
    version = _found(r"github.com/dapr/dapr v(\S+)", module / "go.mod")
    kept = CACHE / f"daprd-{version}-{digest(*module.iterdir())}"

    def build(scratch: Path) -> Path:
        flags = f"-s -w -X {_BUILDINFO}.version={version}"
        run("go", "build", "-o", f"{scratch}/daprd", "-ldflags", flags, ".", cwd=module)
        return scratch / "daprd"

    return cached(kept, build)


@functools.cache
def helm() -> Path:
    """Helm: an installed one, or built from the module beside this file."""
    found = shutil.which("helm")
    return Path(found) if found else _tools("helm") / "helm"


@functools.cache
def kafka() -> Path:
    """The folder of a broker's jars: from the Kafka at $KAFKA_HOME, or from Maven Central."""
    java()
    if home := os.environ.get("KAFKA_HOME"):
        return Path(home) / "libs"
    pom = HERE / "kafka.xml"
    version = _found(r"kafka_2.13</artifactId>\s*<version>(.+?)<", pom)
    kept = CACHE / f"kafka-{version}-{digest(pom)}"

    def fetch(scratch: Path) -> Path:
        run("mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars")
        return scratch / "jars"

    return cached(kept, fetch)


@functools.cache
def java() -> Path:
    return program("java")


def program(name: str) -> Path:
    if found := shutil.which(name):
        return Path(found)
    raise Missing(f"{name} is not in PATH")


def _tools(module: str) -> Path:
    """The folder of the programs that are the tools of a Go module beside this file."""
    folder = HERE / module
    packages = re.findall(r"^\t?(?:tool )?(\S+/cmd/\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)

    def build(scratch: Path) -> Path:
        run("go", "build", "-o", f"{scratch}/bin/", "-ldflags", "-s -w", *packages, cwd=folder)
        return scratch / "bin"

    return cached(CACHE / f"{module}-{digest(*folder.iterdir())}", build)


def run(name: str, *arguments: str, cwd: Path = HERE) -> None:
    command = [str(program(name)), *arguments]
    result = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_TIMEOUT,
        env=os.environ | {"CGO_ENABLED": "0"},
    )
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise Missing(f"{' '.join([name, *arguments[:1]])} failed: {lines[-1] if lines else result.returncode}")


def cached(kept: Path, make: Callable[[Path], Path]) -> Path:
    """Return the path; if it is missing, `make` creates it first. Only one process does so at a time."""
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                make(Path(scratch)).replace(kept)
    return kept


def _found(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text())
    assert found, (pattern, path)
    return found[1]


def digest(*paths: Path) -> str:
    """A digest of the files from which a part is built."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:8]
