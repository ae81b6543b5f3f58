"""The Kubernetes manifests: schemas, and promises that a schema cannot express."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # ships no py.typed
import pytest

from tests.support.deliveries import cloud_event
from tests.support.manifests import (
    ACCESS,
    GROUPS,
    K8S,
    MINIKUBE,
    NAME,
    OURS,
    OWN,
    PRODUCTION,
    REDIS,
    SHARED,
    VALKEY,
    annotations,
    container,
    differences,
    documents,
    duration,
    environment,
    head,
    kind,
    pod,
    quantity,
    secrets,
    settings_of,
    values_of,
    workload,
)
from tests.support.running import APP_TOKEN, SECRET, Start, receive, token
from tests.support.valkey import Valkey
from wsbridge import __version__
from wsbridge.config.env import load
from wsbridge.config.settings import HELP, PREFIX, UNPREFIXED, SettingsError
from wsbridge.config.weaknesses import weaknesses

RECOMMENDED = {"name", "instance", "version", "component", "part-of", "managed-by"}
STOP_SECONDS = 5  # after the drain: cleanup, and the 2 s after which a stalled socket is aborted
IDLE_BYTES, PROCESS_BYTES = 18_000, 100 * 2**20
SESSION_SECONDS = 10  # after a crash Kafka waits this long: the sessionTimeout of Dapr's component


def of(*paths: Path) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.parent.name)


each = of(*OURS)
with_tokens = of(PRODUCTION, REDIS, GROUPS)
single, several = of(PRODUCTION, MINIKUBE), of(REDIS, GROUPS)


def test_apply_of_the_folder_brings_up_one_variant_and_nothing_shared() -> None:
    assert [path.name for path in sorted(K8S.glob("*.y*ml"))] == [PRODUCTION.name]


# 1.30 is the first version with `sleep` enabled
@pytest.mark.parametrize("version", ["1.30.0", kubernetes_validate.latest_version()])
@each
def test_manifest_fits_the_schemas(path: Path, version: str) -> None:
    found = documents(path)
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    policy = [] if path == MINIKUBE else ["NetworkPolicy"]
    budget = ["PodDisruptionBudget"] if path in (REDIS, GROUPS) else []
    assert [document["kind"] for document in found] == [workload(path)["kind"], "Service", *policy, *budget]
    assert all(document["metadata"].keys() == {"name", "labels"} for document in found)
    assert all(document["metadata"]["name"] == NAME for document in found)


@each
def test_manifest_has_matching_labels_and_selectors(path: Path) -> None:
    maker, service = workload(path), kind(path, "Service")
    labels = maker["metadata"]["labels"]
    assert labels.keys() == {f"app.kubernetes.io/{name}" for name in RECOMMENDED} | {"app"}
    assert all(document["metadata"]["labels"] == labels for document in documents(path))
    assert maker["spec"]["template"]["metadata"]["labels"] == labels
    assert labels["app"] == NAME
    assert labels["app.kubernetes.io/version"] == __version__
    assert maker["spec"]["selector"] == {"matchLabels": {"app": NAME}}
    assert service["spec"]["selector"] == {"app": NAME}


@single
def test_plain_manifest_never_runs_two_replicas(path: Path) -> None:
    spec = workload(path)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


SPREAD = [
    {
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": NAME}},
    }
    for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
]
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": workload(PRODUCTION)["metadata"],
    "spec": {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"app": NAME}},
    },
}
# The differences of each variant from the production manifest; the rest must be equal.
SEVERAL: dict[str, tuple[Any, Any]] = {
    "/maker/spec/replicas": (1, 2),
    "/maker/spec/minReadySeconds": (None, 30),
    "/maker/spec/template/spec/terminationGracePeriodSeconds": (30, 60),
    f"/maker/spec/template/spec/containers/{NAME}/env/WSBRIDGE_DRAIN_TIMEOUT": (
        {"name": "WSBRIDGE_DRAIN_TIMEOUT", "value": "10"},
        None,
    ),
    "/PodDisruptionBudget": (None, BUDGET),
}
INTENDED: dict[Path, dict[str, tuple[Any, Any]]] = {
    REDIS: SEVERAL
    | {
        "/maker/spec/strategy/type": ("Recreate", "RollingUpdate"),
        "/maker/spec/strategy/rollingUpdate": (None, {"maxUnavailable": 0, "maxSurge": 1}),
        "/maker/spec/template/spec/topologySpreadConstraints": (
            None,
            [constraint | {"matchLabelKeys": ["pod-template-hash"]} for constraint in SPREAD],
        ),
        f"/maker/spec/template/spec/containers/{NAME}/env/WSBRIDGE_HISTORY_MAX_BYTES": (
            {"name": "WSBRIDGE_HISTORY_MAX_BYTES", "value": "268435456"},
            None,
        ),
        f"/maker/spec/template/spec/containers/{NAME}/env/WSBRIDGE_REDIS_URL_FILE": (
            None,
            {"name": "WSBRIDGE_REDIS_URL_FILE", "value": "/etc/redis/url"},
        ),
        f"/maker/spec/template/spec/containers/{NAME}/volumeMounts/redis": (
            None,
            {"name": "redis", "mountPath": "/etc/redis", "readOnly": True},
        ),
        "/maker/spec/template/spec/volumes/redis": (
            None,
            {"name": "redis", "secret": {"secretName": "websocket-service-redis"}},
        ),
        f"/maker/spec/template/spec/containers/{NAME}/resources/requests/memory": ("512Mi", "384Mi"),
        f"/maker/spec/template/spec/containers/{NAME}/resources/limits/memory": ("1Gi", "768Mi"),
    },
    GROUPS: SEVERAL
    | {
        "/maker/kind": ("Deployment", "StatefulSet"),
        "/maker/spec/strategy": ({"type": "Recreate"}, None),
        "/maker/spec/updateStrategy": (None, {"type": "RollingUpdate"}),
        "/maker/spec/serviceName": (None, NAME),
        "/maker/spec/podManagementPolicy": (None, "Parallel"),
        "/maker/spec/template/metadata/annotations/dapr.io/block-shutdown-duration": ("5s", None),
        "/maker/spec/template/metadata/annotations/dapr.io/enable-native-sidecar": (None, "true"),
        "/maker/spec/template/spec/topologySpreadConstraints": (None, SPREAD),
        f"/maker/spec/template/spec/containers/{NAME}/env/WSBRIDGE_PUBSUB_NAME": (
            None,
            {"name": "WSBRIDGE_PUBSUB_NAME", "value": "pubsub-kafka-websocket"},
        ),
        f"/maker/spec/template/spec/containers/{NAME}/readinessProbe/initialDelaySeconds": (None, 20),
    },
}


def parts(path: Path) -> dict[str, Any]:
    rest = {document["kind"]: document for document in documents(path) if document != workload(path)}
    return rest | {"maker": workload(path)}


@several
def test_variant_differs_from_production_only_where_documented(path: Path) -> None:
    assert differences(parts(PRODUCTION), parts(path)) == INTENDED[path]


def test_differences_finds_each_difference() -> None:
    a = {"x": [{"name": "one", "value": 1}, {"name": "two"}], "y": {"z": [1, 2]}, "same": [{"k": 1}]}
    b = {"x": [{"name": "two"}, {"name": "one", "value": 2}], "y": {"z": [2, 1]}, "same": [{"k": 1}]}
    assert differences(a, b) == {"/x/one/value": (1, 2), "/y/z": ([1, 2], [2, 1])}
    assert differences(a, a) == {}
    assert differences([{"k": 1}], [{"k": 2}]) == {"": ([{"k": 1}], [{"k": 2}])}
    assert differences({"x": 1}, {}) == {"/x": (1, None)}


@several
def test_drain_of_a_node_keeps_a_replica(path: Path) -> None:
    budget = kind(path, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= workload(path)["spec"]["template"]["metadata"]["labels"].items()
    assert 0 < budget["maxUnavailable"] < workload(path)["spec"]["replicas"]


@several
def test_spread_constraints_use_labels_of_the_pods(path: Path) -> None:
    for constraint in pod(path)["topologySpreadConstraints"]:
        labels = workload(path)["spec"]["template"]["metadata"]["labels"]
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
        # only pods of a Deployment have this label; a constraint with a missing key has no effect
        assert ("matchLabelKeys" in constraint) == (workload(path)["kind"] == "Deployment")


@each
def test_container_listens_on_its_ports(path: Path) -> None:
    only = container(path)
    assert only["name"] == NAME
    assert only["image"] == "websocket-service:latest"
    assert only["imagePullPolicy"] == "IfNotPresent"
    internal = [] if path == MINIKUBE else [{"name": "internal", "containerPort": settings_of(path).internal_port}]
    assert only["ports"] == [{"name": "http", "containerPort": 8004}, *internal]
    assert kind(path, "Service")["spec"]["ports"] == [{"name": "http", "port": 8004, "targetPort": "http"}]


@each
def test_probes_use_the_health_routes(path: Path) -> None:
    only = container(path)
    for probe, route in ("startup", "/health"), ("readiness", "/health"), ("liveness", "/healthz"):
        assert only[f"{probe}Probe"]["httpGet"] == {"path": route, "port": "http"}


@each
def test_pod_is_restricted_with_a_read_only_root(path: Path) -> None:
    spec, context = pod(path), container(path)["securityContext"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    assert all(set(volume) == {"name", "secret"} for volume in spec.get("volumes", []))


@each
def test_pod_gets_no_token_or_variables_of_the_cluster(path: Path) -> None:
    assert pod(path)["enableServiceLinks"] is False
    assert pod(path)["automountServiceAccountToken"] is False


@each
def test_annotations_of_dapr_are_complete(path: Path) -> None:
    expected = {
        "enabled": "true",
        "app-id": NAME,
        "app-port": str(settings_of(path).internal_port or 8004),
        "config": documents(ACCESS)[0]["metadata"]["name"],
        "app-protocol": "http",
        "enable-app-health-check": "true",
        "app-health-check-path": "/healthz",
        "disable-builtin-k8s-secret-store": "true",  # it would crash without a service account token
    }
    assert annotations(path).items() >= expected.items()
    assert annotations(path)["kubectl.kubernetes.io/default-container"] == container(path)["name"]


@with_tokens
def test_sidecar_and_bridge_share_the_app_token(path: Path) -> None:
    reference = environment(path)["APP_API_TOKEN"]["secretKeyRef"]
    assert reference["name"] == annotations(path)["app-token-secret"]
    assert reference["key"] == "token"  # Dapr reads this key


@pytest.mark.fault("B2")
def test_access_is_denied_to_every_app() -> None:
    (configuration,) = documents(ACCESS)
    assert (configuration["apiVersion"], configuration["kind"]) == ("dapr.io/v1alpha1", "Configuration")
    assert configuration["metadata"] == {"name": annotations(PRODUCTION)["config"]}
    control = configuration["spec"]["accessControl"]
    assert control["defaultAction"] == "deny"
    assert "policies" not in control


@each
@pytest.mark.fault("B2")
def test_head_names_the_configuration_that_the_sidecar_needs(path: Path) -> None:
    assert "#   kubectl apply -f k8s/dapr/access.yaml" in head(path)


@with_tokens
@pytest.mark.fault("B1")
def test_network_policy_allows_only_the_peers_of_each_port(path: Path) -> None:
    spec = kind(path, "NetworkPolicy")["spec"]
    assert spec["podSelector"] == {"matchLabels": workload(path)["spec"]["selector"]["matchLabels"]}
    assert spec["policyTypes"] == ["Ingress"]
    public, monitoring = spec["ingress"]
    named = {port["name"] for port in container(path)["ports"]}
    assert public == {"ports": [{"port": "http"}]}
    assert monitoring["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert monitoring["ports"] == [{"port": "internal"}, {"port": 9090}]
    assert named == {"http", "internal"}


@each
@pytest.mark.fault("B1", "B3")
def test_settings_are_secure_except_on_minikube(path: Path) -> None:
    values = {name: value if isinstance(value, str) else "t" * 32 for name, value in environment(path).items()}
    plain = {name: value for name, value in values.items() if not name.endswith("_FILE")}
    keys = {} if path == MINIKUBE else {"WSBRIDGE_JWT_SECRET": "s" * 48}
    found = weaknesses(load(plain | keys)[0])
    assert all(line.startswith("WSBRIDGE_DEMO") for line in found)
    assert bool(found) is (path == MINIKUBE)


@each
def test_grace_period_covers_the_shutdown(path: Path) -> None:
    grace = pod(path)["terminationGracePeriodSeconds"]
    before = container(path).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    bridge = before + settings_of(path).drain_timeout + STOP_SECONDS
    sidecar = duration(annotations(path).get("block-shutdown-duration", "0s"))
    sidecar += int(annotations(path).get("graceful-shutdown-seconds", 5))
    # a native sidecar stops after the bridge, an ordinary one together with it; Dapr can be set to make all of them
    # native
    one_after_the_other = path in (REDIS, GROUPS)
    assert grace >= (bridge + sidecar if one_after_the_other else max(bridge, sidecar))


@with_tokens
def test_production_waits_until_the_service_has_removed_the_pod(path: Path) -> None:
    assert container(path)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


@each
def test_memory_limit_covers_what_the_settings_allow(path: Path) -> None:
    settings, resources = settings_of(path), container(path)["resources"]
    limit = quantity(resources["limits"]["memory"])
    history = 0 if path == REDIS else settings.history_max_bytes
    assert settings.max_connections > 0
    assert limit >= 1.5 * (settings.max_connections * IDLE_BYTES + history + PROCESS_BYTES)
    assert quantity(resources["requests"]["memory"]) <= limit
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


@each
def test_environment_is_accepted_verbatim(path: Path, tmp_path: Path) -> None:
    secret, url = tmp_path / "secret", tmp_path / "url"
    secret.write_text("s" * 48 + "\n", encoding="utf-8")
    url.write_text("redis://:secret@valkey:6379/0\n", encoding="utf-8")
    found = environment(path)
    assert {name.removeprefix(PREFIX).removesuffix("_FILE") for name in found} <= set(HELP)
    assert all(name.startswith(PREFIX) or name in UNPREFIXED for name in found)
    values = {name: value if isinstance(value, str) else "t" * 32 for name, value in found.items()}
    files = {name: str(url if "REDIS" in name else secret) for name in found if name.endswith("_FILE")}
    settings, warnings = load(values | files)
    assert warnings == []
    assert (settings.host, settings.port) == ("0.0.0.0", 8004)
    assert settings.auth == ("none" if path == MINIKUBE else "required")
    assert (settings.redis_url is not None) == (path == REDIS)


@with_tokens
def test_secrets_are_those_of_the_commands_in_the_head(path: Path) -> None:
    made = re.findall(r"kubectl create secret generic (\S+) --from-literal=([\w-]+)=", head(path))
    assert sorted(made) == sorted(secrets(path))
    assert all(mount["readOnly"] for mount in container(path)["volumeMounts"])


@each
def test_commands_name_existing_objects(path: Path) -> None:
    ours = {"Deployment": {"deployment", "deploy"}, "StatefulSet": {"statefulset"}}[workload(path)["kind"]]
    named = re.findall(rf"\b(deploy|deployment|statefulset)/{NAME}\b", path.read_text(encoding="utf-8"))
    assert set(named) <= ours
    assert f"kubectl rollout status {workload(path)['kind'].lower()}/{NAME}" in head(path)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:password@host:6379/0",
        "redis+sentinel://host:26379,host:26379/name",
        "redis+cluster://host:6379,host:6379",
        "rediss://user:password@host:6379/0?ssl_ca_certs=/etc/redis/ca.crt",
    ],
)
def test_urls_of_redis_in_comments_are_valid(url: str) -> None:
    first, *query = url.split("?")
    assert all(part in head(REDIS) for part in (first.replace("rediss:", "redis:"), *query))
    settings, _ = load({"WSBRIDGE_REDIS_URL": url})
    assert settings.redis_url is not None
    assert settings.redis_url.options == tuple(("ssl_ca_certs", "/etc/redis/ca.crt") for _ in query)


def test_minikube_manifest_needs_no_secret() -> None:
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
def test_minikube_manifest_has_commands_to_try(line: str) -> None:
    assert f"\n#   {line}\n" in MINIKUBE.read_text(encoding="utf-8")


@pytest.mark.fault("B1", "A6")
async def test_minikube_commands_work_through_a_forwarded_port(start: Start) -> None:
    settings = {name.removeprefix(PREFIX): value for name, value in environment(MINIKUBE).items()}
    bridge = await start(**settings)
    tab, _ = await bridge.opened("test-user")
    assert (await bridge.get("/stats"))[1]["users"] == {"test-user": 1}
    assert (await bridge.get("/dapr/subscribe"))[0] == 200
    assert (await bridge.get("/"))[0] == 200
    assert await bridge.publish({"user_id": "test-user"}) == "SUCCESS"
    assert (await receive(tab))["type"] == "task_update"


@with_tokens
@pytest.mark.fault("B1")
async def test_production_commands_work_through_forwarded_ports(path: Path, start: Start) -> None:
    """The internal port for sidecar and operators, the other one for browsers.

    The Redis of that variant is left out.
    """
    plain = {name: value for name, value in environment(path).items() if not name.endswith("_FILE")}
    settings = {name.removeprefix(PREFIX): value for name, value in plain.items() if isinstance(value, str)}
    bridge = await start(**settings | {"JWT_SECRET": SECRET, "INTERNAL_PORT": "0", "ADMIN_TOKEN": ""})
    public, internal = bridge.server.ports
    tab, _ = await bridge.opened("u1", token=token("u1"))
    event, headers = cloud_event({"user_id": "u1"}), {"dapr-api-token": APP_TOKEN}
    for port, found in ((public, 404), (internal, 200)):
        url = f"http://127.0.0.1:{port}"
        for route in ("/stats", "/users/u1", "/metrics"):
            async with bridge.http.get(url + route) as response:
                assert response.status == found, (port, route)
        async with bridge.http.post(f"{url}/events/task-updates", json=event, headers=headers) as response:
            assert response.status == found
    assert (await receive(tab))["type"] == "task_update"


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=str)
def test_commands_name_files_that_exist(path: Path) -> None:
    named = re.findall(r"kubectl apply -f (\S+)", path.read_text(encoding="utf-8"))
    assert path.relative_to(K8S.parent).as_posix() in named
    assert all((K8S.parent / name).is_file() for name in named)


def test_kafka_component_is_shared_and_escapes_headers() -> None:
    (component,) = documents(SHARED)
    settings, _ = load({})
    assert (component["apiVersion"], component["kind"]) == ("dapr.io/v1alpha1", "Component")
    assert component["metadata"] == {"name": settings.pubsub_name}
    assert component["spec"].keys() == {"type", "version", "metadata"}
    assert component["spec"]["type"] == "pubsub.kafka"
    assert component["spec"]["version"] == "v1"
    values = values_of(component)
    assert all(isinstance(value, str) for value in values.values())
    assert values.keys() >= {"brokers", "authType"}
    # it is shared: a group in it would be common to all services, and each event would reach only one of them
    assert not {"consumerGroup", "consumerID"} & values.keys()
    assert values["escapeHeaders"] == "true"
    assert values["heartbeatInterval"] == "500ms"  # Dapr's default would delay events by up to 3 s at each deploy
    scopes = {"backend", "notification-service", "recurring-task-service", "audit-log-service", NAME}
    assert sorted(component["scopes"]) == sorted(scopes)


def test_consumer_group_component_is_the_shared_one_with_a_group_for_each_pod() -> None:
    (shared,), (own,) = documents(SHARED), documents(OWN)
    assert differences(shared, own) == {
        "/metadata/name": ("pubsub-kafka", settings_of(GROUPS).pubsub_name),
        "/spec/metadata/consumerGroup": (None, {"name": "consumerGroup", "value": "wsbridge-{podName}"}),
        "/scopes": (shared["scopes"], [annotations(GROUPS)["app-id"]]),
    }


def commits(path: Path) -> list[dict[str, str]]:
    """The group and the topic of each command in its head that commits offsets."""
    joined = head(path).replace("\\\n#", " ")
    commands = re.findall(r"kafka-consumer-groups\.sh [^\n]*--reset-offsets[^\n]*", joined)
    return [dict(re.findall(r"--(bootstrap-server|topic|group) (\S+)", command)) for command in commands]


@with_tokens
def test_head_commits_offsets_for_each_group(path: Path) -> None:
    settings = settings_of(path)
    (component,) = documents(OWN if path == GROUPS else SHARED)
    assert component["metadata"]["name"] == settings.pubsub_name
    group = values_of(component).get("consumerGroup", annotations(path)["app-id"])  # without one Dapr uses the app id
    assert commits(path) == [
        {
            "bootstrap-server": values_of(component)["brokers"],
            "topic": settings.topics[0][0],
            "group": group.replace("{podName}", f"{workload(path)['metadata']['name']}-0"),
        }
    ]


def test_new_group_has_its_partitions_before_clients_connect() -> None:
    assert container(GROUPS)["readinessProbe"]["initialDelaySeconds"] > SESSION_SECONDS
    assert "sessionTimeout" not in values_of(documents(OWN)[0])


def test_resiliency_policy_retries_forever() -> None:
    (resiliency,) = documents(K8S / "dapr" / "resiliency.yaml")
    assert (resiliency["apiVersion"], resiliency["kind"]) == ("dapr.io/v1alpha1", "Resiliency")
    assert resiliency["scopes"] == [annotations(PRODUCTION)["app-id"]]
    assert resiliency["spec"].keys() == {"policies", "targets"}
    assert resiliency["spec"]["policies"].keys() == {"retries"}
    (name,) = resiliency["spec"]["policies"]["retries"]
    components = [documents(path)[0]["metadata"]["name"] for path in (SHARED, OWN)]
    assert resiliency["spec"]["targets"] == {
        "components": {pubsub: {"inbound": {"retry": name}} for pubsub in components}
    }
    # Dapr's exponential back-off ends after 15 minutes in any case
    policy = resiliency["spec"]["policies"]["retries"][name]
    assert policy == {"policy": "constant", "duration": "1s", "maxRetries": -1}


def test_valkey_manifest_fits_the_redis_variant() -> None:
    maker, service = documents(VALKEY)
    for document in (maker, service):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert maker["spec"]["selector"]["matchLabels"] == maker["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == maker["spec"]["template"]["metadata"]["labels"]
    spec = maker["spec"]["template"]["spec"]
    (only,) = spec["containers"]
    assert only["securityContext"] == container(REDIS)["securityContext"]
    assert spec["securityContext"].items() >= pod(REDIS)["securityContext"].items()
    assert [(port["name"], port["containerPort"]) for port in only["ports"]] == [
        (service["spec"]["ports"][0]["targetPort"], 6379)
    ]
    (claim,), (mount,) = maker["spec"]["volumeClaimTemplates"], only["volumeMounts"]
    assert mount["name"] == claim["metadata"]["name"]
    assert arguments()["dir"] == mount["mountPath"]
    (url,) = re.findall(r'REDIS_URL="(.*)"\n', head(VALKEY))
    settings, _ = load({"WSBRIDGE_REDIS_URL": re.sub(r"\$\(.*\)", "ab12", url)})
    assert settings.redis_url is not None
    assert settings.redis_url.hosts == ((service["metadata"]["name"], service["spec"]["ports"][0]["port"]),)
    reference = only["env"][0]["valueFrom"]["secretKeyRef"]
    made = re.findall(r"kubectl create secret generic (\S+) --from-literal=([\w-]+)=", head(VALKEY))
    assert made == [(reference["name"], reference["key"])]
    assert arguments()["requirepass"] == f"$({only['env'][0]['name']})"


def arguments() -> dict[str, str]:
    words = documents(VALKEY)[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert all(name.startswith("--") for name in words[::2])
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


async def test_valkey_starts_with_the_manifests_command_and_keeps_its_data(tmp_path: Path) -> None:
    config = {name: value for name, value in arguments().items() if name not in ("dir", "requirepass")}
    async with Valkey(tmp_path, **config) as valkey:
        found = await valkey.client(decode_responses=True).config_get("maxmemory*", "appendonly", "save")
    limit = quantity(documents(VALKEY)[0]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])
    assert (found["appendonly"], found["save"], found["maxmemory-policy"]) == ("yes", "", "noeviction")
    assert 0 < int(str(found["maxmemory"])) <= limit / 3
