"""The whole chain: a backend, Kafka, sidecars, bridges behind a proxy, and Redis if the manifest needs it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from tests.e2e.kafka import TOPIC, Kafka
from tests.e2e.process import Log, Process, settled
from tests.e2e.proxy import Proxy
from tests.e2e.sidecar import K8S, Manifest, Sidecar, components
from tests.support.running import ROOT, SECRET, Reachable, variables
from tests.support.valkey import free_port

APP_TOKEN = "what only the sidecar knows"
BACKEND = ROOT / "examples" / "tasks-backend"
ONE, WITH_REDIS, GROUP_EACH = (
    f"{way}websocket-service.yaml" for way in ("", "redis/", "consumer-groups/")
)  # paths below k8s/
SETTINGS = {"AUTH": "none", "DRAIN_TIMEOUT": "3", "LOG_LEVEL": "debug"}


class App(Reachable):
    """An app with a sidecar, in one process after the other on the same port."""

    def __init__(
        self,
        port: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Log,
        http: aiohttp.ClientSession,
        *,
        internal: int | None = None,
    ) -> None:
        """`internal` is its internal port, if it has one."""
        super().__init__(port, http)
        self.internal = Reachable(internal or port, http)
        self.log = log
        self._command = command
        self._environment = environment
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        self._process = Process([sys.executable, *self._command], self.log, self._environment)

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.kill()

    def terminate(self) -> None:
        self.process.terminate()

    async def ready(self) -> None:
        """Wait until its health check succeeds."""
        await settled(self._is_healthy)

    async def _is_healthy(self) -> bool:
        assert self.process.running, self.log.account
        try:
            return (await self.get("/health"))[0] == 200
        except aiohttp.ClientError:
            return False


class Pod:
    """A bridge and its sidecar, which start and end together."""

    def __init__(self, name: str, bridge: App, sidecar: Sidecar, group: str, *, is_native: bool) -> None:
        """`group` is its Kafka consumer group; `is_native` is True if the sidecar ends after the bridge."""
        self.name = name
        self.bridge = bridge
        self.sidecar = sidecar
        self.group = group
        self._is_native = is_native

    def start(self) -> None:
        self.bridge.start()
        self.sidecar.start()

    def kill(self) -> None:
        """Kill both, as when the node is lost."""
        self.bridge.kill()
        self.sidecar.kill()

    async def stop(self) -> None:
        """Stop it as Kubernetes does: SIGTERM and a grace period."""
        if not self._is_native:
            self.sidecar.terminate()
        self.bridge.terminate()
        assert await self.bridge.process.ended() == 0, self.bridge.log.account
        if self._is_native:
            self.sidecar.terminate()
        assert await self.sidecar.process.ended() == 0, self.sidecar.log.account


class Chain:
    """`async with Chain(kafka, directory) as chain`. Inside, every part is ready and the partitions are assigned.

    Without tokens, as in development mode; the settings are those of the bridges.
    """

    def __init__(
        self,
        kafka: Kafka,
        directory: Path,
        *,
        manifest: str = "websocket-service.yaml",
        replicas: int = 1,
        configuration: str = "",
        **settings: str,
    ) -> None:
        """`manifest` is a path below k8s/ and selects one of the three ways to run the bridge.

        `configuration` is a file with a Dapr Configuration for all sidecars, in addition to those of the manifests.
        """
        self.kafka = kafka
        self.proxy = Proxy()
        self.pods: list[Pod] = []
        self.backend: App
        self.publisher: Sidecar  # the sidecar of the backend
        self.http: aiohttp.ClientSession
        self._directory = directory
        self._manifest = Manifest.read(K8S / manifest)
        self._replicas = replicas
        self._configuration = configuration
        self._settings = settings
        self._resources = components(directory, kafka.address)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            self.http = await self._stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            )
            await self._stack.enter_async_context(self.proxy)
            await self.kafka.ready()
            await self.kafka.make(TOPIC)
            self._add_backend()
            for place in range(self._replicas):
                self._add_pod(f"websocket-service-{place}")
            self._stack.push_async_callback(self._leave)
            for group in self.groups:
                await self.kafka.commit_latest(group)
            self.backend.start()
            self.publisher.start()
            for pod in self.pods:
                pod.start()
            await self.ready()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def groups(self) -> set[str]:
        """The Kafka consumer groups of the bridges."""
        return {pod.group for pod in self.pods}

    @property
    def bridges(self) -> list[App]:
        return [pod.bridge for pod in self.pods]

    async def ready(self) -> None:
        """Wait until every part is ready and each partition has a consumer."""
        await asyncio.gather(self.backend.ready(), self.publisher.ready(), *(pod.bridge.ready() for pod in self.pods))
        for group in self.groups:
            members = sum(pod.group == group for pod in self.pods)
            await self.kafka.read_by(group, members, possible=self._sidecars_run)

    async def publish(self, user: str, **data: Any) -> None:
        """Publish an event of that user through the backend's sidecar; return once Kafka has it."""
        await self.publisher.publish(msgspec.json.encode({"user_id": user} | data), user)

    @contextlib.asynccontextmanager
    async def rolled_over(self, pod: Pod) -> AsyncIterator[None]:
        """Replace the pod as in a deploy: stop it, run the body, then start a new one and wait until it is ready."""
        self.proxy.ports.remove(pod.bridge.port)
        await pod.stop()
        yield
        pod.start()
        await self.ready()
        self.proxy.ports.append(pod.bridge.port)

    async def take_down(self, pod: Pod) -> None:
        """Stop the pod at once. The sidecar leaves its group first, or Kafka would wait 10 s for it."""
        pod.sidecar.terminate()
        await self.kafka.read_by(pod.group, sum(other.group == pod.group for other in self.pods if other is not pod))
        pod.kill()

    def _sidecars_run(self) -> None:
        for pod in self.pods:
            assert pod.sidecar.process.running, pod.sidecar.log.account

    async def _leave(self) -> None:
        """Let all members leave, so that the next test finds empty groups."""
        for pod in self.pods:
            pod.sidecar.terminate()
        if self.kafka.running:
            for group in self.groups:
                await self.kafka.read_by(group, 0)

    def _log(self, name: str) -> Log:
        return Log(self._directory / f"{name}.log")

    def _add_backend(self) -> None:
        manifest = Manifest.read(BACKEND / "backend.yaml")
        self.publisher = Sidecar(
            manifest, self._resources, self._log("backend-daprd"), self.http, name="backend",
            configuration=self._configuration,
        )  # fmt: skip
        port = free_port()
        environment = {"PORT": str(port), "JWT_SECRET": SECRET, "DAPR_HTTP_PORT": str(self.publisher.port)}
        self.backend = App(port, [str(BACKEND / "tasks_backend.py")], environment, self._log("backend"), self.http)
        self._stack.callback(self.publisher.kill)
        self._stack.callback(self.backend.kill)

    def _add_pod(self, name: str) -> None:
        port, internal = free_port(), free_port()
        ports = {"PORT": str(port), "INTERNAL_PORT": str(internal)}
        settings = SETTINGS | self._settings | ports | {"HOST": "127.0.0.1", "APP_API_TOKEN": APP_TOKEN}
        sidecar = Sidecar(
            *(self._manifest, self._resources, self._log(f"{name}-daprd"), self.http),
            name=name,
            app_port=internal,
            app_token=APP_TOKEN,
            configuration=self._configuration,
        )
        environment = {**self._manifest.environment, **variables(settings), "DAPR_HTTP_PORT": str(sidecar.port)}
        command = ["-m", "wsbridge", "serve"]
        bridge = App(port, command, environment, self._log(name), self.http, internal=internal)
        has_its_own = environment.get("WSBRIDGE_PUBSUB_NAME") == "pubsub-kafka-websocket"
        group = f"wsbridge-{name}" if has_its_own else self._manifest.app_id
        self._stack.callback(sidecar.kill)
        self._stack.callback(bridge.kill)
        self._stack.push_async_callback(bridge.hang_up)
        self.pods.append(Pod(name, bridge, sidecar, group, is_native=self._manifest.is_native))
        self.proxy.ports.append(port)


Start = Callable[..., Awaitable[Chain]]
