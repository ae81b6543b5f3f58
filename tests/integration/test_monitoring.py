"""A real Prometheus scrapes a real bridge: its metrics, rules and alerts, each with the fault that it is for."""

import asyncio
import contextlib
import functools
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.bugs import BlockedBroadcaster, Buggy
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.frames import StalledReader
from tests.support.manifests import GROUPS, PRODUCTION, REDIS, container, documents, kind, workload
from tests.support.prometheus import BUSY, MONITORING, Prometheus, promtool, queries, rules
from tests.support.running import ROOT, SECRET, Reachable, Start, receive, until_told
from tests.support.slow_link import SlowLink
from tests.support.spawned import Spawn
from tests.support.valkey import Valkey
from wsbridge.broker.memory import MemoryBroker

pytestmark = pytest.mark.once

JOB = "websocket-service"
WAITED = 10.0  # seconds: long beside the delays of a busy machine
ALERTS = {rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}
BOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


async def post(bridge: Reachable, *users: str, age: float = 0.0, size: int = 10) -> Any:
    """Post a bulk with an event of each user, `age` seconds after Kafka got them."""
    bulk = bulk_of(*(cloud_event({"user_id": user, "text": "x" * size}) for user in users))
    for entry in bulk["entries"]:
        entry["metadata"]["__timestamp"] = str(round((time.time() - age) * 1_000))
    return await bridge.post(bulk, "application/json")


@contextlib.asynccontextmanager
async def repeated(work: Callable[[], Awaitable[object]], pause: float = 0.1) -> AsyncIterator[None]:
    """Do the work again and again while the body runs."""

    async def forever() -> None:
        while True:
            await work()
            await asyncio.sleep(pause)

    job = asyncio.create_task(forever())
    try:
        yield
        assert not job.done() or job.exception() is None
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


@contextlib.asynccontextmanager
async def scraping(directory: Path, *ports: int) -> AsyncIterator[Prometheus]:
    async with Prometheus(directory, {JOB: list(ports)}) as prometheus:
        yield prometheus


async def has_seen(events: int, prometheus: Prometheus) -> bool:
    return await prometheus.value("sum(wsbridge_events_received_total)") >= events


# Without a fault


@pytest.mark.parametrize("settings", [{}, {"REDIS_URL": "redis://127.0.0.1:1"}], ids=["memory", "redis"])
async def test_metrics_are_accepted_by_promtool_without_complaint(start: Start, settings: dict[str, str]) -> None:
    bridge = await start(**settings)
    _, text = await bridge.get("/metrics")
    assert promtool("check", "metrics", text=text) == ""


def test_rules_pass_their_unit_tests(tmp_path: Path) -> None:
    cases = yaml.safe_load((ROOT / "tests" / "integration" / "alerts.yaml").read_text(encoding="utf-8"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()), encoding="utf-8")
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(cases | {"rule_files": ["rules.yaml"]}), encoding="utf-8")
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))
    promtool("test", "rules", str(tmp_path / "alerts.yaml"))
    fired = {a["alertname"] for test in cases["tests"] for a in test["alert_rule_test"] if a.get("exp_alerts")}
    quiet = {a["alertname"] for test in cases["tests"] for a in test["alert_rule_test"] if not a.get("exp_alerts")}
    assert fired == quiet == set(ALERTS)


def test_every_alert_has_a_severity_a_summary_and_a_runbook() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["summary"], name
        document, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert document == "docs/operations.md", name
        assert anchor in {heading.lower() for heading in headings}, name
    assert {rule["annotations"]["runbook"].partition("#")[2] for rule in ALERTS.values()} >= {
        heading.lower() for heading in headings if heading.startswith("Wsbridge")
    }


def test_dashboard_uses_current_panels_and_its_variables() -> None:
    assert {panel["type"] for panel in BOARD["panels"]} == {"row", "stat", "timeseries", "table"}
    assert [variable["name"] for variable in BOARD["templating"]["list"]] == ["datasource", "instance", "app_id"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
            assert re.search(r"\$instance|\$app_id|wsbridge:", target["expr"]), panel["title"]


@pytest.mark.parametrize("path", [PRODUCTION, REDIS, GROUPS], ids=lambda path: path.parent.name)
def test_pod_monitor_selects_the_pods_and_admitted_ports(path: Path) -> None:
    [monitor] = documents(MONITORING / "podmonitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert monitor["spec"].keys() == {"selector", "podMetricsEndpoints"}
    assert monitor["spec"]["selector"] == workload(path)["spec"]["selector"]
    bridge, sidecar = monitor["spec"]["podMetricsEndpoints"]
    assert bridge["port"] in {port["name"] for port in container(path)["ports"]}
    assert sidecar["port"] == "dapr-metrics"  # Dapr's injector names port 9090 so
    admitted = kind(path, "NetworkPolicy")["spec"]["ingress"][1]["ports"]
    assert admitted == [{"port": bridge["port"]}, {"port": 9090}]


async def test_dashboard_and_rules_of_healthy_bridges_have_data_and_no_alert_fires(
    start: Start, tmp_path: Path
) -> None:
    async with Valkey(tmp_path) as valkey:
        one, two = await start(), await start(REDIS_URL=valkey.url)
        for bridge in (one, two):
            await bridge.opened("u1")

        async def both() -> None:
            await post(one, "u1", "u2")
            await post(two, "u1")

        async with scraping(tmp_path, one.port, two.port) as prometheus, repeated(both):
            missing = queries(dapr=False)
            for rule in (rule for group in rules()["groups"] for rule in group["rules"]):
                for selector in re.findall(r"\w*wsbridge[\w:]+(?:{[^}]*})?", rule["expr"]):
                    missing[selector] = selector

            async def is_complete() -> bool:
                for name, query in [*missing.items()]:
                    if await prometheus.query(query):
                        del missing[name]
                return not missing

            await until_told(is_complete)
            assert await prometheus.firing() <= BUSY


async def test_stages_of_real_events_add_up_to_what_a_client_measures(spawn: Spawn, tmp_path: Path) -> None:
    """Five events that waited ten seconds in Kafka, over Redis, from one replica to another."""
    async with Valkey(tmp_path) as valkey:
        receiving, delivering = await spawn(REDIS_URL=valkey.url), await spawn(REDIS_URL=valkey.url)
        tab, _ = await delivering.opened("u1")
        measured = 0.0
        for _ in range(5):
            began = time.time() - WAITED
            await post(receiving, "u1", age=WAITED)
            await receive(tab)
            measured += time.time() - began
        async with scraping(tmp_path, delivering.port) as prometheus:
            stages = await prometheus.value("sum(wsbridge_event_stage_seconds_sum)")
            assert await prometheus.value("wsbridge_event_delivery_seconds_sum") == pytest.approx(stages)
            assert stages == pytest.approx(measured, rel=0.05)


# Each alert, with the fault that it is for


async def test_alerts_of_slow_events_fire_when_they_waited_in_kafka(start: Start, tmp_path: Path) -> None:
    bridge = await start()
    await bridge.opened("u1")
    async with scraping(tmp_path, bridge.port) as prometheus, repeated(lambda: post(bridge, "u1", age=5)):
        await prometheus.fires("WsbridgeEventsSlowFastBurn")
        await prometheus.fires("WsbridgeEventsSlowSlowBurn")


async def test_alert_of_a_replica_that_is_down_fires_when_it_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    bridge = await spawn()
    async with scraping(tmp_path, bridge.port) as prometheus:
        bridge.process.kill()
        await prometheus.fires("WsbridgeDown")


async def test_alerts_of_redis_fire_when_it_is_frozen(start: Start, tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey:
        bridge = await start(REDIS_URL=valkey.url)
        await post(bridge, "u1")
        async with scraping(tmp_path, bridge.port) as prometheus:
            valkey.freeze()
            async with repeated(lambda: post(bridge, "u1")):
                await prometheus.fires("WsbridgeCheckFailing")
                await prometheus.fires("WsbridgeEventsRetried")
            [check] = await prometheus.query("wsbridge_health_check_ok == 0")
            assert check["metric"]["check"] == "redis"


async def test_alert_of_slow_redis_fires_over_a_slow_link(start: Start, tmp_path: Path) -> None:
    async with Valkey(tmp_path) as valkey, SlowLink(valkey.port, rate=30_000) as link:
        bridge = await start(REDIS_URL=f"redis://127.0.0.1:{link.port}")
        async with scraping(tmp_path, bridge.port) as prometheus, repeated(lambda: post(bridge, "u1", size=10_000)):
            await prometheus.fires("WsbridgeRedisSlow")


async def test_alert_of_a_check_fires_without_a_sidecar(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.dapr.sidecar_check.PATIENCE", 0.0)
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    async with scraping(tmp_path, bridge.server.ports[1]) as prometheus:
        await prometheus.fires("WsbridgeCheckFailing")


async def test_alert_of_no_events_fires_when_the_sidecar_is_silent(start: Start, tmp_path: Path) -> None:
    bridge = await start()
    async with scraping(tmp_path, bridge.port) as prometheus:
        async with repeated(lambda: post(bridge, "u1")):
            await until_told(lambda: has_seen(20, prometheus))
        await prometheus.fires("WsbridgeNoEvents")


async def test_alert_of_retried_events_fires_when_the_queue_is_full(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_SIZE="2")
    async with scraping(tmp_path, bridge.port) as prometheus, repeated(lambda: post(bridge, "u1")):
        await prometheus.fires("WsbridgeEventsRetried")
        await prometheus.fires("WsbridgeCheckFailing")


async def test_alert_of_dropped_events_fires_without_a_user(start: Start, tmp_path: Path) -> None:
    bridge = await start()
    async with scraping(tmp_path, bridge.port) as prometheus, repeated(lambda: bridge.publish({"no": "user"})):
        await prometheus.fires("WsbridgeEventsDropped")


async def test_alert_of_a_slow_event_loop_fires_when_the_process_gets_too_little_cpu(
    spawn: Spawn, tmp_path: Path
) -> None:
    bridge = await spawn()

    async def starve() -> None:
        bridge.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(0.5)
        finally:
            bridge.process.send_signal(signal.SIGCONT)

    async with scraping(tmp_path, bridge.port) as prometheus, repeated(starve, 0.4):
        await prometheus.fires("WsbridgeEventLoopSlow")


async def test_alerts_of_slow_readers_fire_when_one_stalls(start: Start, tmp_path: Path) -> None:
    bridge = await start(MAX_BACKLOG_BYTES="100000", MAX_UNSENT_BYTES="1000000")
    async with StalledReader(bridge.port) as peer, scraping(tmp_path, bridge.port) as prometheus:
        await peer.opened("stalled")
        async with repeated(lambda: post(bridge, "stalled", size=100_000)):
            await prometheus.fires("WsbridgeSlowReaders")


async def test_alert_of_gaps_fires_when_clients_missed_more_than_the_history(start: Start, tmp_path: Path) -> None:
    bridge = await start(HISTORY_SIZE="1")

    async def resume() -> None:
        tab, hello = await bridge.opened("u1")
        await tab.close()
        for _ in range(3):
            await post(bridge, "u1")
        await (await bridge.connect("u1", last_event_id=hello["last_event_id"])).close()

    async with scraping(tmp_path, bridge.port) as prometheus, repeated(resume):
        await prometheus.fires("WsbridgeGaps")


async def test_alert_of_a_limit_fires_when_there_are_as_many_connections(start: Start, tmp_path: Path) -> None:
    bridge = await start(MAX_CONNECTIONS="1")
    await bridge.opened()
    async with scraping(tmp_path, bridge.port) as prometheus:
        await prometheus.fires("WsbridgeNearLimit")


async def test_alert_of_internal_errors_fires_on_a_bug(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await start()
    monkeypatch.setattr(MemoryBroker, "append", Buggy(MemoryBroker.append))
    async with scraping(tmp_path, bridge.port) as prometheus, repeated(lambda: bridge.publish({"user_id": "u1"})):
        await prometheus.fires("WsbridgeInternalErrors")


async def test_alert_of_log_lines_fires_when_nobody_reads_the_log(spawn: Spawn, tmp_path: Path) -> None:
    users = [letter * 250 for letter in "abcde"]  # a line has five of them: few events fill the buffer
    bulk = bulk_of(*[cloud_event({"user_id": users})] * 100)
    bridge = await spawn(LOG_LEVEL="debug")
    publish = functools.partial(bridge.post, bulk, "application/json")
    bridge.listening.clear()
    try:
        for _ in range(40):  # about thirty fill the log's buffer and its pipe
            await publish()
        async with scraping(tmp_path, bridge.port) as prometheus, repeated(publish):
            await prometheus.fires("WsbridgeLogLinesDropped")
    finally:
        bridge.listening.set()
        bridge.terminate()
        await bridge.code()
