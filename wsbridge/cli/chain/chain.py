"""The chain: which parts there are, how they are started, and the proof that an event passes through all of them."""

import json
import secrets
import shutil
import sys
from collections.abc import Callable
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from wsbridge.cli.chain import sidecar
from wsbridge.cli.chain.kafka import Kafka, new_cluster
from wsbridge.cli.chain.parts import Parts, shipped
from wsbridge.cli.chain.ports import free_ports, is_open
from wsbridge.cli.chain.supervisor import PAUSE, Part, Supervisor
from wsbridge.cli.chain.welcome import Ports
from wsbridge.cli.commands import make_token
from wsbridge.cli.http import Unreachable, send
from wsbridge.config.env import load

TOKEN_TTL = 86_400  # seconds
_BRIDGES = 2
_PORTS = 24  # more than all parts need
_TIMEOUT = 6.0  # seconds for an answer of the backend, which waits 5 s for Kafka
_PROBE = "chain"  # a user of its own


class Chain:
    """The parts, their ports and their files in `directory`."""

    def __init__(self, parts: Parts, directory: Path) -> None:
        free = iter(free_ports(_PORTS))
        self.ports = Ports(list(islice(free, _BRIDGES)), backend=next(free), sidecar=next(free), kafka=next(free))
        self._redis, self._controller = next(free), next(free)
        self._free = free  # for the sidecars
        self._secret = secrets.token_urlsafe(48)
        self._parts = parts
        self._directory = directory
        self._resources = directory / "components"

    def token(self, user: str) -> str:
        """A token for the backend."""
        settings, _ = load({"WSBRIDGE_JWT_SECRET": self._secret})
        return make_token(settings, user, TOKEN_TTL)

    def start(self, supervisor: Supervisor, note: Callable[[str], None]) -> None:
        """Start everything. Returns when an event has come from the backend to a socket of the last bridge."""
        self._write_components()
        note("starting Kafka and a Redis")
        kafka = Kafka(
            self._parts.java, self._parts.kafka, self._directory, port=self.ports.kafka, controller=self._controller
        )
        supervisor.finish("kafka-format", kafka.format(new_cluster()))
        supervisor.start(
            Part("kafka", kafka.start(), lambda: is_open(self.ports.kafka)),
            Part("redis", self._redis_command(), lambda: is_open(self._redis)),
        )
        note("starting two bridges, the backend, and a Dapr sidecar for each")
        apps = [self._bridge(number, port) for number, port in enumerate(self.ports.bridges, 1)]
        supervisor.start(*apps, *self._sidecars(), self._backend())
        note("waiting until a task passes from the backend to a browser")
        self._prove(supervisor)

    def _write_components(self) -> None:
        self._resources.mkdir()
        manifest = shipped("k8s/dapr/pubsub-kafka.yaml").read_text(encoding="utf-8")
        text = sidecar.component(manifest, f"127.0.0.1:{self.ports.kafka}")
        (self._resources / "pubsub-kafka.yaml").write_text(text, encoding="utf-8")
        shutil.copy(shipped("k8s/dapr/resiliency.yaml"), self._resources)

    def _redis_command(self) -> list[str]:
        options = {"port": str(self._redis), "bind": "127.0.0.1", "save": "", "maxmemory-policy": "noeviction"}
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return [str(self._parts.redis), *words, "--dir", str(self._directory)]

    def _bridge(self, number: int, port: int) -> Part:
        environment = {
            "WSBRIDGE_HOST": "127.0.0.1",
            "WSBRIDGE_PORT": str(port),
            "WSBRIDGE_AUTH": "none",
            "WSBRIDGE_REDIS_URL": f"redis://127.0.0.1:{self._redis}/0",
            "WSBRIDGE_ESCAPED_HEADERS": "true",
            "WSBRIDGE_DRAIN_TIMEOUT": "1",
        }
        command = [sys.executable, "-m", "wsbridge", "serve"]
        return Part(f"bridge-{number}", command, lambda: _answers(port, "/health", HTTPStatus.OK), environment)

    def _backend(self) -> Part:
        environment = {
            "PORT": str(self.ports.backend),
            "JWT_SECRET": self._secret,
            "DAPR_HTTP_PORT": str(self.ports.sidecar),
        }
        command = [sys.executable, str(shipped("examples/tasks-backend/tasks_backend.py"))]
        return Part("backend", command, lambda: _answers(self.ports.backend, "/health", HTTPStatus.OK), environment)

    def _sidecars(self) -> list[Part]:
        access = shipped("k8s/dapr/access.yaml")
        options = (*sidecar.OF_A_BRIDGE, f"--config={access}")
        bridges = [
            self._sidecar(f"bridge-{number}-daprd", next(self._free), *options, app_port=port)
            for number, port in enumerate(self.ports.bridges, 1)
        ]
        return [*bridges, self._sidecar("backend-daprd", self.ports.sidecar, *sidecar.OF_THE_BACKEND)]

    def _sidecar(self, name: str, port: int, *options: str, app_port: int | None = None) -> Part:
        ports = sidecar.Ports(port, next(self._free), next(self._free), next(self._free))
        command = [str(self._parts.daprd), *options, *sidecar.flags(ports, self._resources, app_port)]
        path = "/v1.0/healthz/outbound"
        environment = {"DAPR_HOST_IP": "127.0.0.1"}  # other sidecars look for it there
        return Part(name, command, lambda: _answers(port, path, HTTPStatus.NO_CONTENT), environment)

    def _prove(self, supervisor: Supervisor) -> None:
        """Post a task to the backend, and wait for it at the last bridge."""
        with connect(f"ws://127.0.0.1:{self.ports.bridges[-1]}/ws?user_id={_PROBE}") as tab:
            supervisor.until(self._is_posted, "backend")
            supervisor.until(lambda: _has_come(tab), f"bridge-{_BRIDGES}")

    def _is_posted(self) -> bool:
        headers = {"authorization": f"Bearer {self.token(_PROBE)}"}
        body = json.dumps({"title": "Does the chain work?"}).encode()
        return _answers(self.ports.backend, "/api/tasks", HTTPStatus.CREATED, method="POST", body=body, headers=headers)


def _answers(port: int, path: str, status: int, **request: Any) -> bool:
    try:
        return send(f"http://127.0.0.1:{port}{path}", timeout=_TIMEOUT, **request).status == status
    except Unreachable:
        return False


def _has_come(tab: ClientConnection) -> bool:
    try:
        return b'"task_update"' in tab.recv(PAUSE, decode=False)
    except (TimeoutError, ConnectionClosed):
        return False
