"""Fixtures: one Kafka for all tests, a chain for each."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e import parts
from tests.e2e.chain import ONE, Chain, Start
from tests.e2e.kafka import Kafka
from tests.support.valkey import DURABLE, Valkey

LONG = ("test_faults", "test_doctor", "test_slow_redis", "test_verify", "test_compose")  # files


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: if one came last, the other processes would wait for its end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Kafka starts while other parts do; a chain waits for it."""
    parts.required(parts.daprd)
    with Kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path, **DURABLE) as valkey:
        yield valkey


@pytest.fixture
async def chained(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a chain: `await chained(replicas=2)`; it ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def starting(manifest: str = ONE, replicas: int = 1, **settings: str) -> Chain:
            chain = Chain(kafka, tmp_path, manifest=manifest, replicas=replicas, **settings)
            return await stack.enter_async_context(chain)

        yield starting


@pytest.fixture
async def chain(chained: Start) -> Chain:
    """A chain with one bridge, as in k8s/websocket-service.yaml."""
    return await chained()
