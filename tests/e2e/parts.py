"""Finds the programs that pip does not install, or builds them once in a cache outside the repository."""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.builds import CACHE, Missing, cached, program, run
from wsbridge.cli.chain.parts import find_daprd, kafka_home

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DAPRD, POM = HERE / "daprd", HERE / "kafka.xml"
CURES = {
    "java": "apt-get install default-jre-headless",
    "mvn": "apt-get install maven, or set KAFKA_HOME to the folder of a Kafka",
    "go": "https://go.dev/dl has it (1.21 or newer), or put a daprd in PATH",
}
_BUILDINFO = "github.com/dapr/dapr/pkg/buildinfo"
log = logging.getLogger(__name__)
# Folder beside this file, and a module in its go.mod → the module's files that define custom resources
_DEFINITIONS = {
    ("daprd", "github.com/dapr/dapr"): ["charts/dapr/crds/*.yaml"],
    ("definitions", "github.com/kedacore/keda/v2"): ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    ("definitions", "github.com/prometheus-operator/prometheus-operator"): [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kinds}.yaml"
        for kinds in ("podmonitors", "prometheusrules")
    ],
    ("definitions", "sigs.k8s.io/gateway-api"): ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
}


def required(part: Callable[[], Path]) -> Path:
    """Return the part; if it is missing, skip the test, or fail if REQUIRE_ALL_TESTS is set."""
    try:
        return part()
    except Missing as missing:
        import pytest  # noqa: PLC0415 - `make chain` builds parts too, and installs no tools of the tests

        if os.environ.get("REQUIRE_ALL_TESTS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


def missing() -> list[str]:
    """A line for each program that is missing to find or build all parts, with the way to get it."""
    needed = ["java"]
    needed += [] if kafka_home(os.environ) or _kafka_cache().exists() else ["mvn"]
    needed += [] if find_daprd() or _daprd_cache().exists() else ["go"]
    return [f"{name} is not in PATH: {CURES[name]}" for name in needed if shutil.which(name) is None]


@functools.cache
def actionlint() -> Path:
    """The linter of GitHub's workflows, built from the module beside this file."""
    return _tools("actionlint") / "actionlint"


@functools.cache
def daprd() -> Path:
    """The sidecar: installed by `dapr init`, or built from the module beside this file."""
    if found := find_daprd():
        return found
    kept = _daprd_cache()

    def build(scratch: Path) -> Path:
        log.info("%s is built once with Go, which takes minutes and downloads 180 MB.", kept.name)
        flags = f"-s -w -X {_BUILDINFO}.version={_daprd_version()}"
        run("go", "build", "-v", "-o", f"{scratch}/daprd", "-ldflags", flags, ".", cwd=DAPRD)
        return scratch / "daprd"

    return cached(kept, build)


@functools.cache
def control_plane() -> Path:
    """The folder of `placement` and `scheduler`, which Dapr's workflows need, built from the same module."""
    return _tools("daprd", f"-X {_BUILDINFO}.version={_daprd_version()}")


def _daprd_version() -> str:
    return _found(r"github.com/dapr/dapr v(\S+)", DAPRD / "go.mod")


def _daprd_cache() -> Path:
    return CACHE / f"daprd-{_daprd_version()}-{digest(*DAPRD.iterdir())}"


@functools.cache
def compose() -> Path:
    """The reference implementation's reader of Compose files, built from the module beside this file."""
    module = HERE / "compose"
    kept = CACHE / f"compose-{digest(*module.iterdir())}"

    def build(scratch: Path) -> Path:
        log.info("%s is built once with Go.", kept.name)
        run("go", "build", "-o", f"{scratch}/compose", ".", cwd=module)
        return scratch / "compose"

    return cached(kept, build)


@functools.cache
def helm() -> Path:
    """Helm: an installed one, or built from the module beside this file."""
    found = shutil.which("helm")
    return Path(found) if found else _tools("helm") / "helm"


@functools.cache
def kubernetes() -> Path:
    """The folder of kube-apiserver and kubectl, built from the module beside this file."""
    version = _found(r"k8s.io/kubernetes v(\S+)", HERE / "kubernetes" / "go.mod")
    major, minor, _ = version.split(".")
    names = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return _tools("kubernetes", *(f"-X k8s.io/component-base/version.{name}={text}" for name, text in names.items()))


@functools.cache
def envoy() -> Path:
    """The proxy: an installed one, or the real program in a wheel."""
    if found := shutil.which("envoy"):
        return Path(found)
    return python_packages("envoy") / "envoy" / "_bin" / "envoy"


@functools.cache
def python_packages(name: str) -> Path:
    """The folder with the packages of this lock file for this Python."""
    lock = ROOT / "requirements" / f"{name}.txt"

    def install(scratch: Path) -> Path:
        log.info("The packages of %s are installed once.", lock.name)
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes")
        run(sys.executable, "-m", "pip", "install", *options, "--target", f"{scratch}/site", "-r", str(lock))
        return scratch / "site"

    return cached(CACHE / f"{name}-{sys.implementation.cache_tag}-{digest(lock)}", install)


@functools.cache
def etcd() -> Path:
    """The database of kube-apiserver: Debian's package `etcd-server`."""
    return program("etcd")


@functools.cache
def definitions() -> Path:
    """The folder of the files that define the custom resources of `k8s` and of the chart."""

    def fetch(scratch: Path) -> Path:
        (scratch / "files").mkdir()
        for (module, name), files in _DEFINITIONS.items():
            source = _source(HERE / module, name)
            for path in (path for file in files for path in source.glob(file)):
                shutil.copy(path, scratch / "files")
        return scratch / "files"

    sums = (HERE / module / "go.sum" for module, _ in _DEFINITIONS)
    return cached(CACHE / f"definitions-{digest(Path(__file__), *sums)}", fetch)


def _source(folder: Path, name: str) -> Path:
    """The folder of the files of a module that the go.mod in `folder` names. The go.sum beside it has their hash."""
    version = _found(rf"{re.escape(name)} (v\S+)", folder / "go.mod")
    command = [str(program("go")), "mod", "download", "-json", f"{name}@{version}"]
    found = json.loads(subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False).stdout or "{}")
    if "Dir" not in found:
        raise Missing(f"{name} {version} cannot be downloaded: {found.get('Error')}")
    return Path(found["Dir"])


@functools.cache
def kafka() -> Path:
    """The folder of a broker's jars: from the Kafka at $KAFKA_HOME, or from Maven Central."""
    java()
    if home := kafka_home(os.environ):
        return home
    kept = _kafka_cache()

    def fetch(scratch: Path) -> Path:
        log.info("%s is fetched once with Maven: 43 MB.", kept.name)
        run("mvn", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars")
        return scratch / "jars"

    return cached(kept, fetch)


def _kafka_cache() -> Path:
    version = _found(r"kafka_2.13</artifactId>\s*<version>(.+?)<", POM)
    return CACHE / f"kafka-{version}-{digest(POM)}"


@functools.cache
def java() -> Path:
    return program("java")


def _tools(module: str, *flags: str) -> Path:
    """The folder of the programs that are the tools of a Go module beside this file; `flags` are for its linker."""
    folder = HERE / module
    packages = re.findall(r"^\t?(?:tool )?(\S+/cmd/\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    kept = CACHE / f"{module}-{digest(*folder.iterdir())}"

    def build(scratch: Path) -> Path:
        log.info("%s is built once with Go.", kept.name)
        run("go", "build", "-o", f"{scratch}/bin/", "-ldflags", " ".join(["-s", "-w", *flags]), *packages, cwd=folder)
        return scratch / "bin"

    return cached(kept, build)


def _found(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text())
    assert found, (pattern, path)
    return found[1]


def digest(*paths: Path) -> str:
    """A digest of the files from which a part is built."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:8]
