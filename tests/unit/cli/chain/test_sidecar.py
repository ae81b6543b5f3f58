"""The flags and component files of the chain's sidecars."""

from pathlib import Path

import yaml

from tests.support.running import ROOT
from wsbridge.cli.chain import sidecar

PORTS = sidecar.Ports(http=1, grpc=2, internal_grpc=3, metrics=4)
K8S = ROOT / "k8s"


def test_flags_have_every_port_and_only_loopback() -> None:
    given = sidecar.flags(PORTS, Path("/components"), app_port=5)
    found = dict(flag.removeprefix("--").split("=") for flag in given)
    assert {name: value for name, value in found.items() if name.endswith("-port")} == {
        "dapr-http-port": "1",
        "dapr-grpc-port": "2",
        "dapr-internal-grpc-port": "3",
        "metrics-port": "4",
        "app-port": "5",
    }
    assert {value for name, value in found.items() if "listen" in name} == {"127.0.0.1"}
    assert not any("app-port" in flag for flag in sidecar.flags(PORTS, Path("/components")))


def test_flags_of_a_bridge_are_the_annotations_of_the_manifest() -> None:
    """Except for the durations of a shutdown."""
    documents = yaml.safe_load_all((K8S / "redis" / "websocket-service.yaml").read_text())
    annotations = next(documents)["spec"]["template"]["metadata"]["annotations"]
    given = dict(flag.removeprefix("--").split("=") for flag in sidecar.OF_A_BRIDGE)
    del given["dapr-graceful-shutdown-seconds"]
    assert given == {name: annotations[f"dapr.io/{name}"] for name in given}


def test_component_differs_from_the_manifest_in_address_and_offset() -> None:
    manifest = (K8S / "dapr" / "pubsub-kafka.yaml").read_text()
    shipped, changed = (
        {entry["name"]: entry["value"] for entry in yaml.safe_load(text)["spec"]["metadata"]}
        for text in (manifest, sidecar.component(manifest, "127.0.0.1:9"))
    )
    assert changed == shipped | {"brokers": "127.0.0.1:9", "initialOffset": "oldest"}
