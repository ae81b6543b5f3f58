"""The servers that `make bench` compares: how each is started, and what it needs."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.dialects import CENTRIFUGO, FLOOR, NCHAN, SIDECAR, SOCKET_IO, Dialect
from benchmarks.load import compiled

SERVICES = Path(__file__).parent / "services"
NODE = SERVICES / "node"
MODULES = [Path("/usr/lib/nginx/modules/ngx_nchan_module.so"), Path("/usr/lib64/nginx/modules/ngx_nchan_module.so")]
PYTHON = sys.executable
NEVER = 1_000_000  # seconds


@dataclass(frozen=True)
class Start:
    """The values for a command. The port after `port` is free as well."""

    port: int
    directory: Path  # for files of this run
    ping_seconds: float


@dataclass(frozen=True)
class Contender:
    """A server. `missing` returns what has to be installed first, or ""."""

    name: str
    dialect: Dialect
    command: Callable[[Start], list[str]]
    version: Callable[[], str] = str
    missing: Callable[[], str] = str
    environment: dict[str, str] = field(default_factory=dict)
    posts_at: int = 0  # added to the port, for requests that post events
    redis: bool = False
    receiver: bool = False  # whether another process with the same settings takes the posts
    resumes: bool = False


def _wsbridge(name: str, loop: str = "auto", *, redis: bool = False, receiver: bool = False) -> Contender:
    environment = {
        "WSBRIDGE_AUTH": "none",
        "WSBRIDGE_HOST": "127.0.0.1",
        "WSBRIDGE_HANDSHAKE_RATE": "0",
        "WSBRIDGE_LOOP": loop,
        "WSBRIDGE_MAX_CONNECTIONS_PER_USER": "0",
    }
    command = [PYTHON, "-m", "wsbridge", "serve"]
    return Contender(
        name, SIDECAR, lambda _: command, environment=environment, redis=redis, receiver=receiver, resumes=True
    )  # fmt: skip


def _uvicorn(service: str, *, own_pings: bool) -> Callable[[Start], list[str]]:
    options = [
        "--no-access-log",
        "--log-level=warning",
        "--backlog=1000",
        "--timeout-keep-alive=3600",
        "--ws-per-message-deflate=false",
    ]
    app = f"benchmarks.services.{service}:app"
    return lambda start: [
        PYTHON, "-m", "uvicorn", app, f"--port={start.port}", *options,
        f"--ws-ping-interval={NEVER if own_pings else start.ping_seconds}",
    ]  # fmt: skip


def _python_service(name: str, module: str, dialect: Dialect, package: str) -> Contender:
    return Contender(
        name, dialect, _uvicorn(module, own_pings=dialect is SOCKET_IO),
        version=lambda: f"{version(package)}, uvicorn {version('uvicorn')}",
        missing=lambda: _absent_packages("fastapi", "httptools", package.replace("python-", ""), "uvicorn", "uvloop"),
    )  # fmt: skip


def _python_floor(name: str, kind: str) -> Contender:
    return Contender(
        name, FLOOR, lambda start: [PYTHON, "-m", "benchmarks.services.floor", str(start.port), kind],
        missing=lambda: _absent_packages("uvloop"),
    )  # fmt: skip


def _websockets() -> Contender:
    module = "benchmarks.services.websockets_service"
    return Contender(
        "websockets broadcast", SIDECAR,
        lambda start: [PYTHON, "-m", module, str(start.port), str(start.ping_seconds)],
        version=lambda: version("websockets"), missing=lambda: _absent_packages("uvloop"), posts_at=1,
    )  # fmt: skip


def _node(name: str, program: str, dialect: Dialect, package: str) -> Contender:
    def installed() -> str:
        manifest = NODE / "node_modules" / package / "package.json"
        return subprocess.run(
            ["node", "-p", f"require('{manifest}').version + ', Node ' + process.version"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    return Contender(
        name, dialect,
        lambda start: ["node", str(NODE / program), str(start.port), str(start.ping_seconds)],
        version=installed, missing=_absent_node,
    )  # fmt: skip


def _nchan(start: Start) -> list[str]:
    values = {
        "DESCRIPTORS": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "DIRECTORY": str(start.directory),
        "MODULE": str(next(path for path in MODULES if path.exists())),
        "PING": f"{max(1, start.ping_seconds):.0f}",
        "PORT": str(start.port),
    }
    text = (SERVICES / "nchan.conf").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    configuration = start.directory / "nginx.conf"
    configuration.write_text(text, encoding="utf-8")
    return [_nginx(), "-c", str(configuration), "-e", "stderr"]


def _nginx() -> str:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


def _nginx_version() -> str:
    return (
        subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].strip()
    )


def _absent_nchan() -> str:
    is_there = _nginx() and any(path.exists() for path in MODULES)
    return "" if is_there else "nginx with nchan is not installed (Debian's package libnginx-mod-nchan)"


def _centrifugo(start: Start) -> list[str]:
    configuration = json.loads((SERVICES / "centrifugo.json").read_text(encoding="utf-8"))
    configuration["http_server"]["port"] = str(start.port)
    pings = {"ping_interval": f"{start.ping_seconds}s", "pong_timeout": f"{start.ping_seconds / 2}s"}
    configuration["client"] |= pings
    target = start.directory / "centrifugo.json"
    target.write_text(json.dumps(configuration), encoding="utf-8")
    return ["centrifugo", "--config", str(target)]


def _centrifugo_version() -> str:
    return subprocess.run(["centrifugo", "version"], capture_output=True, text=True, check=True).stdout.split()[1]


def _absent_packages(*packages: str) -> str:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"packages of requirements/bench.txt are not installed ({', '.join(absent)})" if absent else ""


def _absent_node() -> str:
    """Install the packages of the lock file, unless they are installed. Return a reason if that is impossible."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "Node.js and npm are not installed"
    lock, copy = NODE / "package-lock.json", NODE / "node_modules" / ".installed"
    if not copy.exists() or copy.read_bytes() != lock.read_bytes():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        if subprocess.run(command, cwd=NODE, check=False).returncode:
            return "`npm ci` failed"
        shutil.copy(lock, copy)
    return ""


CONTENDERS = [
    _wsbridge("wsbridge"),
    _wsbridge("wsbridge, asyncio's loop", "asyncio"),
    _wsbridge("wsbridge, Redis", redis=True),
    _wsbridge("wsbridge, two replicas", redis=True, receiver=True),
    _python_service("FastAPI", "fastapi_service", SIDECAR, "fastapi"),
    Contender(
        "aiohttp", SIDECAR,
        lambda start: [
            PYTHON, "-m", "benchmarks.services.aiohttp_service", str(start.port), str(start.ping_seconds)
        ],
        version=lambda: version("aiohttp"),
    ),
    _websockets(),
    _python_service("python-socketio", "socketio_service", SOCKET_IO, "python-socketio"),
    _node("Node ws", "ws.js", SIDECAR, "ws"),
    _node("Socket.IO", "socketio.js", SOCKET_IO, "socket.io"),
    Contender("nchan", NCHAN, _nchan, version=lambda: f"nginx {_nginx_version()}", missing=_absent_nchan),
    Contender(
        "Centrifugo", CENTRIFUGO, _centrifugo, version=_centrifugo_version,
        missing=lambda: "" if shutil.which("centrifugo") else "centrifugo is not in PATH",
    ),
    _python_floor("Python floor", "sockets"),
    _python_floor("Python floor, asyncio's transports", "asyncio"),
    _python_floor("Python floor, uvloop's transports", "uvloop"),
    Contender("C floor", FLOOR, lambda start: [str(compiled("floor", start.directory)), str(start.port)]),
]  # fmt: skip
