"""A question to all replicas over a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.running import until, until_told
from tests.support.valkey import Valkey
from wsbridge.broker.base import Answerer, BrokerUnavailable, Poll
from wsbridge.broker.redis import poll
from wsbridge.broker.redis.broker import RedisBroker
from wsbridge.broker.redis.poll import Replicas
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.telemetry.metrics import Metrics


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def replica(url: str, answer: Answerer) -> AsyncIterator[Replicas]:
    """A broker that can be asked."""
    metrics = Metrics()
    bus = Bus(Registry(), metrics, size=10, max_bytes=10**6)
    broker = RedisBroker(
        create_server(parse(url)), bus, prefix="p", size=10, max_bytes_per_user=10**6, ttl=60.0, dedupe_ttl=60.0,
        metrics=metrics, answer=answer,
    )  # fmt: skip
    job = asyncio.create_task(broker.run())
    try:
        await until(broker._subscriber.is_complete)
        assert broker.replicas is not None
        assert broker.subscriptions == 0
        yield broker.replicas
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def ready(asking: Replicas, count: int) -> None:
    """Wait until so many replicas get a question."""

    async def all_asked() -> bool:
        return (await asking.ask(b"?")).asked == count

    await until_told(all_asked)


def echo(name: bytes) -> Answerer:
    async def answer(question: bytes) -> bytes:
        return name + question

    return answer


async def test_poll_has_an_answer_of_each_replica(valkey: Valkey) -> None:
    async with replica(valkey.url, echo(b"a")) as one, replica(valkey.url, echo(b"b")) as other:
        await ready(one, 2)
        first, second = await asyncio.gather(one.ask(b"1"), other.ask(b"2"))
        assert (sorted(first.answers), first.asked) == ([b"a1", b"b1"], 2)
        assert (sorted(second.answers), second.asked) == ([b"a2", b"b2"], 2)


async def test_poll_tells_that_an_answer_is_missing(valkey: Valkey) -> None:
    async def broken(question: bytes) -> bytes:
        raise ValueError(question)

    async with replica(valkey.url, echo(b"a")) as one, replica(valkey.url, broken) as other:
        await ready(one, 2)
        first, second = await asyncio.gather(one.ask(b"1"), other.ask(b"1"))
        assert first == second == Poll([b"a1"], 2)


async def test_poll_without_a_server_raises(valkey: Valkey) -> None:
    async with replica(valkey.url, echo(b"a")) as one:
        await valkey.kill()
        with pytest.raises(BrokerUnavailable):
            await one.ask(b"1")


async def test_poll_is_not_answered_while_many_others_are(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica(valkey.url, echo(b"a")) as one:
        monkeypatch.setattr(poll, "AT_ONCE", 0)
        assert await one.ask(b"1", 0.1) == Poll([], 1)
        monkeypatch.setattr(poll, "AT_ONCE", 1)
        assert await one.ask(b"1") == Poll([b"a1"], 1)
