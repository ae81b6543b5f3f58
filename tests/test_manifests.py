"""What `kubectl apply` is given: schemas, and the promises that no schema knows."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # ships no py.typed
import pytest
import yaml

from wsbridge import __version__
from wsbridge.environment import load
from wsbridge.settings import NAMES, PREFIX, UNPREFIXED, Settings, SettingsError

K8S = Path(__file__).parent.parent / "k8s"
PRODUCTION, MINIKUBE = K8S / "websocket-service.yaml", K8S / "minikube" / "websocket-service.yaml"
OURS = [PRODUCTION, MINIKUBE]
NAME = "websocket-service"
RECOMMENDED = {"name", "instance", "version", "component", "part-of", "managed-by"}
STOP_SECONDS = 5  # after the drain: the runner's cleanup, and the 2 s after which a stalled socket is aborted
IDLE_BYTES, PROCESS_BYTES = 18_000, 100 * 2**20

both = pytest.mark.parametrize("path", OURS, ids=lambda path: path.parent.name)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kind(path: Path, name: str) -> dict[str, Any]:
    (found,) = (document for document in documents(path) if document["kind"] == name)
    return found


def pod(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = kind(path, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(path: Path) -> dict[str, Any]:
    (only,) = pod(path)["containers"]
    return dict(only)


def annotations(path: Path) -> dict[str, str]:
    found = kind(path, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    return {key.removeprefix("dapr.io/"): value for key, value in found.items()}


def environment(path: Path) -> dict[str, Any]:
    """Name → value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(path)["env"]}


def settings_of(path: Path) -> Settings:
    """As the pod has them, but for what comes out of a Secret."""
    plain = {name: value for name, value in environment(path).items() if isinstance(value, str)}
    settings, _ = load(plain | {"WSBRIDGE_AUTH": "none", "WSBRIDGE_JWT_SECRET_FILE": ""})
    return settings


def duration(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()  # type: ignore[union-attr]  # then the test fails
    return int(number) * {"s": 1, "m": 60}[unit]


def quantity(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG]i)", text).groups()  # type: ignore[union-attr]  # then the test fails
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_apply_of_the_folder_brings_up_one_variant_and_nothing_shared() -> None:
    assert [path.name for path in sorted(K8S.glob("*.y*ml"))] == [PRODUCTION.name]


# 1.30 is the first with `sleep` switched on
@pytest.mark.parametrize("version", ["1.30.0", kubernetes_validate.latest_version()])
@both
def test_schemas(path: Path, version: str) -> None:
    found = documents(path)
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    assert [document["kind"] for document in found] == ["Deployment", "Service"]
    assert all(document["metadata"].keys() == {"name", "labels"} for document in found)
    assert all(document["metadata"]["name"] == NAME for document in found)


@both
def test_labels_and_selectors(path: Path) -> None:
    deployment, service = kind(path, "Deployment"), kind(path, "Service")
    labels = deployment["metadata"]["labels"]
    assert labels.keys() == {f"app.kubernetes.io/{name}" for name in RECOMMENDED} | {"app"}
    assert labels == service["metadata"]["labels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == NAME
    assert labels["app.kubernetes.io/version"] == __version__
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": NAME}}
    assert service["spec"]["selector"] == {"app": NAME}


@both
def test_one_replica_and_never_two(path: Path) -> None:
    spec = kind(path, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@both
def test_container_and_port(path: Path) -> None:
    only = container(path)
    assert only["name"] == NAME
    assert only["image"] == "websocket-service:latest"
    assert only["imagePullPolicy"] == "IfNotPresent"
    assert only["ports"] == [{"name": "http", "containerPort": 8004}]
    assert kind(path, "Service")["spec"]["ports"] == [{"name": "http", "port": 8004, "targetPort": "http"}]


@both
def test_probes(path: Path) -> None:
    only = container(path)
    for probe, route in ("startup", "/health"), ("readiness", "/health"), ("liveness", "/healthz"):
        assert only[f"{probe}Probe"]["httpGet"] == {"path": route, "port": "http"}


@both
def test_restricted_pod_security_and_a_read_only_root(path: Path) -> None:
    spec, context = pod(path), container(path)["securityContext"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    assert all(set(volume) == {"name", "secret"} for volume in spec.get("volumes", []))


@both
def test_nothing_of_the_cluster_leaks_in(path: Path) -> None:
    assert pod(path)["enableServiceLinks"] is False
    assert pod(path)["automountServiceAccountToken"] is False


@both
def test_dapr(path: Path) -> None:
    expected = {
        "enabled": "true",
        "app-id": NAME,
        "app-port": "8004",
        "app-protocol": "http",
        "enable-app-health-check": "true",
        "app-health-check-path": "/healthz",
        "disable-builtin-k8s-secret-store": "true",  # without a service account token it crashes the sidecar
    }
    assert annotations(path).items() >= expected.items()
    assert annotations(path)["kubectl.kubernetes.io/default-container"] == container(path)["name"]


def test_sidecar_and_bridge_share_the_app_token() -> None:
    reference = environment(PRODUCTION)["APP_API_TOKEN"]["secretKeyRef"]
    assert reference["name"] == annotations(PRODUCTION)["app-token-secret"]
    assert reference["key"] == "token"  # the one that Dapr reads


@both
def test_grace_period_covers_the_leave(path: Path) -> None:
    grace = pod(path)["terminationGracePeriodSeconds"]
    before = container(path).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert grace >= before + settings_of(path).drain_timeout + STOP_SECONDS
    sidecar = duration(annotations(path).get("block-shutdown-duration", "0s"))
    assert grace > sidecar + int(annotations(path).get("graceful-shutdown-seconds", 5))


def test_production_waits_for_the_service_to_forget_it() -> None:
    assert container(PRODUCTION)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


@both
def test_memory_holds_what_the_settings_allow(path: Path) -> None:
    settings, resources = settings_of(path), container(path)["resources"]
    limit = quantity(resources["limits"]["memory"])
    assert settings.max_connections > 0
    assert limit >= 1.5 * (settings.max_connections * IDLE_BYTES + settings.history_max_bytes + PROCESS_BYTES)
    assert quantity(resources["requests"]["memory"]) <= limit
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


@both
def test_environment_is_accepted_as_it_stands(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 48 + "\n", encoding="utf-8")
    found = environment(path)
    assert {name.removeprefix(PREFIX).removesuffix("_FILE") for name in found} <= NAMES
    assert all(name.startswith(PREFIX) or name in UNPREFIXED for name in found)
    values = {name: value if isinstance(value, str) else "t" * 32 for name, value in found.items()}
    files = {name: str(secret) for name in found if name.endswith("_FILE")}
    settings, warnings = load(values | files)
    assert warnings == []
    assert (settings.host, settings.port) == ("0.0.0.0", 8004)
    assert settings.auth == {PRODUCTION: "required", MINIKUBE: "none"}[path]


def test_the_key_is_a_file_of_the_secret() -> None:
    (volume,) = pod(PRODUCTION)["volumes"]
    (mount,) = container(PRODUCTION)["volumeMounts"]
    (item,) = volume["secret"]["items"]
    assert mount["name"] == volume["name"]
    assert mount["readOnly"] is True
    assert environment(PRODUCTION)["WSBRIDGE_JWT_SECRET_FILE"] == f"{mount['mountPath']}/{item['path']}"


def test_the_secrets_are_those_that_the_file_says_how_to_make() -> None:
    text = PRODUCTION.read_text(encoding="utf-8")
    made = dict(re.findall(r"kubectl create secret generic (\S+) --from-literal=([\w-]+)=", text))
    (volume,) = pod(PRODUCTION)["volumes"]
    key, token = volume["secret"], environment(PRODUCTION)["APP_API_TOKEN"]["secretKeyRef"]
    assert made == {key["secretName"]: key["items"][0]["key"], token["name"]: token["key"]}


def test_minikube_needs_no_secret() -> None:
    text = MINIKUBE.read_text(encoding="utf-8").lower()
    assert "secretkeyref" not in text
    assert "secretname" not in text
    assert "app-token-secret" not in annotations(MINIKUBE)
    assert "volumes" not in pod(MINIKUBE)
    assert environment(MINIKUBE)["WSBRIDGE_AUTH"] == "none"
    without = {name: value for name, value in environment(MINIKUBE).items() if name != "WSBRIDGE_AUTH"}
    with pytest.raises(SettingsError, match="WSBRIDGE_AUTH"):
        load(without)


@pytest.mark.parametrize(
    "line",
    [
        "minikube image load websocket-service:latest",
        "kubectl apply -f k8s/minikube/websocket-service.yaml",
        "kubectl port-forward svc/websocket-service 8004:8004",
        'wscat -c "ws://localhost:8004/ws?user_id=test-user"',
        "curl localhost:8004/stats",
        "curl localhost:8004/dapr/subscribe",
    ],
)
def test_minikube_says_what_to_type(line: str) -> None:
    assert f"\n#   {line}\n" in MINIKUBE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=str)
def test_commands_name_files_that_exist(path: Path) -> None:
    named = re.findall(r"kubectl apply -f (\S+)", path.read_text(encoding="utf-8"))
    assert path.relative_to(K8S.parent).as_posix() in named
    assert all((K8S.parent / name).is_file() for name in named)


def test_kafka_component() -> None:
    (component,) = documents(K8S / "dapr" / "pubsub-kafka.yaml")
    settings, _ = load({})
    assert (component["apiVersion"], component["kind"]) == ("dapr.io/v1alpha1", "Component")
    assert component["metadata"] == {"name": settings.pubsub_name}
    assert component["spec"].keys() == {"type", "version", "metadata"}
    assert component["spec"]["type"] == "pubsub.kafka"
    assert component["spec"]["version"] == "v1"
    values = {item["name"]: item["value"] for item in component["spec"]["metadata"]}
    assert all(isinstance(value, str) for value in values.values())
    assert values.keys() >= {"brokers", "authType"}
    # shared: a group named here would be everybody's, and each event would reach one service of five
    assert not {"consumerGroup", "consumerID"} & values.keys()
    assert values["escapeHeaders"] == "true"
    scopes = {"backend", "notification-service", "recurring-task-service", "audit-log-service", NAME}
    assert sorted(component["scopes"]) == sorted(scopes)


def test_a_retry_never_ends_in_the_dead_letter_topic() -> None:
    (resiliency,) = documents(K8S / "dapr" / "resiliency.yaml")
    assert (resiliency["apiVersion"], resiliency["kind"]) == ("dapr.io/v1alpha1", "Resiliency")
    assert resiliency["scopes"] == [annotations(PRODUCTION)["app-id"]]
    assert resiliency["spec"].keys() == {"policies", "targets"}
    assert resiliency["spec"]["policies"].keys() == {"retries"}
    (name,) = resiliency["spec"]["policies"]["retries"]
    pubsub = documents(K8S / "dapr" / "pubsub-kafka.yaml")[0]["metadata"]["name"]
    assert resiliency["spec"]["targets"] == {"components": {pubsub: {"inbound": {"retry": name}}}}
    # Dapr's exponential back-off ends after 15 minutes even so
    policy = resiliency["spec"]["policies"]["retries"][name]
    assert policy == {"policy": "constant", "duration": "1s", "maxRetries": -1}
