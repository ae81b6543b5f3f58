"""A real API server checks every manifest and rendering, and the documents' commands are typed against it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import parts
from tests.e2e.apiserver import ApiServer, Refused, Shell
from tests.support import chart
from tests.support.chart import CHART, VALUES
from tests.support.manifests import K8S, OURS, PRODUCTION, documents, head
from tests.support.running import ROOT

MANIFESTS = [*sorted(K8S.rglob("*.yaml")), ROOT / "examples" / "tasks-backend" / "backend.yaml"]
VARIABLES = {
    "JWT_SECRET": "s" * 48,
    "REDIS_URL": "redis://redis:6379",
    "IMAGE": "registry.example.com/wsbridge",
    "TAG": "0.1.0",
}
# Commands that are not typed here, with the reason. The others are.
NEED_PODS = "no pod runs: there is no node"
LEFT_OUT = {
    "kubectl exec": NEED_PODS,
    "kubectl logs": NEED_PODS,
    "kubectl port-forward": NEED_PODS,
    "kubectl rollout status": NEED_PODS,
    "helm test": f"{NEED_PODS}; test_chart.py and test_verify.py run the command of its container",
    "kubectl delete pod --force": NEED_PODS,
    "^for pod in": NEED_PODS,
    "^wsbridge verify": "its --during restarts pods",
    "kubectl get components.dapr.io pubsub-kafka$": "it fails where there is none, which is what it is for",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    for part in parts.kubernetes, parts.etcd, parts.definitions, parts.helm:
        parts.required(part)
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture
def shell(server: ApiServer, request: pytest.FixtureRequest) -> Shell:
    """A shell in a namespace of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-50:].strip("-")
    return server.namespace(name)


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A pod for each workload: Pod Security refuses pods, and only warns of workloads."""
    for workload in (document["spec"] for document in objects if "template" in document.get("spec", {})):
        pod = {"apiVersion": "v1", "kind": "Pod"} | workload["template"]
        pod["metadata"]["name"] = "pod"
        claims = [claim["metadata"]["name"] for claim in workload.get("volumeClaimTemplates", ())]
        pod["spec"].setdefault("volumes", []).extend(
            {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims
        )
        yield pod


# Manifests and renderings


@pytest.mark.parametrize("path", MANIFESTS, ids=name)
def test_manifest_is_accepted_strictly(server: ApiServer, path: Path) -> None:
    found = documents(path)
    server.admin.check(*found)
    for pod in pods(found):
        server.admin.check(pod)


@pytest.mark.parametrize("name", VALUES)
def test_rendering_is_accepted_strictly(server: ApiServer, name: str) -> None:
    found = list(yaml.safe_load_all(chart.template("--values", str(VALUES[name]))))
    server.admin.check(*found)
    for pod in pods(found):
        server.admin.check(pod)


def test_privileged_pod_is_refused(server: ApiServer) -> None:
    [pod] = pods(documents(PRODUCTION))
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest": privileged'):
        server.admin.check(pod)


def test_privileged_workload_is_refused_because_of_the_warning(server: ApiServer) -> None:
    maker, *_ = documents(PRODUCTION)
    maker["spec"]["template"]["spec"]["hostNetwork"] = True
    with pytest.raises(Refused, match='would violate PodSecurity "restricted:latest": host namespaces'):
        server.admin.check(maker)


@pytest.mark.parametrize("name", ["websocket-service.yaml", "dapr/resiliency.yaml", "monitoring/podmonitor.yaml"])
def test_unknown_field_is_refused(server: ApiServer, name: str) -> None:
    first, *_ = documents(K8S / name)
    first["spec"]["replica"] = 1
    with pytest.raises(Refused, match=r'unknown field "spec.replica"'):
        server.admin.check(first)


# Commands of the documents


def commands(text: str, begin: str) -> str:
    """The lines with kubectl or Helm after `begin`, as one script, without those that are left out."""
    lines = re.findall(rf"^{begin}\b(?:kubectl|helm) .*", text.replace("\\\n", " "), re.MULTILINE)
    return "\n".join(line for line in lines if not re.search("|".join(LEFT_OUT), line.strip()))


def blocks(document: Path) -> list[str]:
    """The scripts in the fenced blocks of a document."""
    found = re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [script for block in found if (script := commands(block, ".*"))]


DOCUMENTS = {
    f"{path.relative_to(ROOT)}-{number}": script
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, script in enumerate(blocks(path))
}


@pytest.mark.parametrize("path", MANIFESTS, ids=name)
def test_commands_in_the_head_of_a_manifest_work(shell: Shell, path: Path) -> None:
    if path not in OURS:  # some restart the workload
        shell.type(" && ".join(f"kubectl apply -f {ours}" for ours in OURS))
    script = commands(re.sub(r"^# ?", "", head(path), flags=re.MULTILINE), r" *(?:\w+=.*)?")
    assert script
    shell.type(script, **VARIABLES)


@pytest.mark.parametrize("script", DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_commands_of_a_document_work(shell: Shell, script: str) -> None:
    shell.type(script, **VARIABLES)


def test_commands_of_the_chart_install_and_upgrade_it(shell: Shell) -> None:
    text = (CHART / "README.md").read_text(encoding="utf-8")
    install = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    shell.type(commands(install, " *"), **VARIABLES)
    container = shell.get("deployment", "websocket-service")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"{VARIABLES['IMAGE']}:{VARIABLES['TAG']}"
    [upgrade] = re.findall(r"`(helm upgrade [^`]+)`", text)
    shell.type(f"{upgrade} --reuse-values --set replicas=3")
    assert shell.get("deployment", "websocket-service")["spec"]["replicas"] == 3


# Helm on a real server


def test_helm_installs_every_mode_over_the_other_and_leaves_nothing(shell: Shell) -> None:
    for mode, kind in ("single", "deployment"), ("redis", "deployment"), ("consumer-groups", "statefulset"):
        shell.type(f"helm upgrade --install push charts/wsbridge --set mode={mode}")
        assert shell.get(kind, "push")["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    assert shell.type("kubectl get deployments -o name") == ""
    shell.type("helm uninstall push")
    kinds = "deployments,statefulsets,services,networkpolicies,pdb,components,configurations,resiliencies"
    assert shell.type(f"kubectl get {kinds} -o name") == ""


def test_helm_adopts_what_kubectl_has_applied(shell: Shell) -> None:
    shell.type("kubectl apply -f k8s/dapr/access.yaml -f k8s/dapr/resiliency.yaml -f k8s/redis/websocket-service.yaml")
    before = shell.get("deployment", "websocket-service")["metadata"]["uid"]
    install = "helm install websocket-service charts/wsbridge --set mode=redis"
    with pytest.raises(Refused, match="exists and cannot be imported into the current release"):
        shell.type(install)
    assert "`--take-ownership --force-conflicts`" in (CHART / "README.md").read_text(encoding="utf-8")
    shell.type(f"{install} --take-ownership --force-conflicts")
    assert shell.get("deployment", "websocket-service")["metadata"]["uid"] == before


def test_demo_has_dapr_objects_only_if_the_cluster_knows_them(shell: Shell) -> None:
    shell.type(f"helm install websocket-service charts/wsbridge --values {VALUES['minikube']}")
    assert shell.get("configurations.dapr.io", "websocket-service")["spec"]["accessControl"]["defaultAction"] == "deny"
    assert "kind: Configuration" not in chart.template("--values", str(VALUES["minikube"]))
