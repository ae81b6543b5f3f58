"""Entries on their way to the sink: order, data that arrives late or never, bounds."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest

from tests.support.bench import Sink
from tests.support.running import until
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import Reference, Referenced
from wsbridge.broker.redis.forwarder import Forwarder, received_at
from wsbridge.core.events import Entry
from wsbridge.core.timestamps import timestamp


class Bench:
    def __init__(self) -> None:
        self.sink = Sink(size=1_000)
        self.data: dict[bytes, bytes | Exception | None] = {}
        self.open = asyncio.Event()
        self.missed: list[str] = []
        self.pressed = False
        self.failed: list[Exception] = []
        self.arrivals = Forwarder(
            sink=self.sink,
            complete=self._complete,
            is_pressed=lambda: self.pressed,
            missed=self.missed.append,
            failed=lambda _, error: self.failed.append(error),
        )

    async def _complete(self, entries: Sequence[Entry | Referenced]) -> Sequence[Entry] | None:
        (entry,) = entries
        if isinstance(entry, Entry):
            return [entry]
        await self.open.wait()
        found = self.data.get(entry.reference.name, b"data")
        if isinstance(found, Exception):
            raise found
        return None if found is None else [entry.complete(found)]

    def offsets(self, user: str = "u") -> list[int]:
        return [entry.offset for entry in self.sink.of(user)]


def small(offset: int, user: str = "u") -> Entry:
    return Entry(user, "epoch", offset, "task_update", b"{}", "", 0.0, "")


def large(offset: int, user: str = "u") -> Referenced:
    return Referenced(small(offset, user), Reference(b"%d" % offset, 4, 0))


async def test_entry_after_one_with_late_data_waits_and_other_users_do_not() -> None:
    bench = Bench()
    await bench.arrivals.take("c", [small(1), large(2)])
    await bench.arrivals.take("c", [small(3)])
    await bench.arrivals.take("d", [small(1, "v")])
    await until(lambda: bench.offsets("v") == [1])
    assert bench.offsets() in ([], [1])
    bench.open.set()
    await until(lambda: bench.offsets() == [1, 2, 3])
    assert [entry.data for entry in bench.sink.of("u")] == [b"{}", b"data", b"{}"]
    await until(lambda: not bench.arrivals._queues)
    await bench.arrivals.take("c", [small(4)])
    await until(lambda: bench.offsets() == [1, 2, 3, 4])
    await bench.arrivals.close()


@pytest.mark.parametrize("answer", [None, BrokerUnavailable("a test"), RuntimeError("a test")])
async def test_entry_with_unavailable_data_is_missed_with_the_entries_after_it(answer: Exception | None) -> None:
    bench = Bench()
    bench.data[b"2"] = answer
    bench.open.set()
    await bench.arrivals.take("c", [small(1), large(2), small(3)])
    await until(lambda: not bench.arrivals._queues)
    await until(lambda: bench.offsets() == [1])
    assert bench.missed == ["c"]
    assert len(bench.failed) == isinstance(answer, RuntimeError)
    await bench.arrivals.take("c", [small(4)])
    await until(lambda: bench.offsets() == [1, 4])  # the session detects the gap and reads the history
    await bench.arrivals.close()


async def test_entries_over_the_bound_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.forwarder.WAITING", 10)
    bench = Bench()
    await bench.arrivals.take("c", [large(1)])
    for offset in range(2, 20):
        await bench.arrivals.take("c", [small(offset)])
    assert bench.missed == ["c"] * 9
    bench.open.set()
    await until(lambda: bench.offsets() == list(range(1, 11)))
    await until(lambda: not bench.arrivals._waiting)
    await bench.arrivals.close()


@pytest.mark.parametrize("patience", [60.0, 0.05])
async def test_entry_with_large_data_waits_for_slow_peers_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.forwarder.PATIENCE", patience)
    bench = Bench()
    bench.open.set()
    bench.pressed = True
    await bench.arrivals.take("c", [large(1)])
    await bench.arrivals.take("d", [small(1, "v")])
    await until(lambda: bench.offsets("v") == [1])
    assert bench.offsets() == []
    bench.sink.queue.clear()
    bench.pressed = patience < 1
    await until(lambda: bench.offsets() == [1])
    await bench.arrivals.close()


async def test_entry_without_room_in_the_queue_waits() -> None:
    bench = Bench()
    bench.sink.size = 1
    bench.sink.queue = [small(0, "x")]
    taking = asyncio.create_task(bench.arrivals.take("c", [small(1)]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.offsets() == []
    bench.sink.queue.clear()
    await taking
    await until(lambda: bench.offsets() == [1])
    await bench.arrivals.close()


async def test_entries_that_arrive_together_are_put_together() -> None:
    bench = Bench()
    for offset in range(1, 5):
        await bench.arrivals.take("c", [small(offset)])
        await bench.arrivals.take("d", [small(offset, "v")])
    await until(lambda: bench.offsets() == bench.offsets("v") == [1, 2, 3, 4])
    assert bench.sink.puts == 1
    await bench.arrivals.close()


@pytest.mark.parametrize(("size", "max_bytes"), [(2, 1_000), (1_000, 4)])
async def test_entries_that_arrive_together_take_no_more_room_than_there_is(size: int, max_bytes: int) -> None:
    bench = Bench()
    bench.sink.size, bench.sink.max_bytes = size, max_bytes
    taking = asyncio.create_task(take_each(bench, 5))
    for most in (2, 4, 5):
        await until(lambda: bool(bench.sink.queue))
        for _ in range(5):
            await asyncio.sleep(0)
        assert bench.offsets() == list(range(1, most + 1))
        bench.sink.queue.clear()
    await taking
    await bench.arrivals.close()


async def take_each(bench: Bench, count: int) -> None:
    for offset in range(1, count + 1):
        await bench.arrivals.take("c", [msgspec.structs.replace(small(offset), data=b"%02d" % offset)])


@pytest.mark.fault("E6")
def test_receipt_of_an_entry_is_when_the_first_replica_received_the_event() -> None:
    now = time.monotonic()
    assert now - received_at(timestamp(time.time() - 20)) == pytest.approx(20, abs=1)
    assert now - received_at(timestamp(time.time() + 20)) == pytest.approx(0, abs=1)  # another machine's clock is fast
