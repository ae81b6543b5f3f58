"""compose.yaml: valid for Compose, in agreement with the project, and its programs deliver an event."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.e2e import parts
from tests.e2e.composed import FILE, PROFILES, TOOLS, Composed, composed, kafka_property, services
from tests.support.manifests import K8S
from tests.support.prometheus import promtool
from tests.support.running import ROOT, receive
from tests.support.shell import output
from tests.support.valkey import Valkey
from wsbridge.config.env import load
from wsbridge.config.settings import HELP, PREFIX

EVERY = pytest.mark.parametrize("profile", PROFILES)
IMAGE = "websocket-service:latest"  # built here
IN_THE_IMAGE = {"WSBRIDGE_HOST": "0.0.0.0"}
COMMON = {"kafka", "kafka-init", "backend", "backend-sidecar", "prometheus", "grafana"}
OF_GRAFANA = {"GF_AUTH_ANONYMOUS_ENABLED", "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"}  # not checked: no Grafana here
LISTENS = {"backend": {8000, 3500}, "prometheus": {9090}, "grafana": {3000}}  # 3500: its sidecar's


def of_backend() -> set[str]:
    """The variables in the table of the backend's README."""
    text = (ROOT / "examples" / "tasks-backend" / "README.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| `[A-Z_]+`.*", text, re.MULTILINE))
    return set(re.findall(r"`([A-Z_]+)`", rows))


def all_services() -> dict[str, Any]:
    return {name: service for profile in PROFILES for name, service in services(profile).items()}


@EVERY
def test_profile_has_its_bridges_with_a_sidecar_each(profile: str) -> None:
    found = services(profile)
    redis = {"valkey"} if profile == "redis" else set()
    bridges = PROFILES[profile]
    assert set(found) == COMMON | redis | {*bridges, *(f"{bridge}-sidecar" for bridge in bridges)}
    for name, service in found.items():
        if name.endswith("-sidecar"):
            assert service["network_mode"] == f"service:{name.removesuffix('-sidecar')}"


def test_schema_of_compose_refuses_an_unknown_key(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("retries: 12", "retrys: 12", 1))
    with pytest.raises(ValueError, match="retrys"):
        services("single", wrong)


def test_images_are_pinned_to_the_tested_versions() -> None:
    images = {service["image"] for service in all_services().values()}
    assert {image.split(":")[0] for image in images if not re.search(r":v?\d+\.\d+(\.\d+)?$", image)} == {
        "websocket-service"
    }
    tags = dict(image.split(":") for image in images)
    pom = parts.POM.read_text()
    assert f"<artifactId>kafka_2.13</artifactId>\n      <version>{tags['apache/kafka']}<" in pom
    valkey = next(yaml.safe_load_all((K8S / "redis" / "valkey.yaml").read_text()))
    [container] = valkey["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"valkey/valkey:{tags['valkey/valkey']}"
    doctor = (ROOT / "docs" / "doctor.md").read_text()
    assert f"Dapr {tags['daprio/daprd']} or newer" in doctor
    builds = {service["build"]["context"] for service in all_services().values() if service["image"] == IMAGE}
    assert builds == {str(ROOT)}


@EVERY
def test_published_ports_are_on_loopback_differ_and_are_listened_to(profile: str) -> None:
    ports = [(name, port) for name, service in services(profile).items() for port in service.get("ports", ())]
    assert {port["host_ip"] for _, port in ports} == {"127.0.0.1"}
    assert len({port["published"] for _, port in ports}) == len(ports) == 4 + len(PROFILES[profile])
    for name, port in ports:
        assert port["target"] in LISTENS.get(name, {load({})[0].port})


def test_mounts_are_files_of_the_repository_and_read_only() -> None:
    volumes = [volume for service in all_services().values() for volume in service.get("volumes", ())]
    assert len(volumes) > 10
    for volume in volumes:
        assert Path(volume["source"]).is_relative_to(ROOT)
        assert Path(volume["source"]).exists()
        assert volume["read_only"] is True


def test_variables_are_those_that_the_programs_read() -> None:
    command = [str(parts.required(parts.java)), "-cp", f"{parts.required(parts.kafka)}/*", "kafka.server.KafkaConfig"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r'id="brokerconfigs_([\w.]+)"', listing))
    script = (ROOT / "compose" / "kafka-init.sh").read_text()
    for name, service in all_services().items():
        names = set(service.get("environment", {}))
        match service["image"].split(":")[0]:
            case "websocket-service" if name != "backend":
                assert {variable.removeprefix(PREFIX) for variable in names} <= set(HELP)
            case "websocket-service":
                assert names - {f"{PREFIX}JWT_SECRET"} <= of_backend()
            case "daprio/daprd":
                assert names <= {"POD_NAME"}
            case "apache/kafka" if name == "kafka":
                assert {kafka_property(variable) for variable in names} <= known
            case "apache/kafka":
                assert all(f"${variable}" in script for variable in names)
            case "grafana/grafana":
                assert names == OF_GRAFANA
            case _:
                assert not names


@EVERY
def test_bridges_have_settings_with_which_the_image_starts(profile: str) -> None:
    for bridge in PROFILES[profile]:
        settings, unknown = load(IN_THE_IMAGE | services(profile)[bridge]["environment"])
        assert not unknown
        assert settings.drain_timeout < 10  # seconds until Docker kills


def test_sidecars_of_bridges_have_the_flags_of_the_manifest() -> None:
    documents = yaml.safe_load_all((K8S / "websocket-service.yaml").read_text())
    annotations = next(documents)["spec"]["template"]["metadata"]["annotations"]
    [*flags] = services("single")["bridge-sidecar"]["command"][1:]
    given = dict(flag.removeprefix("--").split("=") for flag in flags)
    for name in ("app-id", "app-protocol", "enable-app-health-check", "app-health-check-path", "log-as-json"):
        assert given[name] == annotations[f"dapr.io/{name}"]
    assert given["app-port"] == str(load({})[0].port)
    assert {*given} <= {
        *("app-id", "app-port", "app-protocol", "enable-app-health-check", "app-health-check-path", "config"),
        *("resources-path", "metrics-listen-address", "dapr-graceful-shutdown-seconds", "log-as-json"),
    }


@EVERY
def test_conditions_of_dependencies_can_become_true(profile: str) -> None:
    found = services(profile)
    for service in found.values():
        for name, dependency in service.get("depends_on", {}).items():
            match dependency["condition"]:
                case "service_healthy":
                    assert "healthcheck" in found[name]
                case "service_completed_successfully":
                    assert name == "kafka-init"
                case condition:
                    assert condition == "service_started"


def test_health_checks_of_servers_are_commands_of_their_images() -> None:
    """Those of the bridges and the backend are run below. Valkey's command line is not on this machine."""
    found = services("redis")
    kind, program, *_ = found["kafka"]["healthcheck"]["test"]
    assert (kind, Path(program).parent, Path(program).name in TOOLS) == ("CMD", Path("/opt/kafka/bin"), True)
    assert found["valkey"]["healthcheck"]["test"] == ["CMD", "valkey-cli", "ping"]


async def test_prometheus_reads_the_rules_and_scrapes_all_bridges(tmp_path: Path) -> None:
    prometheus = services("redis")["prometheus"]
    sources = {volume["target"]: Path(volume["source"]) for volume in prometheus["volumes"]}
    [command] = prometheus["command"]
    rules, config = "/prometheus/rules.yaml", "/etc/prometheus/prometheus.yml"
    command = command.replace(rules, str(tmp_path / "rules.yaml")).replace(" /rules.yaml", f" {sources['/rules.yaml']}")
    extract, start = command.split(" && ")
    await output(*prometheus["entrypoint"], extract)
    assert "rules found" in promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert (
        yaml.safe_load((tmp_path / "rules.yaml").read_text())
        == yaml.safe_load(sources["/rules.yaml"].read_text())["spec"]
    )

    assert f"--config.file={config}" in start
    text = sources[config].read_text()
    assert yaml.safe_load(text)["rule_files"] == [rules]
    (tmp_path / "prometheus.yml").write_text(text.replace(rules, "rules.yaml"))
    promtool("check", "config", str(tmp_path / "prometheus.yml"))
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in yaml.safe_load(text)["scrape_configs"]}
    assert {name: job["port"] for name, job in jobs.items()} == {"websocket-service": 8004, "sidecar": 9090}
    for profile, bridges in PROFILES.items():
        for bridge in bridges:
            aliases = services(profile)[bridge]["networks"]["default"]["aliases"]
            assert all(job["names"] == aliases for job in jobs.values())


def test_grafana_has_the_dashboard_and_its_data_source() -> None:
    grafana = services("redis")["grafana"]
    sources = {volume["target"]: Path(volume["source"]) for volume in grafana["volumes"]}
    dashboard = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert sources[dashboard] == K8S / "monitoring" / "dashboard.json"
    provisioned = {
        path.split("/")[-2]: yaml.safe_load(source.read_text()) for path, source in sources.items() if "/etc/" in path
    }
    [provider] = provisioned["dashboards"]["providers"]
    assert provider["options"]["path"] == str(Path(dashboard).parent)
    [source] = provisioned["datasources"]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert '"query": "prometheus"' in sources[dashboard].read_text()
    assert source["type"] == "prometheus"


def test_documents_name_profiles_of_the_file() -> None:
    texts = [path.read_text() for path in (FILE, ROOT / "README.md", ROOT / "docs" / "chain.md")]
    named = {name for text in texts for name in re.findall(r"docker compose --profile (\S+)", text)}
    assert named == set(PROFILES)


async def test_job_run_again_keeps_the_offsets(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        chain = Composed("single", tmp_path, "", http)
        try:
            await chain.start_kafka()
            assert "has offsets" not in await chain.initialise()
            assert (await chain.initialise()).count("has offsets") == 3
        finally:
            chain.end()


@EVERY
async def test_task_posted_to_the_backend_reaches_every_bridge(profile: str, tmp_path: Path) -> None:
    """With the commands, environments and mounted files of compose.yaml, and daprd of the tests' version."""
    async with (
        Valkey(tmp_path) as valkey,
        composed(profile, tmp_path, valkey.address) as chain,
        aiohttp.ClientSession() as http,
    ):
        tabs = []
        for port in chain.bridges.values():
            async with http.get(f"http://127.0.0.1:{port}/") as page:
                assert "wsbridge-port" in await page.text()
            tabs.append(await http.ws_connect(f"http://127.0.0.1:{port}/ws?user_id=alice"))
            await receive(tabs[-1])
        command = (sys.executable, "-m", "wsbridge", "token", "--user", "alice")
        token = await output(*command, env=chain.environment("backend"))
        headers = {"Authorization": f"Bearer {token.strip()}"}
        async with http.post(
            f"http://127.0.0.1:{chain.backend}/api/tasks", json={"title": "Buy milk"}, headers=headers
        ) as answer:
            task = await answer.json()
            assert answer.status == 201, task
        assert [(await receive(tab))["event"] for tab in tabs] == [task] * len(PROFILES[profile])
