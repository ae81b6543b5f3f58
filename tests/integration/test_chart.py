"""The Helm chart: k8s/ is rendered from it, each example works, and wrong values are refused with a reason."""

import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]  # ships no py.typed
import pytest
import yaml

from tests.e2e import parts
from tests.support import chart
from tests.support.chart import CHART, RENDERED, VALUES, Refused
from tests.support.command import finished
from tests.support.manifests import K8S, documents, quantity
from tests.support.prometheus import MONITORING, promtool, rules
from tests.support.release import address, version
from tests.support.running import ROOT, Start
from wsbridge import __version__
from wsbridge.cli.verify.command import verify
from wsbridge.config.env import load
from wsbridge.config.settings import HELP, PREFIX, UNPREFIXED

pytestmark = pytest.mark.once

CUSTOM = {"dapr.io", "gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com"}  # groups of custom resources
each = pytest.mark.parametrize("name", VALUES)
Objects = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _helm() -> None:
    parts.required(parts.helm)


def rendered(*arguments: str) -> Objects:
    """Kind → object. The test's Pod is the only Pod; Valkey's objects are left out."""
    found = [document for document in yaml.safe_load_all(chart.template(*arguments)) if document]
    return {document["kind"]: document for document in found if document["metadata"]["name"] != "valkey"}


def example(name: str) -> Objects:
    return rendered("--values", str(VALUES[name]))


def template_of(objects: Objects) -> dict[str, Any]:
    maker = objects.get("Deployment") or objects["StatefulSet"]
    template: dict[str, Any] = maker["spec"]["template"]
    return template


def container(objects: Objects) -> dict[str, Any]:
    [only] = template_of(objects)["spec"]["containers"]
    return dict(only)


def environment(objects: Objects) -> dict[str, Any]:
    entries = container(objects)["env"]
    found = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}
    assert len(found) == len(entries)
    return found


def test_default_image_is_the_one_that_the_release_publishes_in_the_charts_version() -> None:
    owner = address().split("/")[-2]
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    [name] = re.findall(r"^ +images: (.+)$", workflow, re.MULTILINE)
    assert container(rendered())["image"] == f"{name.replace('${{ github.repository_owner }}', owner)}:{version()}"


# k8s/


@pytest.mark.parametrize("name", RENDERED)
def test_file_in_k8s_is_what_the_chart_renders(name: str) -> None:
    assert (K8S / name).read_text(encoding="utf-8") == chart.manifest(name), "run: make manifests"


def test_every_file_in_k8s_is_rendered_or_a_source_of_the_chart() -> None:
    found = {path.relative_to(K8S).as_posix() for path in K8S.rglob("*") if path.is_file()}
    assert found == {*RENDERED, "monitoring/rules.yaml", "monitoring/dashboard.json"}


def test_packaged_chart_has_rules_and_dashboard_and_no_examples(tmp_path: Path) -> None:
    chart.helm("package", str(CHART), "--destination", str(tmp_path))
    with tarfile.open(tmp_path / f"wsbridge-{__version__}.tgz") as package:
        names = package.getnames()
        board, rule = (package.extractfile(f"wsbridge/files/{name}") for name in ("dashboard.json", "rules.yaml"))
        assert board is not None
        assert rule is not None
        assert board.read() == (MONITORING / "dashboard.json").read_bytes()
        assert rule.read() == (MONITORING / "rules.yaml").read_bytes()
    assert {"wsbridge/values.schema.json", "wsbridge/README.md", "wsbridge/templates/NOTES.txt"} <= set(names)
    assert [name for name in names if "/ci/" in name] == []


def test_chart_has_the_version_of_the_package() -> None:
    found = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (found["version"], found["appVersion"]) == (__version__, __version__)


def test_readme_lists_the_values() -> None:
    assert (CHART / "README.md").read_text(encoding="utf-8") == chart.readme(), "run: make manifests"


def test_readme_links_have_a_target() -> None:
    for target in re.findall(r"\]\(([^)#]+)", (CHART / "README.md").read_text(encoding="utf-8")):
        assert (CHART / target).exists(), target


def test_schema_has_exactly_the_values() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    documented = {path for path, _, _ in chart.values()}

    def leaves(schema: dict[str, Any], values: dict[str, Any], prefix: str = "") -> set[str]:
        assert schema["additionalProperties"] is False, prefix
        assert schema["properties"].keys() - {"global"} == values.keys(), prefix
        return {
            leaf
            for name, value in values.items()
            for leaf in (
                leaves(schema["properties"][name], value, f"{prefix}{name}.")
                if "properties" in schema["properties"][name]
                else {prefix + name}
            )
        }

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert leaves(schema, defaults) == documented


# Every example


@each
def test_example_passes_the_linter(name: str) -> None:
    found = chart.helm("lint", "--strict", str(CHART), "--values", str(VALUES[name]))
    assert re.findall(r"^\[(?!INFO\] Chart.yaml: icon).*", found, re.MULTILINE) == []


@pytest.mark.parametrize("version", ["1.30.0", kubernetes_validate.latest_version()])
@each
def test_example_fits_the_schemas(name: str, version: str) -> None:
    for document in yaml.safe_load_all(chart.template("--values", str(VALUES[name]))):
        if document["apiVersion"].partition("/")[0] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


@each
def test_example_has_one_name_and_matching_selectors(name: str) -> None:
    objects = example(name)
    release = "push" if name == "nginx" else chart.RELEASE
    labels = template_of(objects)["metadata"]["labels"]
    assert labels["app"] == release
    for kind, document in objects.items():
        own = document["metadata"]["name"]
        assert own in {release, f"{release}-test", f"{release}-dashboard", "pubsub-kafka", "pubsub-kafka-websocket"}
        if kind not in {"Pod", "Configuration", "Resiliency", "Component"}:
            assert document["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    assert objects["Service"]["spec"]["selector"] == {"app": release}
    assert objects["Pod"]["metadata"]["labels"]["app"] != release  # no client may reach it through the Service


@each
def test_example_pods_are_restricted(name: str) -> None:
    objects = example(name)
    for spec in template_of(objects)["spec"], objects["Pod"]["spec"]:
        [only] = spec["containers"]
        assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@each
def test_example_environment_is_accepted(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://redis:6379" if name in {"redis", "nginx", "gateway"} else "s" * 48, encoding="utf-8")
    key = tmp_path / "key"
    key.write_text("s" * 48, encoding="utf-8")
    found = {n: v for n, v in environment(example(name)).items() if n.startswith((PREFIX, "APP_"))}
    assert {n.removeprefix(PREFIX).removesuffix("_FILE") for n in found} <= set(HELP)
    values = {
        n: v if isinstance(v, str) else f"{n:t<32}" for n, v in found.items() if n != "WSBRIDGE_JWT_PUBLIC_KEY_FILE"
    }
    values |= {n: str(file if "REDIS" in n else key) for n in values if n.endswith("_FILE")}
    if name == "alb":
        values["WSBRIDGE_AUTH"] = "none"  # the test has no public key
    settings, warnings = load(values)
    assert warnings == []
    assert (settings.redis_url is not None) == (name in {"redis", "nginx", "gateway"})


@each
def test_example_grace_period_covers_the_drain(name: str) -> None:
    objects = example(name)
    drain = float(environment(objects).get("WSBRIDGE_DRAIN_TIMEOUT", "20"))
    several = "replicas" not in (maker := objects.get("Deployment") or objects["StatefulSet"])["spec"]
    several |= maker["spec"].get("replicas", 0) > 1
    before = 0 if name == "minikube" else 5
    assert template_of(objects)["spec"]["terminationGracePeriodSeconds"] >= before + drain + 5 + 15 * several


def test_large_numbers_in_settings_are_written_in_full() -> None:
    found = environment(example("nginx"))
    assert found["WSBRIDGE_MAX_UNSENT_BYTES"] == "268435456"
    assert found["WSBRIDGE_MAX_CONNECTIONS"] == "20000"
    assert found["WSBRIDGE_BULK_WAIT"] == "0.02"
    assert found["WSBRIDGE_DRAIN_TIMEOUT"] == "30"


def test_setting_replaces_the_default_of_the_chart_and_is_written_once() -> None:
    for name, words in ("WSBRIDGE_HISTORY_MAX_BYTES", "1000000"), ("WSBRIDGE_DRAIN_TIMEOUT", "7"):
        assert environment(rendered("--set", f"settings.{name}={words}"))[name] == words
        assert environment(rendered("--set", f"mode=redis,settings.{name}={words}"))[name] == words
    groups = rendered("--set", "mode=consumer-groups,settings.WSBRIDGE_PUBSUB_NAME=own")
    assert environment(groups)["WSBRIDGE_PUBSUB_NAME"] == groups["Component"]["metadata"]["name"] == "own"
    assert "own" in groups["Resiliency"]["spec"]["targets"]["components"]


# Its parts


@each
def test_secrets_are_only_referenced(name: str) -> None:
    assert "Secret" not in example(name)
    for variable, value in environment(example(name)).items():
        assert not re.search(r"TOKEN$|SECRET$|REDIS_URL$|PASSWORD$", variable) or isinstance(value, dict), variable


@pytest.mark.parametrize("name", ["nginx", "alb"])
def test_ingress_has_only_the_routes_of_browsers_and_long_timeouts(name: str) -> None:
    objects = example(name)
    ingress = objects["Ingress"]
    [rule] = ingress["spec"]["rules"]
    assert [(path["path"], path["pathType"]) for path in rule["http"]["paths"]] == [
        ("/ws", "Exact"), ("/sse", "Exact"), ("/client.js", "Exact"),
    ]  # fmt: skip
    for path in rule["http"]["paths"]:
        assert path["backend"]["service"] == {"name": ingress["metadata"]["name"], "port": {"name": "http"}}
    documented = (ROOT / "docs" / "ingress.md").read_text(encoding="utf-8").split("## Kubernetes")[1]
    prefix = {"nginx": "nginx.ingress.kubernetes.io/proxy-", "alb": "alb.ingress.kubernetes.io/load-balancer-"}[name]
    own = {key: value for key, value in ingress["metadata"]["annotations"].items() if key.startswith(prefix)}
    assert own
    for key, value in own.items():
        assert f"{key}: {value}" in documented.replace('"', "")
        assert float(re.findall(r"\d+", value)[0]) > load({})[0].ping_interval


def test_http_route_has_only_the_routes_of_browsers_and_no_timeout() -> None:
    objects = example("gateway")
    [rule] = objects["HTTPRoute"]["spec"]["rules"]
    assert [match["path"] for match in rule["matches"]] == [
        {"type": "Exact", "value": path} for path in ("/ws", "/sse", "/client.js")
    ]
    assert rule["timeouts"] == {"request": "0s"}
    assert rule["backendRefs"] == [{"name": chart.RELEASE, "port": objects["Service"]["spec"]["ports"][0]["port"]}]


@pytest.mark.parametrize("name", ["nginx", "gateway"])
def test_autoscaler_sets_the_replicas_and_leaves_room_for_one_that_is_unavailable(name: str) -> None:
    objects = example(name)
    assert "replicas" not in objects["Deployment"]["spec"]
    limit = int(environment(objects)["WSBRIDGE_MAX_CONNECTIONS"])
    if name == "nginx":
        spec = objects["HorizontalPodAutoscaler"]["spec"]
        [metric] = spec["metrics"]
        assert metric["pods"]["metric"] == {"name": "wsbridge_connections"}
        target, least, behavior = metric["pods"]["target"]["averageValue"], spec["minReplicas"], spec["behavior"]
    else:
        spec = objects["ScaledObject"]["spec"]
        [trigger] = spec["triggers"]
        assert "wsbridge_connections{" in trigger["metadata"]["query"]
        target, least = trigger["metadata"]["threshold"], spec["minReplicaCount"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert spec["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert int(target) * least <= limit * (least - 1)
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


def test_query_of_keda_is_valid_and_selects_the_pods(tmp_path: Path) -> None:
    objects = example("gateway")
    [trigger] = objects["ScaledObject"]["spec"]["triggers"]
    rule = {"record": "x", "expr": trigger["metadata"]["query"]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [rule]}]}), encoding="utf-8")
    promtool("check", "rules", str(tmp_path / "rules.yaml"))
    [namespace, pod] = re.findall(r'="([^"]+)"|=~"([^"]+)"', rule["expr"])
    assert namespace[0] == "default"
    assert re.fullmatch(pod[1], f"{objects['Deployment']['metadata']['name']}-5d8f7c-x2x4z")


def test_rules_and_dashboard_are_those_of_k8s_with_the_name_of_the_release() -> None:
    objects = rendered("--set", "monitoring.rules=true,monitoring.dashboard=true")
    assert objects["PrometheusRule"]["spec"] == rules()
    assert json.loads(objects["ConfigMap"]["data"]["wsbridge.json"]) == json.loads(
        (MONITORING / "dashboard.json").read_text(encoding="utf-8")
    )
    named = json.loads(json.dumps(rules()).replace(chart.RELEASE, "push"))
    assert example("nginx")["PrometheusRule"]["spec"] == named != rules()


def test_metrics_token_is_sent_by_prometheus() -> None:
    objects = example("nginx")
    [bridge, _] = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    reference = environment(objects)["WSBRIDGE_METRICS_TOKEN"]["secretKeyRef"]
    assert bridge["authorization"]["credentials"] == reference
    assert objects["PodMonitor"]["metadata"]["labels"]["release"] == "prometheus"


def test_network_policy_with_clients_still_admits_the_test() -> None:
    objects = example("nginx")
    public = objects["NetworkPolicy"]["spec"]["ingress"][0]
    assert public["ports"] == [{"port": "http"}]
    ingress, own = public["from"]
    assert ingress == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    assert own["podSelector"]["matchLabels"].items() <= objects["Pod"]["metadata"]["labels"].items()


def test_memory_limit_of_each_mode_is_that_of_its_manifest() -> None:
    for mode, file in ("single", ""), ("redis", "redis/"), ("consumer-groups", "consumer-groups/"):
        [maker, *_] = documents(K8S / f"{file}websocket-service.yaml")
        resources = maker["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert container(rendered("--set", f"mode={mode}"))["resources"] == resources
    assert quantity(container(example("nginx"))["resources"]["limits"]["memory"]) == 2**30


# `helm test`


def options(objects: Objects) -> click.Context:
    [only] = objects["Pod"]["spec"]["containers"]
    name, *words = only["args"]
    assert name == verify.name
    return verify.make_context(name, words, obj={})


@each
def test_helm_test_has_options_that_verify_accepts(name: str) -> None:
    objects = example(name)
    given = options(objects).params
    assert (
        given["url"]
        == f"ws://{objects['Service']['metadata']['name']}:{objects['Service']['spec']['ports'][0]['port']}/ws"
    )
    assert given["direct"] is (name == "minikube")
    assert objects["Pod"]["metadata"]["annotations"]["helm.sh/hook"] == "test"


@pytest.mark.parametrize("name", sorted(set(VALUES) - {"minikube"}))
def test_helm_test_publishes_through_a_sidecar_that_may_use_the_component(name: str) -> None:
    objects = example(name)
    annotations = objects["Pod"]["metadata"]["annotations"]
    bridge = template_of(objects)["metadata"]["annotations"]
    assert annotations["dapr.io/app-id"] == bridge["dapr.io/app-id"]
    assert annotations["dapr.io/config"] == bridge["dapr.io/config"]
    assert "dapr.io/app-port" not in annotations  # it would subscribe, and take events from the bridge
    assert annotations["dapr.io/enable-native-sidecar"] == "true"
    env = {entry["name"]: entry["value"] for entry in objects["Pod"]["spec"]["containers"][0]["env"]}
    settings, _ = load({n: v for n, v in env.items() if n.startswith(PREFIX) and not n.endswith("_FILE")})
    assert settings.pubsub_name == environment(objects).get("WSBRIDGE_PUBSUB_NAME", "pubsub-kafka")
    if "Component" in objects:
        assert objects["Component"]["metadata"]["name"] == settings.pubsub_name
        assert annotations["dapr.io/app-id"] in objects["Component"]["scopes"]


async def test_helm_test_of_the_demo_passes_against_a_bridge(start: Start) -> None:
    bridge = await start(AUTH="none", DEMO="true")
    [only] = rendered("--values", str(VALUES["minikube"]), "--set", "test.seconds=2")["Pod"]["spec"]["containers"]
    words = [word.replace(f"{chart.RELEASE}:8004", f"127.0.0.1:{bridge.port}") for word in only["args"]]
    code, out, notes = await finished(*words, "--wait", "1")
    assert code == 0, out + notes


def test_helm_test_without_a_source_of_tokens_is_left_out() -> None:
    assert "Pod" not in rendered("--set", "jwt.kind=jwks,jwt.jwksUrl=https://id.example.com/keys")


# The notes


def notes(*arguments: str) -> str:
    text = chart.helm("install", chart.RELEASE, str(CHART), "--dry-run=client", *arguments)
    return text.partition("\nNOTES:\n")[2]


@each
def test_notes_name_the_secrets_and_the_groups(name: str) -> None:
    objects = example(name)
    text = notes("--values", str(VALUES[name]))
    volumes = template_of(objects)["spec"].get("volumes", [])
    named = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
    tokens = [value for variable, value in environment(objects).items() if variable.endswith("_TOKEN")]
    named |= {token["secretKeyRef"]["name"] for token in tokens}
    assert set(re.findall(r"^  (\S+) with the key", text, re.MULTILINE)) == named
    groups = re.findall(r"--group (\S+)", text)
    topics = [re.findall(r"--topic (\S+)", command) for command in text.split("kafka-consumer-groups.sh")[1:]]
    assert topics == [["task-updates"]] * len(groups)
    release = objects["Service"]["metadata"]["name"]
    expected = {"minikube": [], "alb": [f"staging-{release}-{n}" for n in range(3)]}
    expected["consumer-groups"] = [f"wsbridge-{release}-{n}" for n in range(2)]
    assert groups == expected.get(name, [release])
    maker = (objects.get("Deployment") or objects["StatefulSet"])["kind"].lower()
    assert f"kubectl rollout status {maker}/{release} -n default" in text
    for words in re.findall(r"^  (kubectl|helm) (.*)$", text, re.MULTILINE):
        assert shlex.split(words[1])


def test_notes_name_the_topics_of_the_settings() -> None:
    text = notes("--set", r"settings.WSBRIDGE_TOPICS=a=x\, b=y")
    assert re.findall(r"--topic (\S+) \\$", text, re.MULTILINE) == ["a", "b"]


# Wrong values


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("mode=cluster", "at '/mode': value must be one of 'single', 'redis', 'consumer-groups'"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.name=x", "at '/image': additional properties 'name' not allowed"),
        ("replicas=two", "at '/replicas': got string, want null or integer"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replicas=2", "mode `single` runs one replica: two would share the Kafka partitions"),
        ("autoscaling.enabled=true", "autoscaling needs mode `redis`"),
        ("mode=consumer-groups,autoscaling.enabled=true", "autoscaling needs mode `redis`"),
        ("demo=true,mode=redis", "demo needs mode `single`"),
        ("settings.MAX_CONNECTIONS=1", "at '/settings': additional properties 'MAX_CONNECTIONS' not allowed"),
        ("settings.WSBRIDGE_INTERNAL_PORT=1", "settings.WSBRIDGE_INTERNAL_PORT must not be set here. Set nothing"),
        ("jwt.kind=jwks", "at '/jwt/jwksUrl': minLength: got 0, want 1"),
        ("httpRoute.enabled=true", "at '/httpRoute/parentRefs': minItems: got 0, want 1"),
        ("image.digest=sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
        ("kafka.brokers=kafka", "at '/kafka/brokers': 'kafka' does not match pattern"),
        ("fullnameOverride=1st", "at '/fullnameOverride': '1st' does not match pattern"),
        ("ingress.enabled=yes", "at '/ingress/enabled': got string, want boolean"),
        ("podLabels.app=x", "app must not be set in podLabels or podAnnotations"),
    ],
)
def test_wrong_value_is_refused_with_its_place_or_the_reason(words: str, complaint: str) -> None:
    with pytest.raises(Refused, match=re.escape(complaint)):
        chart.template("--set", words)


SECRETS = sorted({name for name in HELP if re.search(r"TOKEN$|SECRET|PUBLIC_KEY$|REDIS_URL$", name)} - UNPREFIXED)


@pytest.mark.parametrize("suffix", ["", "_FILE"])
@pytest.mark.parametrize("name", SECRETS)
def test_secret_in_settings_is_refused_with_the_value_for_it(name: str, suffix: str) -> None:
    with pytest.raises(Refused, match=rf"settings.WSBRIDGE_{name}{suffix} must not be set here. Set (\S+)") as refused:
        chart.template("--set", f"settings.WSBRIDGE_{name}{suffix}=x")
    [value] = re.findall(r"must not be set here. Set (\S+)", str(refused.value))
    assert value in {path for path, _, _ in chart.values()}


@each
def test_annotation_of_the_chart_is_refused_or_replaced_in_podannotations(name: str) -> None:
    for annotation in template_of(example(name))["metadata"]["annotations"]:
        escaped = annotation.replace(".", r"\.")
        words = ("--values", str(VALUES[name]), "--set-string", f"podAnnotations.{escaped}=x")
        if re.match(r"dapr.io/(log|sidecar)-", annotation):
            assert re.findall(rf"^ +{re.escape(annotation)}: (.*)$", chart.template(*words), re.MULTILINE) == ["x"]
        else:
            with pytest.raises(Refused, match=f"{annotation} must not be set in podLabels or podAnnotations"):
                chart.template(*words)
