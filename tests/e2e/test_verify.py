"""`wsbridge verify` through a real Kafka and real sidecars: a healthy chain passes, a lost partition is named."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer

from tests.e2e import parts
from tests.e2e.chain import GROUP_EACH, ONE, WITH_REDIS, Chain, Start
from tests.e2e.kafka import TOPIC
from tests.e2e.process import Log
from tests.e2e.sidecar import Manifest, Sidecar
from tests.support import chart
from tests.support.command import finished
from tests.support.valkey import Valkey

USERS = [f"canary-{number}" for number in range(12)]  # in each partition


async def verify(chain: Chain, *words: str) -> dict[str, Any]:
    users = (word for user in USERS for word in ("--user", user))
    target = ("--url", f"{chain.proxy.url}/ws", "--publish-url", chain.publisher.url)
    code, out, notes = await finished("verify", *target, *users, "--json", *words)
    found = json.loads(out)
    assert code == (not found["passed"]), notes
    return dict(found)


@contextlib.asynccontextmanager
async def another_consumer(chain: Chain) -> AsyncIterator[None]:
    """Someone reads the topic with the consumer group of the bridge, and takes partitions from its sidecar."""
    [group] = chain.groups
    consumer = Consumer({"bootstrap.servers": chain.kafka.address, "group.id": group})
    consumer.subscribe([TOPIC])

    async def read() -> None:
        while True:
            await asyncio.to_thread(consumer.poll, 0.1)

    reading = asyncio.create_task(read())
    try:
        await chain.kafka.read_by(group, 2)
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.to_thread(consumer.close)


async def test_verify_replicas_with_redis_pass(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url)
    found = await verify(chain, "--seconds", "5")
    assert (found["findings"], found["passed"]) == ([], True)
    assert found["arrived"] == found["expected"] > 150


async def test_verify_replicas_with_a_consumer_group_each_lose_nothing(chained: Start) -> None:
    chain = await chained(GROUP_EACH, replicas=2)
    found = await verify(chain, "--seconds", "5")
    assert ([finding["code"] for finding in found["findings"]], found["lost"]) == (["separate-histories"], 0)


async def test_verify_lost_partition_is_named(chain: Chain) -> None:
    async with another_consumer(chain):
        found = await verify(chain, "--seconds", "5", "--wait", "3")
    assert [finding["code"] for finding in found["findings"]] == ["partition-lost"]
    assert found["arrived"] > 0


async def test_verify_replicas_that_compete_without_redis_are_named(chained: Start) -> None:
    chain = await chained(replicas=2)
    found = await verify(chain, "--seconds", "5", "--wait", "3")
    assert [finding["code"] for finding in found["findings"]] == ["competing-replicas"]


async def test_verify_topic_that_nobody_reads_is_named(chain: Chain) -> None:
    found = await verify(chain, "--topic", "nobody-reads-this", "--seconds", "3", "--wait", "2")
    assert [finding["code"] for finding in found["findings"]] == ["nothing-arrives"]


async def test_verify_sidecar_that_hangs_delays_its_partitions_and_loses_nothing(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url)
    pid = chain.pods[0].sidecar.process.pid
    hang = f"kill -STOP {pid}; sleep 13; kill -CONT {pid}"  # Kafka waits for 10 s
    found = await verify(chain, "--seconds", "4", "--during", hang)
    assert ([finding["code"] for finding in found["findings"]], found["lost"]) == (["late"], 0)


@pytest.mark.parametrize(("mode", "manifest", "replicas"), [("single", ONE, 1), ("consumer-groups", GROUP_EACH, 2)])
async def test_helm_test_passes_and_its_sidecar_takes_no_partition(
    chained: Start, tmp_path: Path, mode: str, manifest: str, replicas: int
) -> None:
    """The sidecar of the test's pod has the app id of the bridge."""
    parts.required(parts.helm)
    chain = await chained(manifest, replicas=replicas)
    rendered = yaml.safe_load_all(chart.template("--set", f"mode={mode},test.seconds=3"))
    [pod] = [document for document in rendered if document["kind"] == "Pod"]
    part = Manifest.of(pod)
    sidecar = Sidecar(part, tmp_path / "components", Log(tmp_path / "test-daprd.log"), chain.http, name="test")
    sidecar.start()
    try:
        await sidecar.ready()
        words = [
            word.replace("ws://websocket-service:8004", chain.proxy.url)
            for word in pod["spec"]["containers"][0]["args"]
        ]
        code, out, notes = await finished(*words, "--publish-url", sidecar.url, **part.environment)
        assert await sidecar.subscriptions() == []
    finally:
        sidecar.kill()
    assert code == 0, out + notes
