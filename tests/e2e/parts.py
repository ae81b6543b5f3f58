"""Where the parts come from that pip does not bring: installed, or built once and kept outside the repository."""

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


class Missing(Exception):  # noqa: N818 - a part, not an error
    """A part cannot be had on this machine; the text says in one line which and why."""


def required(part: Callable[[], Path]) -> Path:
    """What it returns; without it the test is skipped, or fails where all tests have to run."""
    try:
        return part()
    except Missing as missing:
        if os.environ.get("REQUIRE_ALL_TESTS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@functools.cache
def daprd() -> Path:
    """The sidecar, as `dapr init` installs it or else built from the module beside this file."""
    for found in (shutil.which("daprd"), Path.home() / ".dapr" / "bin" / "daprd"):
        if found and Path(found).is_file():
            return Path(found)
    module = HERE / "daprd"
    version = _found(r"github.com/dapr/dapr v(\S+)", module / "go.mod")
    kept = CACHE / f"daprd-{version}-{_digest(*module.iterdir())}"

    def build(scratch: Path) -> Path:
        flags = f"-s -w -X {_BUILDINFO}.version={version}"
        _run("go", "build", "-o", f"{scratch}/daprd", "-ldflags", flags, ".", cwd=module)
        return scratch / "daprd"

    return _kept(kept, build)


@functools.cache
def kafka() -> Path:
    """The folder of a broker's jars: of the Kafka at $KAFKA_HOME, or else from Maven Central."""
    java()
    if home := os.environ.get("KAFKA_HOME"):
        return Path(home) / "libs"
    pom = HERE / "kafka.xml"
    version = _found(r"kafka_2.13</artifactId>\s*<version>(.+?)<", pom)
    kept = CACHE / f"kafka-{version}-{_digest(pom)}"

    def fetch(scratch: Path) -> Path:
        _run("mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars")
        return scratch / "jars"

    return _kept(kept, fetch)


@functools.cache
def java() -> Path:
    return _program("java")


def _program(name: str) -> Path:
    if found := shutil.which(name):
        return Path(found)
    raise Missing(f"{name} is not in PATH")


def _run(name: str, *arguments: str, cwd: Path = HERE) -> None:
    command = [str(_program(name)), *arguments]
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


def _kept(kept: Path, make: Callable[[Path], Path]) -> Path:
    """It; if it is not there, `make` makes it in a folder beside it, in one process at a time."""
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


def _digest(*paths: Path) -> str:
    """Of the files that a part is built from."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:8]
