"""Histories in the process: memory, and a random walk against a model. The contract is in test_base.py."""

import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.bench import (
    DEDUPE_TTL,
    DUPLICATE,
    RETRIED,
    ROOM,
    SIZE,
    STORED,
    TTL,
    Bench,
    event,
    in_memory,
    numbered,
)
from tests.support.examples import tries
from wsbridge.broker.base import Status
from wsbridge.broker.memory import AT_ONCE, ENTRY_BYTES, HISTORY_BYTES, REMEMBERED_BYTES, MemoryBroker
from wsbridge.core.events import Event, Position
from wsbridge.core.recovery import Gap, Resume

T = TypeVar("T")


@pytest.fixture
def bench() -> Bench:
    return in_memory()


async def test_memory_broker_publishes_an_append_in_one_piece_and_in_order(bench: Bench) -> None:
    await bench.append([event("a"), event("b", "c"), event("a")])
    assert bench.sink.puts == 1
    assert [(entry.user, entry.offset) for entry in bench.sink.seen] == [("a", 1), ("b", 1), ("c", 1), ("a", 2)]


async def test_memory_broker_position_is_that_of_the_last_event_with_and_without_entries() -> None:
    bench = in_memory(size=0)
    assert await bench.broker.position("u") is None
    await bench.take(event("u"))
    assert await bench.broker.position("u") == Position(bench.sink.seen[0].epoch, 1)
    bench = in_memory()
    await bench.append([event("u"), event("u"), event("v")])
    assert await bench.broker.position("u") == Position(bench.sink.seen[0].epoch, 2)
    assert await bench.broker.position("w") is None
    assert broker_of(bench).users == 2


async def test_memory_broker_disconnect_reaches_the_sink(bench: Bench) -> None:
    await bench.broker.disconnect("u")
    assert bench.sink.disconnected == ["u"]


async def test_memory_broker_append_of_nothing_publishes_nothing(bench: Bench) -> None:
    assert await bench.append([]) == []
    await bench.take(event(key="a"))
    assert await bench.append([event(key="a")]) == [DUPLICATE]
    assert bench.sink.puts == 1


async def test_memory_broker_publishes_stored_events_after_a_later_error(bench: Bench) -> None:
    broken = Event(("b", ["unhashable"]), b"{}", "task_update", "", "")  # type: ignore[arg-type]  # the point
    with pytest.raises(TypeError):
        await bench.append([event("a"), broken])
    assert [entry.user for entry in bench.sink.seen] == ["a"]
    await bench.take(event("a"))
    assert [entry.offset for entry in bench.sink.of("a")] == [1, 2]


async def test_memory_broker_event_for_more_users_than_the_queue_holds_is_put_at_once() -> None:
    bench = in_memory()
    await bench.append([event(*(f"u{n}" for n in range(ROOM + 1)))])
    assert len(bench.sink.queue) == ROOM + 1


async def test_memory_broker_entry_has_the_time_of_its_append() -> None:
    bench = in_memory()
    await bench.append([event()])
    assert bench.sink.queue[0].received_at == bench.clock.now


@pytest.mark.fault("D3")
async def test_append_of_a_redelivery_needs_no_room_for_what_is_stored(bench: Bench) -> None:
    bulk = [event("a", "b", data=f'{{"n":{n}}}', key=f"k{n}") for n in range(ROOM)]  # twice as many as fit
    assert await bench.append(bulk) == [STORED] * (ROOM // 2) + [RETRIED] * (ROOM // 2)
    assert await bench.append(bulk) == [DUPLICATE] * (ROOM // 2) + [RETRIED] * (ROOM // 2)  # the queue is full
    bench.sink.queue.clear()
    assert await bench.append(bulk) == [DUPLICATE] * (ROOM // 2) + [STORED] * (ROOM // 2)
    assert [entry.data for entry in bench.sink.of("a")] == [taken.data for taken in bulk]


async def test_append_for_a_user_who_has_the_event_needs_no_room(bench: Bench) -> None:
    await bench.take(event("a", key="k"))
    bench.fill(ROOM - 1)
    late = event("a", "c", key="late")
    assert await bench.append([late, event("a", "b", key="k")]) == [RETRIED, STORED]
    assert [entry.data for entry in bench.sink.of("b")] == [b"{}"]


# Memory.


async def test_memory_broker_over_its_bound_drops_events_of_the_least_active_users_first() -> None:
    bench = in_memory(max_bytes=3 * (HISTORY_BYTES + 1) + 3 * (ENTRY_BYTES + 2))
    for user in ("a", "b", "c"):
        await bench.take(event(user))
    await bench.take(event("a"))  # now b has had no event for longest
    tops = {user: await bench.top(user) for user in ("a", "b", "c")}
    reasons = {user: (await bench.broker.resume(user, f"{top.epoch}:0")).gap for user, top in tops.items()}
    assert reasons == {"a": None, "b": Gap(Position(tops["b"].epoch, 0), "trimmed"), "c": None}
    assert {user: top.offset for user, top in tops.items()} == {"a": 2, "b": 1, "c": 1}


async def test_memory_broker_drops_positions_last_and_restarts_them_in_another_epoch() -> None:
    bench = in_memory(max_bytes=2 * (HISTORY_BYTES + 1))
    first = {user: await bench.top(user) for user in ("a", "b", "c")}
    again = {user: await bench.top(user) for user in ("c", "b", "a")}
    assert first["c"] == again["c"]
    assert first["a"].epoch != again["a"].epoch
    resumed = await bench.broker.resume("a", str(first["a"]))
    assert resumed.gap == Gap(first["a"], "reset")


async def test_memory_broker_event_over_the_whole_bound_is_published_and_not_kept() -> None:
    bench = in_memory(max_bytes=100)
    assert await bench.take(event(data='{"x":"%s"}' % ("x" * 1_000))) == [STORED]
    assert len(bench.sink.seen) == 1
    assert broker_of(bench).bytes == 0


@pytest.mark.parametrize(("size", "ttl"), [(0, TTL), (SIZE, 0.0)])
async def test_memory_broker_without_a_history_counts_positions(size: int, ttl: float) -> None:
    bench = in_memory(size=size, ttl=ttl)
    await bench.take(event())
    await bench.take(event())
    top = await bench.top("u")
    assert [entry.offset for entry in bench.sink.seen] == [1, 2]
    assert (await bench.broker.resume("u", f"{top.epoch}:1")).recovered is False
    assert (await bench.broker.resume("u", str(top))).recovered is True


async def test_memory_broker_frees_expired_entries_by_itself() -> None:
    bench = in_memory()
    for user in ("a", "b", "c"):
        await bench.take(event(user, data='{"x":1}'), event(user))
    bench.clock.now += TTL
    await bench.take(event("d"))
    assert broker_of(bench).bytes == 4 * (HISTORY_BYTES + 1) + ENTRY_BYTES + 2
    assert broker_of(bench).users == 4


async def test_memory_broker_busy_user_keeps_no_expired_entries() -> None:
    bench = in_memory(size=100)
    for _ in range(10):
        bench.clock.now += TTL / 2
        await bench.take(event())
    assert broker_of(bench).bytes == HISTORY_BYTES + 1 + 2 * (ENTRY_BYTES + 2)


@pytest.mark.fault("C6")
async def test_expiry_of_a_long_history_is_spread_over_many_calls() -> None:
    bench, count = in_memory(size=100_000, room=10**6), 20 * AT_ONCE
    await bench.broker.append(numbered(count))
    top = await bench.top("u")
    bench.clock.now += TTL
    before, freed = broker_of(bench).bytes, list[int]()
    while broker_of(bench).bytes > ENTRY_BYTES:
        now = broker_of(bench).bytes
        await bench.broker.append([])
        freed.append(now - broker_of(bench).bytes)
        if now == broker_of(bench).bytes:
            break
    assert max(freed) <= AT_ONCE * (ENTRY_BYTES + 20)
    assert before - broker_of(bench).bytes >= count * ENTRY_BYTES
    resumed = await bench.broker.resume("u", f"{top.epoch}:{count - 1}")
    assert resumed.gap == Gap(Position(top.epoch, count - 1), "expired")


@pytest.mark.fault("C6")
async def test_expired_entries_that_are_not_freed_yet_are_not_served() -> None:
    bench, count = in_memory(size=100_000, room=10**6), 5 * AT_ONCE
    await bench.broker.append(numbered(count))
    bench.clock.now += TTL
    top = await bench.top("u")
    assert broker_of(bench).bytes > ENTRY_BYTES * AT_ONCE
    resumed = await bench.broker.resume("u", f"{top.epoch}:{count - 1}")
    assert resumed == Resume(top, (), False, Gap(Position(top.epoch, count - 1), "expired"))


@pytest.mark.fault("D5")
async def test_event_for_many_users_is_counted_once_and_evicts_nobody() -> None:
    bench = in_memory(room=10**6, max_bytes=4_000_000)
    await bench.take(event("quiet"))
    top = await bench.top("quiet")
    before = broker_of(bench).bytes
    data = '{"x":"%s"}' % ("x" * 300_000)
    await bench.broker.append([event(*(f"u{n:03}" for n in range(1_000)), data=data)])
    assert broker_of(bench).bytes - before == len(data) + 1_000 * (ENTRY_BYTES + HISTORY_BYTES + 4)
    assert (await bench.broker.resume("quiet", f"{top.epoch}:0")).recovered is True
    bench.clock.now += TTL
    for _ in range(2):  # each call frees a limited number of entries
        await bench.broker.append([])
    assert broker_of(bench).bytes <= before + 1_000 * (HISTORY_BYTES + 4)


def kept(bench: Bench) -> list[int]:
    """The offsets in the history of u."""
    history = broker_of(bench)._filled["u"]
    return list(range(history.oldest.offset, history.offset + 1))


async def gap_at(bench: Bench, offset: int) -> str:
    """The reason of the gap after that offset in the history of u; "" for none."""
    top = await bench.top("u")
    gap = (await bench.broker.resume("u", f"{top.epoch}:{offset}")).gap
    return gap.reason if gap else ""


def of_size(size: int) -> Event:
    return event("u", data='{"x":"%s"}' % ("x" * (size - 8)))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([50, 50], [1, 2]),
        ([50, 51], [2]),
        ([10, 10, 10, 80], [2, 3, 4]),
        ([50, 500], [2]),
        ([500], [1]),
        ([500, 50], [2]),
    ],
)
async def test_history_over_its_bytes_drops_the_oldest_and_never_the_newest(
    sizes: list[int], expected: list[int]
) -> None:
    bench = in_memory(max_bytes_per_user=100)
    for size in sizes:
        await bench.take(of_size(size))
    assert kept(bench) == expected
    assert [await gap_at(bench, offset) for offset in range(len(sizes) + 1)] == [
        "trimmed" if offset + 1 < expected[0] else "" for offset in range(len(sizes) + 1)
    ]


async def test_history_of_the_full_number_and_bytes_keeps_both() -> None:
    bench = in_memory(size=2, max_bytes_per_user=100)
    for _ in range(3):
        await bench.take(of_size(50))
    assert kept(bench) == [2, 3]


async def test_append_drops_an_entry_that_expires_now_as_expired_and_keeps_a_newer_one() -> None:
    bench = in_memory(size=3)
    for seconds in (0, 1, TTL - 1):
        bench.clock.now += seconds
        await bench.take(event())
    assert kept(bench) == [2, 3]
    assert [await gap_at(bench, offset) for offset in range(3)] == ["expired", "", ""]


async def test_append_drops_two_expired_entries_at_once() -> None:
    bench = in_memory(size=10)
    await bench.append([event() for _ in range(4)])
    bench.clock.now += 1
    await bench.append([event()])
    bench.clock.now += TTL - 1
    await bench.append([event()])
    assert kept(bench) == [3, 4, 5, 6]


async def test_entry_has_the_timestamp_of_its_append(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr("wsbridge.broker.memory.timestamp", lambda: "2026-02-07T12:00:00.000Z")
    await bench.append([event()])
    assert bench.sink.queue[0].timestamp == "2026-02-07T12:00:00.000Z"


async def test_data_for_two_users_is_counted_once_and_data_for_one_is_not_registered(bench: Bench) -> None:
    await bench.append([event("a", data="{}")])
    assert broker_of(bench)._data._held == {}
    before = broker_of(bench).bytes
    await bench.append([event("b", "c", data='{"x":1}')])
    assert broker_of(bench).bytes - before == 2 * (HISTORY_BYTES + 1 + ENTRY_BYTES) + 7


async def test_remembered_ids_take_half_of_the_memory() -> None:
    bench = in_memory(room=10**9, max_bytes=2 * 100 * REMEMBERED_BYTES)
    for n in range(1_000):
        await bench.append([event("u", key=f"k{n}")])
    assert await bench.append([event("u", key="k950")]) == [DUPLICATE]
    assert await bench.append([event("u", key="k899")]) == [STORED]


@pytest.mark.fault("D5")
async def test_remembered_ids_and_histories_have_one_bound() -> None:
    bench = in_memory(room=10**9, max_bytes=100_000)
    for n in range(3_000):
        await bench.broker.append([event(f"u{n % 20}", key=f"k{n}")])
        assert broker_of(bench).bytes <= 100_000
    assert broker_of(bench).users == 20
    assert await bench.take(event("u19", key="k2999")) == [DUPLICATE]


def broker_of(bench: Bench) -> MemoryBroker:
    assert isinstance(bench.broker, MemoryBroker)
    return bench.broker


# A random walk against a model.


def result(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, because all is in memory. No loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waited")


PLENTY = 10**9
USERS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
EVENTS = st.lists(st.tuples(USERS, st.sampled_from(["", "", "k1", "k2", "k3"]), st.integers(0, 300)), max_size=8)


class Walk(RuleBasedStateMachine):
    """Append, resume, let time pass and let the bus drain in any order; no step may break a promise.

    `max_bytes` is unlimited, or enough for the four positions, or too little even for those.
    """

    @initialize(
        size=st.sampled_from([0, 1, 3, 100]),
        room=st.sampled_from([4, 100]),
        max_bytes=st.sampled_from([PLENTY, 8_000, 2_500]),
    )
    def begin(self, size: int, room: int, max_bytes: int) -> None:
        self.bench = in_memory(size=size, room=room, max_bytes=max_bytes)
        self.size, self.max_bytes = size, max_bytes
        self.keys: set[tuple[str, str]] = set()
        self.told: list[tuple[str, Position]] = []  # positions that a client may have
        self.serial = 0
        self.times: dict[bytes, float] = {}  # when each event was appended

    @rule(wanted=EVENTS)
    def append(self, wanted: list[tuple[list[str], str, int]]) -> None:
        events = []
        for users, key, padding in wanted:
            self.serial += 1
            events.append(event(*users, data=f'{{"n":{self.serial},"x":"{"x" * padding}"}}', key=key))
            self.times[events[-1].data] = self.bench.clock.now
        room, empty, before = self.bench.sink.room(), self.bench.sink.is_empty(), len(self.bench.sink.seen)
        outcomes = result(self.bench.append(events))
        published = [(entry.user, entry.data) for entry in self.bench.sink.seen[before:]]
        assert len(published) <= room or (empty and len({data for _, data in published}) == 1)
        self.compare(events, outcomes, published)

    def compare(self, events: list[Event], outcomes: list[Status], published: list[tuple[str, bytes]]) -> None:
        """Compare the outcomes with the model: in order, each once, and none after a retry."""
        blocked: set[str] = set()
        expected: list[tuple[str, bytes]] = []
        for taken, outcome in zip(events, outcomes, strict=True):
            fresh = [user for user in taken.users if not taken.key or (user, taken.key) not in self.keys]
            if outcome is RETRIED:
                blocked |= set(fresh)
                continue
            if self.max_bytes != PLENTY:  # some keys are forgotten early: the published events show which
                fresh = [user for user in taken.users if (user, taken.data) in published]
            assert blocked.isdisjoint(fresh)
            assert outcome is (STORED if fresh else DUPLICATE)
            expected += [(user, taken.data) for user in fresh]
            self.keys |= {(user, taken.key) for user in fresh}
        assert published == expected

    @rule(user=st.sampled_from("abcd"))
    def connect(self, user: str) -> None:
        resumed = result(self.bench.broker.resume(user, None))
        assert (resumed.entries, resumed.recovered, resumed.gap) == ((), None, None)
        self.told.append((user, resumed.position))

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        known = self.told + [(entry.user, Position(entry.epoch, entry.offset)) for entry in self.bench.sink.seen]
        if not known:
            return
        user, after = data.draw(st.sampled_from(known))
        resumed = result(self.bench.resume(user, str(after)))
        missed = [e for e in self.bench.sink.of(user) if e.epoch == after.epoch and e.offset > after.offset]
        if resumed.recovered:
            assert resumed == Resume(after, tuple(missed), True, None)
        else:
            assert (resumed.recovered, resumed.entries, resumed.gap and resumed.gap.after) == (False, (), after)
            assert (resumed.gap and resumed.gap.reason == "reset") is (resumed.position.epoch != after.epoch)
        if self.max_bytes >= 8_000:  # positions are kept
            assert resumed.position.epoch == after.epoch
        if self.max_bytes == PLENTY:  # entries are removed because of number and age only
            kept = (
                all(self.times[entry.data] > self.bench.clock.now - TTL for entry in missed)
                and len(missed) <= self.size
            )
            assert resumed.recovered is kept

    @rule(seconds=st.sampled_from([1.0, TTL / 2, TTL]))
    def wait(self, seconds: float) -> None:
        if self.bench.clock.now < 1_000_000 + DEDUPE_TTL / 2:  # no key expires in this walk
            self.bench.clock.now += seconds

    @rule()
    def drain(self) -> None:
        self.bench.sink.queue.clear()

    @invariant()
    def positions_are_contiguous_and_never_used_twice(self) -> None:
        for user in "abcd":
            by_epoch = itertools.groupby(self.bench.sink.of(user), key=lambda entry: entry.epoch)
            runs = {(epoch, place): [entry.offset for entry in run] for place, (epoch, run) in enumerate(by_epoch)}
            assert len({epoch for epoch, _ in runs}) == len(runs)
            assert all(offsets == list(range(1, len(offsets) + 1)) for offsets in runs.values())

    @invariant()
    def memory_is_bounded(self) -> None:
        assert 0 <= broker_of(self.bench).bytes <= self.max_bytes


Walk.TestCase.settings = settings(tries(100), stateful_step_count=25)
TestWalk = Walk.TestCase
