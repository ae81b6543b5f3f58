"""A real Dapr sidecar, configured by the shipped manifests and component files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.e2e.parts import daprd, required
from tests.e2e.process import Log, Process, settled
from tests.support.running import ROOT
from wsbridge.cli.chain.sidecar import Ports, flags

K8S = ROOT / "k8s"
COMPONENTS = ("dapr/pubsub-kafka.yaml", "dapr/resiliency.yaml", "consumer-groups/pubsub-kafka-websocket.yaml")
FLAGS = {  # flags of daprd, by the annotation from which Dapr's injector makes them
    "dapr.io/app-id": "app-id",
    "dapr.io/app-protocol": "app-protocol",
    "dapr.io/enable-app-health-check": "enable-app-health-check",
    "dapr.io/app-health-check-path": "app-health-check-path",
    "dapr.io/block-shutdown-duration": "dapr-block-shutdown-duration",
    "dapr.io/graceful-shutdown-seconds": "dapr-graceful-shutdown-seconds",
    "dapr.io/log-as-json": "log-as-json",
    "dapr.io/config": "config",
}
CONFIGURATIONS = {"websocket-service": K8S / "dapr" / "access.yaml"}  # a name in Kubernetes, elsewhere a file
_IN_KUBERNETES_ONLY = (
    "dapr.io/enabled",
    "dapr.io/app-port",
    "dapr.io/app-token-secret",
    "dapr.io/enable-native-sidecar",
    "dapr.io/disable-builtin-k8s-secret-store",
    "dapr.io/sidecar-",
)


@dataclass(frozen=True)
class Manifest:
    """The part of a workload that configures the bridge and its sidecar."""

    annotations: Mapping[str, str]
    environment: Mapping[str, str]  # without mount points of Secrets

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read the first document of the file."""
        return cls.of(next(yaml.safe_load_all(path.read_text()))["spec"]["template"])

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> "Manifest":
        [container] = pod["spec"]["containers"]
        plain = {
            entry["name"]: entry["value"]
            for entry in container["env"]
            if "value" in entry and not entry["name"].endswith("_FILE")
        }
        return cls(pod["metadata"]["annotations"], plain)

    @property
    def app_id(self) -> str:
        return self.annotations["dapr.io/app-id"]

    @property
    def is_native(self) -> bool:
        """Whether the sidecar stops after its app, instead of together with it."""
        return self.annotations.get("dapr.io/enable-native-sidecar") == "true"

    @property
    def flags(self) -> list[str]:
        """The flags of the sidecar. An annotation that is missing in the tables above fails here."""
        ours = {name: text for name, text in self.annotations.items() if name.startswith("dapr.io/")}
        ours = {name: text for name, text in ours.items() if not name.startswith(_IN_KUBERNETES_ONLY)}
        ours |= {"dapr.io/config": str(CONFIGURATIONS[ours["dapr.io/config"]])} if "dapr.io/config" in ours else {}
        return [f"--{FLAGS[name]}={text}" for name, text in ours.items()]


def components(directory: Path, kafka: str) -> Path:
    """A folder with the shipped components, for a broker at that address."""
    folder = directory / "components"
    folder.mkdir()
    for name in COMPONENTS:
        text = (K8S / name).read_text()
        (folder / Path(name).name).write_text(text.replace("kafka:9092", kafka))
    return folder


class Sidecar:
    """The sidecar of the app on `app_port`, in one process after the other; its own ports stay the same."""

    def __init__(
        self,
        manifest: Manifest,
        resources: Path,
        log: Log,
        http: aiohttp.ClientSession,
        *,
        name: str,
        app_port: int | None = None,
        app_token: str | None = None,
        api_token: str | None = None,
        configuration: str = "",
        options: Sequence[str] = (),
    ) -> None:
        """`name` is that of the pod. `configuration` is a file that adds to the one of the manifest.

        `options` are more flags.
        """
        ports = Ports.free()
        self.port = ports.http
        self.grpc_port = ports.grpc
        self.metrics_port = ports.metrics
        self.log = log
        self.app_token = app_token  # sent to the app, from its next start on
        self._api_token = api_token  # required from those that call it
        self._http = http
        added = [f"--config={configuration}"] if configuration else []
        self._arguments = [*manifest.flags, *added, *options, *flags(ports, resources, app_port)]
        self._name = name
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        environment = {"POD_NAME": self._name, "DAPR_HOST_IP": "127.0.0.1"}  # or others look for it elsewhere
        environment |= {"APP_API_TOKEN": self.app_token} if self.app_token else {}
        environment |= {"DAPR_API_TOKEN": self._api_token} if self._api_token else {}
        self._process = Process([str(required(daprd)), *self._arguments], self.log, environment)

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.kill()

    def terminate(self) -> None:
        """Terminate: it leaves its group and ends within a few seconds. May be called again."""
        if self._process is not None:
            self._process.terminate()

    async def ready(self) -> None:
        """Wait until it can publish."""
        await settled(lambda: self._answers("/v1.0/healthz/outbound"))

    async def subscriptions(self) -> list[dict[str, Any]]:
        return list((await self._metadata()).get("subscriptions", []))

    async def workflow_workers(self) -> int:
        """The number of connected processes that run workflows."""
        return int((await self._metadata()).get("workflows", {}).get("connectedWorkers", 0))

    async def _metadata(self) -> Any:
        async with self._http.get(f"{self.url}/v1.0/metadata") as response:
            return await response.json()

    async def publish(
        self,
        body: bytes,
        key: str,
        content_type: str | None = "application/json",
        topic: str = "task-updates",
        **headers: str,
    ) -> None:
        """Publish one message; return once Kafka has stored it."""
        headers |= {"Content-Type": content_type} if content_type else {}
        async with self._http.post(
            f"{self.url}/v1.0/publish/pubsub-kafka/{topic}",
            params={"metadata.partitionKey": key},
            data=body,
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as response:
            assert response.status == 204, (response.status, await response.text())

    async def publish_bulk(self, events: list[tuple[str, Any]], topic: str = "task-updates") -> None:
        """Publish keys and data; those of one key stay in order."""
        entries = [
            {
                "entryId": str(place),
                "event": data,
                "contentType": "application/json",
                "metadata": {"partitionKey": key},
            }
            for place, (key, data) in enumerate(events)
        ]
        async with self._http.post(
            f"{self.url}/v1.0-alpha1/publish/bulk/pubsub-kafka/{topic}", json=entries
        ) as response:
            assert response.status == 204, (response.status, await response.text())

    async def _answers(self, path: str) -> bool:
        assert self.process.running, self.log.account
        try:
            async with self._http.get(self.url + path) as response:
                return response.status == 204
        except aiohttp.ClientError:
            return False
