"""compose.yaml without containers: what it says, and its programs with host names and paths mapped to this machine."""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e import parts
from tests.e2e.process import PATIENCE, Log, Process, settled
from tests.support.running import ROOT
from tests.support.shell import output, run
from wsbridge.cli.chain import kafka
from wsbridge.cli.chain.ports import free_port, is_open
from wsbridge.cli.chain.sidecar import Ports, flags

FILE = ROOT / "compose.yaml"
PROFILES = {
    "single": ["bridge"],
    "redis": ["bridge-1", "bridge-2"],
    "groups": ["bridge-a", "bridge-b"],
}  # profile → its bridges
TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}  # commands of the image → their classes


@functools.cache
def services(profile: str, file: Path = FILE) -> dict[str, Any]:
    """The services of a profile. Raises `ValueError` if the file does not match the schema of Compose."""
    command = [str(parts.required(parts.compose)), str(file), profile]
    environment = {name: value for name, value in os.environ.items() if name != "JWT_SECRET"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ValueError(done.stderr)
    return dict(json.loads(done.stdout)["services"])


def kafka_property(variable: str) -> str:
    """As the image of Kafka reads a variable of its environment."""
    return variable.removeprefix("KAFKA_").lower().replace("_", ".")


class Composed:
    """The programs of a profile. Each service's files and ports are those of this machine."""

    def __init__(self, profile: str, directory: Path, redis: str, http: aiohttp.ClientSession) -> None:
        """`redis` is the address of the server that is `valkey` in the file."""
        self.services = services(profile)
        self.bridges = {name: free_port() for name in PROFILES[profile]}
        self.backend, self.publisher, self.kafka = free_port(), Ports.free(), free_port()
        self._hosts = {"kafka:9092": f"127.0.0.1:{self.kafka}", "valkey:6379": redis}
        self._directory = directory
        self._http = http
        self._stack = contextlib.ExitStack()

    async def start(self) -> None:
        """Start the services in the order of `depends_on`, each with its own command and environment."""
        await self.start_kafka()
        await self.initialise()
        for bridge, port in self.bridges.items():
            own = {"WSBRIDGE_HOST": "127.0.0.1", "WSBRIDGE_PORT": str(port)}
            self._start(bridge, [sys.executable, "-m", "wsbridge", "serve"], own)
            await settled(functools.partial(self._is_healthy, bridge, own))
        folders = self._mounted()
        for bridge, port in self.bridges.items():
            await self._start_sidecar(f"{bridge}-sidecar", folders, Ports.free(), app_port=port)
        await self._start_sidecar("backend-sidecar", folders, self.publisher)
        own = {"HOST": "127.0.0.1", "PORT": str(self.backend), "DAPR_HTTP_PORT": str(self.publisher.http)}
        self._start("backend", [sys.executable, str(self._source("backend", "/opt/tasks_backend.py"))], own)
        await settled(functools.partial(self._is_healthy, "backend", own))

    def end(self) -> None:
        self._stack.close()

    def environment(self, service: str) -> dict[str, str]:
        return {name: self._mapped(value) for name, value in self.services[service].get("environment", {}).items()}

    async def initialise(self) -> str:
        """Run the job that makes the topic and commits the offsets; return its output."""
        shell, script, *groups = self.services["kafka-init"]["command"]
        environment = self.environment("kafka-init") | {"KAFKA_BIN": str(self._directory)}
        return await output(shell, self._source("kafka-init", script), *groups, within=PATIENCE, env=environment)

    async def start_kafka(self) -> None:
        """Start Kafka with the properties that its image would make of the environment."""
        java, jars = parts.required(parts.java), parts.required(parts.kafka)
        for tool, program in TOOLS.items():
            (self._directory / tool).write_text(f"#!/bin/sh\nexec {java} -cp '{jars}/*' {program} \"$@\"\n")
            (self._directory / tool).chmod(0o755)
        controller = free_port()
        commands = kafka.Kafka(java, jars, self._directory, port=self.kafka, controller=controller)
        properties = {
            kafka_property(name): value.replace(":9093", f":{controller}").replace(":9092", f":{self.kafka}")
            for name, value in self.services["kafka"]["environment"].items()
        }
        properties["log.dirs"] = str(self._directory / "data")
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        text = text.replace("kafka:", "127.0.0.1:").replace("=BROKER://:", "=BROKER://127.0.0.1:")
        (self._directory / "server.properties").write_text(text.replace(",CONTROLLER://:", ",CONTROLLER://127.0.0.1:"))
        await output(*commands.format(kafka.new_cluster()), within=PATIENCE)
        process = self._started("kafka", commands.start(), {})

        async def accepts() -> bool:
            assert process.running, process.last_lines()
            return is_open(self.kafka)

        await settled(accepts)

    def _start(self, service: str, command: Sequence[str], own: Mapping[str, str]) -> None:
        self._started(service, command, self.environment(service) | dict(own))

    def _started(self, service: str, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        process = Process(command, Log(self._directory / f"{service}.log"), environment)
        self._stack.callback(process.kill)
        return process

    async def _is_healthy(self, service: str, own: Mapping[str, str]) -> bool:
        """Run the health check of the service, whose command must be one of wsbridge."""
        kind, name, *words = self.services[service]["healthcheck"]["test"]
        assert (kind, name) == ("CMD", "wsbridge")
        words = [word.replace("127.0.0.1:8000", f"127.0.0.1:{self.backend}") for word in words]
        environment = self.environment(service) | dict(own)
        return (await run(sys.executable, "-m", "wsbridge", *words, env=environment)).code == 0

    async def _start_sidecar(
        self, service: str, folders: Mapping[str, Path], ports: Ports, app_port: int | None = None
    ) -> None:
        _, *given = self.services[service]["command"]
        text = "\n".join(flag for flag in given if not re.match("--(app-port|.*-listen-address)", flag))
        for target, folder in folders.items():
            text = text.replace(f"={target}", f"={folder}")
        listens = [flag for flag in flags(ports, Path(), app_port) if not flag.startswith("--resources-path")]
        command = [str(parts.required(parts.daprd)), *text.split("\n"), *listens]
        self._start(service, command, {"DAPR_HOST_IP": "127.0.0.1"})

        async def is_ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with self._http.get(f"http://127.0.0.1:{ports.http}/v1.0/healthz/outbound") as answer:
                    return answer.status == 204
            return False

        await settled(is_ready)

    def _mounted(self) -> dict[str, Path]:
        """The folders of the sidecars, with the address of this Kafka in each file: folder in the container → here."""
        found: dict[str, Path] = {}
        volumes = [volume for name in self.services if "sidecar" in name for volume in self.services[name]["volumes"]]
        for volume in volumes:
            source, target = Path(volume["source"]), Path(volume["target"])
            top = f"/{target.parts[1]}"
            found[top] = self._directory / top[1:]
            if source.is_dir():
                shutil.copytree(source, found[top], dirs_exist_ok=True)
            else:
                found[top].mkdir(exist_ok=True)
                shutil.copy(source, found[top])
        for folder in found.values():
            for path in folder.iterdir():
                path.write_text(self._mapped(path.read_text()))
        return found

    def _source(self, service: str, target: str) -> Path:
        [found] = [Path(each["source"]) for each in self.services[service]["volumes"] if each["target"] == target]
        return found

    def _mapped(self, text: str) -> str:
        for name, address in self._hosts.items():
            text = text.replace(name, address)
        return text


@contextlib.asynccontextmanager
async def composed(profile: str, directory: Path, redis: str) -> AsyncIterator[Composed]:
    """The programs of a profile, ready."""
    async with aiohttp.ClientSession() as http:
        found = Composed(profile, directory, redis, http)
        try:
            await found.start()
            yield found
        finally:
            found.end()
