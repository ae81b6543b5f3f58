"""`wsbridge doctor` and real sidecars, some of which are configured wrongly on purpose."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Consumer

from tests.e2e.chain import APP_TOKEN, GROUP_EACH, ONE, WITH_REDIS, Chain, Start
from tests.e2e.kafka import TOPIC
from tests.e2e.process import Log, settled
from tests.e2e.sidecar import K8S, Manifest, Sidecar
from tests.support.doctor import FAILURE, NOT_CHECKED, OK, WARNING, failures, found
from tests.support.running import ADMIN_TOKEN, SECRET, Running
from tests.support.running import Start as StartBridge
from tests.support.valkey import Valkey

IN_MEMORY = """
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: pubsub-kafka}}
spec: {{type: pubsub.in-memory, version: v1, metadata: [{{name: publishingScopes, value: "{publishing}"}}]}}
scopes: [{scopes}]
"""
SETTINGS = {"JWT_SECRET": SECRET, "APP_API_TOKEN": APP_TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN}


@dataclasses.dataclass
class Pair:
    bridge: Running
    sidecar: Sidecar

    @property
    def url(self) -> str:
        return self.bridge.url.replace(str(self.bridge.port), str(self.bridge.server.ports[1]))

    async def state(self, check: str, **options: Any) -> tuple[str, str]:
        finding = await found(check, SETTINGS, url=self.url, sidecar=self.sidecar.url, **options)
        return finding.state, finding.text

    async def failures(self, **options: Any) -> dict[str, str]:
        return await failures(SETTINGS, url=self.url, sidecar=self.sidecar.url, **options)


Pairing = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def paired(start: StartBridge, tmp_path: Path) -> AsyncIterator[Pairing]:
    """Start a bridge and its sidecar, with a component in memory; the options break one of them."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def pairing(
            *,
            app_token: str | None = APP_TOKEN,
            api_token: str | None = None,
            scoped_to: str = "",
            publishes: str | None = None,
            public_port: bool = False,
            access: bool = True,
        ) -> Pair:
            bridge = await start(**SETTINGS, INTERNAL_PORT="0")
            port = bridge.server.ports[0 if public_port else 1]
            app_id = f"websocket-service-{port}"  # other tests on this machine run sidecars as well
            annotations = dict(Manifest.read(K8S / "websocket-service.yaml").annotations) | {"dapr.io/app-id": app_id}
            if not access:
                del annotations["dapr.io/config"]
            folder = tmp_path / f"components-{port}"
            folder.mkdir()
            publishing = "" if publishes is None else f"{app_id}={publishes}"
            (folder / "pubsub.yaml").write_text(IN_MEMORY.format(scopes=scoped_to or app_id, publishing=publishing))
            sidecar = Sidecar(
                Manifest(annotations, {}), folder, Log(tmp_path / f"{port}.log"), http,
                name="bridge", app_port=port, app_token=app_token, api_token=api_token,
            )  # fmt: skip
            stack.callback(sidecar.kill)
            sidecar.start()
            await settled(lambda: initialised(sidecar))
            return Pair(bridge, sidecar)

        yield pairing


async def initialised(sidecar: Sidecar) -> bool:
    """It has read its subscriptions, or has been refused."""
    assert sidecar.process.running, sidecar.log.account
    return any("dapr initialized" in line for line in sidecar.log.lines)


async def test_doctor_of_a_healthy_sidecar_finds_no_failure(paired: Pairing) -> None:
    pair = await paired()
    for check in ("sidecar", "api-token", "app-token", "subscription", "canary", "replicas", "admin-token"):
        assert (await pair.state(check, canary=True))[0] == OK, (check, await pair.state(check, canary=True))
    assert await pair.failures(canary=True) == {}
    assert (await pair.state("component"))[0] == WARNING  # it is in memory
    reads = [value for value in (pair.bridge.bridge.metrics.subscription_read_at,) if value]
    await pair.state("app-token")
    assert [pair.bridge.bridge.metrics.subscription_read_at] == reads  # HEAD is not a read


async def test_doctor_names_the_faults_of_this_version(paired: Pairing) -> None:
    state, text = await (await paired()).state("sidecar-version")
    assert (state, "1.18.2" in text, "numeric traceid" in text) == (WARNING, True, True), text


@pytest.mark.parametrize("token", [None, "another token of the app"])
async def test_doctor_finds_another_app_token_and_the_missing_subscription(paired: Pairing, token: str | None) -> None:
    pair = await paired(app_token=token)
    found, bridge = await pair.failures(), pair.bridge.bridge
    assert set(found) == {"app-token", "subscription"}
    assert "its last read of the subscriptions was refused (401, " in bridge.checks.run()["sidecar"]
    assert bridge.stations.denials == 1  # doctor's own call does not count
    assert f"the sidecar sends {'another' if token else 'no'} APP_API_TOKEN" in found["app-token"]
    assert "not subscribed to task-updates" in found["subscription"]


async def test_doctor_finds_an_api_token_that_differs(paired: Pairing) -> None:
    pair = await paired(api_token="what the sidecar requires")
    assert await pair.failures() == {"api-token": "the sidecar requires DAPR_API_TOKEN"}
    assert set(await pair.failures(api_token="another")) == {"api-token"}
    assert await pair.failures(api_token="what the sidecar requires", canary=True) == {}


async def test_doctor_finds_a_component_whose_scopes_leave_the_app_out(paired: Pairing) -> None:
    found = await (await paired(scoped_to="another-app")).failures(canary=True)
    assert set(found) == {"component", "subscription", "canary"}
    assert "has not loaded the component pubsub-kafka" in found["component"]


@pytest.mark.parametrize(("allowed", "state"), [("receipts", OK), ("task-updates", FAILURE)])
async def test_doctor_finds_scopes_that_forbid_receipts(paired: Pairing, allowed: str, state: str) -> None:
    pair = await paired(publishes=allowed)
    settings = SETTINGS | {"RECEIPTS_TOPIC": "receipts"}
    assert (await found("receipts", settings, url=pair.url, sidecar=pair.sidecar.url)).state == state


async def test_doctor_finds_an_app_port_that_is_the_public_port(paired: Pairing) -> None:
    found = await (await paired(public_port=True)).failures()
    assert set(found) == {"app-token", "subscription"}
    assert "does not serve the sidecar's routes" in found["app-token"]


@pytest.mark.parametrize(("access", "state"), [(True, OK), (False, FAILURE)])
async def test_doctor_finds_that_other_apps_may_invoke_the_bridge(
    paired: Pairing, tmp_path: Path, access: bool, state: str
) -> None:
    pair = await paired(access=access)
    async with aiohttp.ClientSession() as http:
        (tmp_path / "none").mkdir()
        manifest = Manifest({"dapr.io/app-id": f"intruder-{pair.bridge.port}"}, {})
        intruder = Sidecar(manifest, tmp_path / "none", Log(tmp_path / "intruder.log"), http, name="intruder")
        intruder.start()
        try:
            await intruder.ready()
            assert (await pair.state("invocation", caller=intruder.url))[0] == state
        finally:
            intruder.kill()


async def of_chain(chain: Chain, check: str, place: int = 0) -> tuple[str, str]:
    pod = chain.pods[place]
    finding = await found(check, url=pod.bridge.internal.url, sidecar=pod.sidecar.url, canary=check == "canary")
    return finding.state, finding.text


async def test_doctor_sends_a_canary_through_each_partition(chain: Chain) -> None:
    state, text = await of_chain(chain, "canary")
    assert (state, f"{TOPIC}/0, {TOPIC}/1, {TOPIC}/2" in text) == (OK, True), text
    state, text = await of_chain(chain, "partitions")
    assert (state, text.count(f"{TOPIC}/")) == (NOT_CHECKED, 3), text
    assert (await of_chain(chain, "component"))[0] == OK


@pytest.mark.parametrize("manifest", [ONE, WITH_REDIS, GROUP_EACH])
async def test_doctor_of_each_shipped_way_to_run_finds_no_failure(manifest: str, chained: Start, redis: Valkey) -> None:
    settings = {"REDIS_URL": redis.url} if manifest == WITH_REDIS else {}
    settings |= {"PUBSUB_NAME": "pubsub-kafka-websocket"} if manifest == GROUP_EACH else {}
    chain = await chained(manifest, replicas=1 if manifest == ONE else 2, **settings)
    for pod in chain.pods:
        options: dict[str, Any] = {"url": pod.bridge.internal.url, "sidecar": pod.sidecar.url, "canary": True}
        assert await failures(settings, **options) == {}
        assert (await found("canary", settings, **options)).state is OK


async def test_doctor_finds_two_replicas_without_redis_by_their_partitions(chained: Start) -> None:
    chain = await chained(replicas=2)
    texts = [await of_chain(chain, "canary", place) for place in (0, 1)]
    assert [state for state, _ in texts] == [FAILURE, FAILURE], texts
    missing = [text.split(" through ")[1].partition(", while ")[0].split(", ") for _, text in texts]
    assert sorted(place for places in missing for place in places) == [f"{TOPIC}/{n}" for n in range(3)]


async def test_doctor_finds_a_partition_that_another_consumer_has(chain: Chain) -> None:
    """A program of somebody else with the same consumer group."""
    [group] = chain.groups
    thief = Consumer({"bootstrap.servers": chain.kafka.address, "group.id": group})
    try:
        thief.subscribe([TOPIC])
        polling = asyncio.create_task(poll(thief))
        await chain.kafka.read_by(group, 2)
        state, text = await of_chain(chain, "canary")
        polling.cancel()
    finally:
        thief.close()
    assert (state, f"through {TOPIC}/" in text) == (FAILURE, True), text


async def poll(consumer: Consumer) -> None:
    while True:
        await asyncio.to_thread(consumer.poll, 0.1)
