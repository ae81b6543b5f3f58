"""The contract of every store of receipts: in the process, on a real server and on a real cluster."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster
from tests.support.valkey import Valkey
from wsbridge.broker import receipts as module
from wsbridge.broker.receipts import LEASE, MemoryReceipts, ReceiptStore
from wsbridge.broker.redis import receipts as redis_module
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.receipts import RedisReceipts
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.events import Position
from wsbridge.core.receipts import LONGEST, Awaited, Reached

TTL = 600.0  # seconds for which ids are known
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests


@dataclass
class Bench:
    """A store and its clock, in seconds since 1970."""

    store: ReceiptStore = field(init=False)
    now: float = 1_800_000_000.0

    async def take(self) -> list[str]:
        """The ids of the receipts that are due."""
        found, portion = list[str](), await self.store.due()
        while portion:
            found += [one.id for one in portion]
            portion = await self.store.due()
        return sorted(found)

    def receipt(self, name: str, user: str = "u1", after: float = 30.0) -> Awaited:
        return Awaited(name, user, Position("e", 1), f"event {name}", "backend", "t", after, self.now + after)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("servers")
    async with Valkey(directory) as valkey, Cluster(directory, replicas=0) as cluster:
        yield {"redis": valkey.url, "cluster": cluster.url}


@contextlib.asynccontextmanager
async def on_redis(url: str, prefix: str, now: Callable[[], float]) -> AsyncIterator[RedisReceipts]:
    server = create_server(parse(url))
    await server.refresh()
    pipeline = Pipeline(server)
    try:
        yield RedisReceipts(
            pipeline=pipeline, prefix=prefix, known_ttl=round(TTL * 1000), now=lambda: round(now() * 1000)
        )
    finally:
        await pipeline.close()
        await server.close()


@pytest_asyncio.fixture(params=["memory", "redis", "cluster"], loop_scope="module")
async def bench(request: pytest.FixtureRequest, urls: dict[str, str]) -> AsyncIterator[Bench]:
    bench = Bench()
    if request.param == "memory":
        bench.store = MemoryReceipts(TTL, clock=lambda: bench.now)
        yield bench
        return
    async with on_redis(urls[request.param], request.node.name, lambda: bench.now) as store:
        bench.store = store
        yield bench


async def test_receipt_is_due_after_its_time_with_all_its_fields(bench: Bench) -> None:
    one = bench.receipt("a", "zoë")
    assert await bench.store.expect([one]) == 0
    bench.now += 29.9
    assert await bench.take() == []
    bench.now += 0.2
    assert list(await bench.store.due()) == [one]


async def test_receipt_that_was_taken_is_due_again_after_the_lease_until_it_is_done(bench: Bench) -> None:
    one = bench.receipt("a", after=1.0)
    await bench.store.expect([one])
    bench.now += 1.1
    assert await bench.take() == ["a"]
    bench.now += LEASE - 0.1
    assert (await bench.take(), bench.store.pending) == ([], 1)
    bench.now += 0.2
    assert await bench.take() == ["a"]
    await bench.store.done([one])
    bench.now += LEASE + 0.1
    assert (await bench.take(), bench.store.pending) == ([], 0)


async def test_redelivery_adds_no_second_receipt_while_its_id_is_known(bench: Bench) -> None:
    one = bench.receipt("a", after=1.0)
    await bench.store.expect([one])
    again = bench.receipt("a", after=2.0)
    await bench.store.expect([again])
    bench.now += 3
    assert list(await bench.store.due()) == [one]
    await bench.store.done([one])
    await bench.store.expect([again])
    bench.now += LEASE
    assert await bench.take() == []


async def test_receipt_that_is_twice_in_a_call_is_due_once(bench: Bench) -> None:
    one = bench.receipt("a", after=1.0)
    assert await bench.store.expect([one, one]) == 0
    bench.now += 2
    assert await bench.take() == ["a"]


async def test_reached_positions_are_kept_for_users_with_a_receipt_only(bench: Bench) -> None:
    await bench.store.expect([bench.receipt("a")])
    await bench.store.note({"u1": Reached("e", 5, 1), "u2": Reached("e", 9, 9)})
    assert await bench.store.reached(["u1", "u2"]) == {"u1": Reached("e", 5, 1)}


async def test_reached_positions_of_one_epoch_grow_and_a_new_epoch_replaces_them(bench: Bench) -> None:
    await bench.store.expect([bench.receipt("a")])
    for reached in (Reached("e", 5, 1), Reached("e", 3, 2)):
        await bench.store.note({"u1": reached})
    assert await bench.store.reached(["u1"]) == {"u1": Reached("e", 5, 2)}
    await bench.store.note({"u1": Reached("f", 1, 0)})
    assert await bench.store.reached(["u1"]) == {"u1": Reached("f", 1, 0)}


async def test_a_receipt_does_not_forget_what_an_earlier_one_has_noted(bench: Bench) -> None:
    await bench.store.expect([bench.receipt("a")])
    await bench.store.note({"u1": Reached("e", 5, 1)})
    await bench.store.expect([bench.receipt("b", after=LONGEST)])
    assert await bench.store.reached(["u1"]) == {"u1": Reached("e", 5, 1)}


async def test_many_receipts_are_all_due_each_once(bench: Bench) -> None:
    receipts = [bench.receipt(f"{n:04}", f"u{n % 50}", after=1.0) for n in range(1_000)]
    assert await bench.store.expect(receipts) == 0
    bench.now += 2
    assert await bench.take() == [one.id for one in receipts]


async def test_receipts_over_the_bound_are_refused_and_fit_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(redis_module, "MOST", 3 * redis_module.SHARDS)  # one user is in one shard
    receipts = [bench.receipt(str(n), after=1.0) for n in range(5)]
    assert await bench.store.expect(receipts) == 2
    bench.now += 2
    assert await bench.take() == ["0", "1", "2"]
    await bench.store.done(receipts[:3])
    assert await bench.store.expect(receipts) == 0
    bench.now += LEASE + 2
    assert await bench.take() == ["3", "4"]


async def test_nothing_to_store_and_nothing_done_is_no_error(bench: Bench) -> None:
    nothing: Sequence[Awaited] = []
    assert await bench.store.expect(nothing) == 0
    await bench.store.note({})
    await bench.store.done(nothing)
    assert await bench.store.reached([]) == {}


async def test_memory_forgets_what_it_knew_of_a_user_whose_receipts_are_done() -> None:
    bench = Bench()
    bench.store = store = MemoryReceipts(TTL, clock=lambda: bench.now)
    one, other = bench.receipt("a"), bench.receipt("b")
    await store.expect([one, one, other])
    await store.note({"u1": Reached("e", 5, 1)})
    await store.done([one])
    assert await store.reached(["u1"]) == {"u1": Reached("e", 5, 1)}
    await store.done([other])
    assert (await store.reached(["u1"]), store._users) == ({}, {})
