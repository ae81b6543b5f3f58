"""Reads the Kubernetes manifests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.running import ROOT
from wsbridge.config.env import load
from wsbridge.config.settings import Settings

K8S = ROOT / "k8s"
NAME = "websocket-service"
PRODUCTION, MINIKUBE = K8S / f"{NAME}.yaml", K8S / "minikube" / f"{NAME}.yaml"
REDIS, GROUPS = K8S / "redis" / f"{NAME}.yaml", K8S / "consumer-groups" / f"{NAME}.yaml"
OURS = [PRODUCTION, MINIKUBE, REDIS, GROUPS]
ACCESS = K8S / "dapr" / "access.yaml"
SHARED, OWN = K8S / "dapr" / "pubsub-kafka.yaml", K8S / "consumer-groups" / "pubsub-kafka-websocket.yaml"
VALKEY = K8S / "redis" / "valkey.yaml"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kind(path: Path, name: str) -> dict[str, Any]:
    (found,) = (document for document in documents(path) if document["kind"] == name)
    return found


def workload(path: Path) -> dict[str, Any]:
    """The Deployment or StatefulSet."""
    return kind(path, "StatefulSet" if path == GROUPS else "Deployment")


def pod(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = workload(path)["spec"]["template"]["spec"]
    return spec


def container(path: Path) -> dict[str, Any]:
    (only,) = pod(path)["containers"]
    return dict(only)


def annotations(path: Path) -> dict[str, str]:
    found = workload(path)["spec"]["template"]["metadata"]["annotations"]
    return {key.removeprefix("dapr.io/"): value for key, value in found.items()}


def environment(path: Path) -> dict[str, Any]:
    """Name → value, or the place where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(path)["env"]}


def settings_of(path: Path) -> Settings:
    """The settings of the pod, except those from a Secret."""
    plain = {
        name: value
        for name, value in environment(path).items()
        if isinstance(value, str) and not name.endswith("_FILE")
    }
    settings, _ = load(plain | {"WSBRIDGE_AUTH": "none"})
    return settings


def head(path: Path) -> str:
    """The comment at the top of the file, for operators."""
    return re.split(r"^(?!#)", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]


def values_of(component: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item["value"] for item in component["spec"]["metadata"]}


def secrets(path: Path) -> Iterator[tuple[str, str]]:
    """Each Secret and key that the container reads."""
    folders = {mount["mountPath"]: mount["name"] for mount in container(path).get("volumeMounts", [])}
    volumes = {volume["name"]: volume["secret"] for volume in pod(path).get("volumes", [])}
    for name, value in environment(path).items():
        if isinstance(value, dict):
            yield value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]
        elif name.endswith("_FILE"):
            folder, _, file = value.rpartition("/")
            volume = volumes[folders[folder]]
            items = {item["path"]: item["key"] for item in volume.get("items", [{"path": file, "key": file}])}
            yield volume["secretName"], items[file]


def differences(a: Any, b: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Path → the values in both documents; None if missing. Lists of named items are compared by name."""
    if isinstance(a, list) and isinstance(b, list) and all(isinstance(x, dict) and "name" in x for x in a + b):
        a, b = ({item["name"]: item for item in items} for items in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(key for key in b if key not in a)]
        return {
            found: values
            for key in keys
            for found, values in differences(a.get(key), b.get(key), f"{path}/{key}").items()
        }
    return {} if a == b else {path: (a, b)}


def duration(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()  # type: ignore[union-attr]  # then the test fails
    return int(number) * {"s": 1, "m": 60}[unit]


def quantity(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG]i)", text).groups()  # type: ignore[union-attr]  # then the test fails
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]
