"""The servers that `make bench` compares, and how each is started."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.dialects import FLOOR, SIDECAR, Dialect
from benchmarks.load import compiled

SERVICES = Path(__file__).parent / "services"
PYTHON = sys.executable
_OPEN = {  # no limits that a benchmark would meet
    "WSBRIDGE_AUTH": "none",
    "WSBRIDGE_HOST": "127.0.0.1",
    "WSBRIDGE_HANDSHAKE_RATE": "0",
    "WSBRIDGE_MAX_CONNECTIONS_PER_USER": "0",
}


@dataclass(frozen=True)
class Contender:
    """A server. `command` gets the port and a directory for files of its own."""

    name: str
    dialect: Dialect
    command: Callable[[int, Path], list[str]]
    version: Callable[[], str]
    environment: dict[str, str] = field(default_factory=dict)
    missing: Callable[[], str] = lambda: ""  # what must be installed first
    resumes: bool = False
    redis: bool = False


def _wsbridge(name: str, *, uvloop: bool = False, redis: bool = False) -> Contender:
    loop = "import uvloop; uvloop.install(); " if uvloop else ""
    program = f"{loop}from wsbridge.cli.main import main; main(['serve'])"
    return Contender(
        name,
        SIDECAR,
        lambda _port, _directory: [PYTHON, "-c", program],
        str,
        _OPEN,
        resumes=True,
        redis=redis,
    )


def _without(*packages: str) -> str:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"the packages of requirements/bench.txt are not installed ({', '.join(absent)})" if absent else ""


def _uvicorn(port: int, _directory: Path) -> list[str]:
    options = ["--no-access-log", "--log-level=warning", "--ws-per-message-deflate=false", "--ws-ping-interval=25"]
    return [PYTHON, "-m", "uvicorn", "benchmarks.services.fastapi_service:app", "--port", str(port), *options]


CONTENDERS = [
    _wsbridge("wsbridge"),
    _wsbridge("wsbridge, Redis", redis=True),
    Contender(
        "FastAPI + uvicorn",
        SIDECAR,
        _uvicorn,
        lambda: f"{version('fastapi')} + {version('uvicorn')}",
        missing=lambda: _without("fastapi", "uvicorn"),
    ),
    Contender("C floor", FLOOR, lambda port, directory: [str(compiled("floor", directory)), str(port)], str),
]
