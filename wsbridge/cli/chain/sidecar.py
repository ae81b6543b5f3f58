"""A Dapr sidecar on loopback: its ports, flags and component files."""

from pathlib import Path
from typing import NamedTuple, Self

from wsbridge.cli.chain.ports import free_ports

APP_ID = "websocket-service"  # also the Kafka consumer group of the bridges
# As the annotations of k8s/redis/websocket-service.yaml configure it, but for the time that a shutdown may take.
OF_A_BRIDGE = (
    f"--app-id={APP_ID}",
    "--app-protocol=http",
    "--enable-app-health-check=true",
    "--app-health-check-path=/healthz",
    "--dapr-graceful-shutdown-seconds=3",
    "--log-as-json=true",
)
OF_THE_BACKEND = ("--app-id=backend", "--dapr-graceful-shutdown-seconds=3", "--log-as-json=true")
_IN_THE_MANIFESTS = "kafka:9092"
_FIRST = "    - name: authType\n"


class Ports(NamedTuple):
    """The ports of a sidecar."""

    http: int
    grpc: int
    internal_grpc: int
    metrics: int

    @classmethod
    def free(cls) -> Self:
        return cls(*free_ports(len(cls._fields)))


def flags(ports: Ports, resources: Path, app_port: int | None = None) -> list[str]:
    """Where it listens, what it loads, and the port of its app, if that is to get events."""
    return [
        f"--dapr-http-port={ports.http}",
        f"--dapr-grpc-port={ports.grpc}",
        f"--dapr-internal-grpc-port={ports.internal_grpc}",
        f"--metrics-port={ports.metrics}",
        "--dapr-listen-addresses=127.0.0.1",
        "--dapr-internal-grpc-listen-address=127.0.0.1",
        "--metrics-listen-address=127.0.0.1",
        f"--resources-path={resources}",
        *([] if app_port is None else [f"--app-port={app_port}"]),
    ]


def component(manifest: str, kafka: str) -> str:
    """The component of k8s/dapr for a Kafka at this address, which has nothing but the events of this chain.

    So a consumer group that has no offset yet may start at the first event. An event that is published before the
    group has its partitions is then not skipped.
    """
    text = manifest.replace(_IN_THE_MANIFESTS, kafka)
    return text.replace(_FIRST, f"    - name: initialOffset\n      value: oldest\n{_FIRST}")
