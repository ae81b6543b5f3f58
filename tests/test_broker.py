"""The seam between events and connections: positions, histories, duplicates, room.

The first part is the contract of the seam and names no implementation; the second is the one in this process.
"""

import itertools
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wsbridge.broker import (
    ENTRY_BYTES,
    HISTORY_BYTES,
    Broker,
    MemoryBroker,
    Outcome,
)
from wsbridge.event import Entry, Event, Position
from wsbridge.history import Gap, Resume

T = TypeVar("T")
SIZE, TTL, DEDUPE_TTL, ROOM = 5, 300.0, 3_600.0, 20
STORED, DUPLICATE, RETRIED = Outcome.STORED, Outcome.DUPLICATE, Outcome.RETRIED


@dataclass
class Sink:
    """A queue of entries that holds `size`; `put` counts how often it was called."""

    size: int = ROOM
    queue: list[Entry] = field(default_factory=list)
    seen: list[Entry] = field(default_factory=list)
    puts: int = 0

    def room(self) -> int:
        return self.size - len(self.queue)

    def is_empty(self) -> bool:
        return not self.queue

    def put(self, entries: Sequence[Entry]) -> None:
        self.puts += 1
        self.queue += entries
        self.seen += entries

    def of(self, user: str) -> list[Entry]:
        return [entry for entry in self.seen if entry.user == user]


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A broker with all that it needs."""

    broker: Broker
    sink: Sink
    clock: Clock

    async def take(self, *events: Event) -> list[Outcome]:
        """Append, and let the bus drain."""
        outcomes = await self.broker.append(events)
        self.sink.queue.clear()
        return outcomes

    async def top(self, user: str) -> Position:
        return (await self.broker.resume(user, None)).position


def in_memory(*, size: int = SIZE, ttl: float = TTL, max_bytes: int = 10**9, room: int = ROOM) -> Bench:
    sink, clock = Sink(room), Clock()
    broker = MemoryBroker(sink, size=size, ttl=ttl, max_bytes=max_bytes, dedupe_ttl=DEDUPE_TTL, clock=clock)
    return Bench(broker, sink, clock)


@pytest.fixture(params=[in_memory])
def bench(request: pytest.FixtureRequest) -> Bench:
    make: Callable[[], Bench] = request.param
    return make()


def event(*users: str, data: str = "{}", key: str = "") -> Event:
    return Event(users or ("u",), data.encode(), "task_update", key.removeprefix("source\n"), key)


def numbered(count: int, user: str = "u") -> list[Event]:
    return [event(user, data=f'{{"n":{n}}}') for n in range(1, count + 1)]


# The contract: positions.


async def test_the_offsets_of_a_user_are_contiguous_and_its_own(bench: Bench) -> None:
    await bench.take(event("a"), event("b"), event("a"))
    await bench.take(event("b", "a"))
    assert [entry.offset for entry in bench.sink.of("a")] == [1, 2, 3]
    assert [entry.offset for entry in bench.sink.of("b")] == [1, 2]
    assert len({entry.epoch for entry in bench.sink.of("a")}) == 1
    assert bench.sink.of("a")[0].epoch != bench.sink.of("b")[0].epoch


async def test_a_user_without_events_has_a_position_that_holds(bench: Bench) -> None:
    hello = await bench.broker.resume("u", None)
    assert hello == Resume(Position(hello.position.epoch, 0), (), None, None)
    assert re.fullmatch("[A-Za-z0-9]+", hello.position.epoch)
    await bench.take(event())
    assert [(entry.epoch, entry.offset) for entry in bench.sink.seen] == [(hello.position.epoch, 1)]
    resumed = await bench.broker.resume("u", str(hello.position))
    assert resumed == Resume(hello.position, tuple(bench.sink.seen), True, None)


async def test_an_entry_holds_the_event_as_it_came(bench: Bench) -> None:
    await bench.take(Event(("u",), b'{ "user_id" : "u" }', "order_update", "e-1", "source\ne-1"))
    (entry,) = bench.sink.seen
    assert (entry.user, entry.type, entry.data, entry.event_id) == ("u", "order_update", b'{ "user_id" : "u" }', "e-1")
    assert entry.received == bench.clock.now
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.timestamp)


# The contract: resume.


@pytest.mark.parametrize("asked", [None, ""])
async def test_who_asks_for_nothing_gets_the_position_and_nothing_else(bench: Bench, asked: str | None) -> None:
    await bench.take(*numbered(3))
    top = await bench.top("u")
    assert top.offset == 3
    assert await bench.broker.resume("u", asked) == Resume(top, (), None, None)


@pytest.mark.parametrize("handled", range(SIZE + 1))
async def test_a_resume_gives_exactly_what_follows(bench: Bench, handled: int) -> None:
    await bench.take(*numbered(SIZE), event("other"))
    after = Position((await bench.top("u")).epoch, handled)
    resumed = await bench.broker.resume("u", str(after))
    assert resumed == Resume(after, tuple(bench.sink.of("u")[handled:]), True, None)
    assert await bench.broker.resume("u", str(after)) == resumed  # reading takes nothing away


@pytest.mark.parametrize("asked", ["x", ":", "1", "-", "a:b", "k3f9x2:041", "null", "\x00", "k" * 10_000])
async def test_a_malformed_position_is_a_reset_without_a_place(bench: Bench, asked: str) -> None:
    await bench.take(event())
    assert await bench.broker.resume("u", asked) == Resume(await bench.top("u"), (), False, Gap(None, "reset"))


async def test_a_foreign_position_is_a_reset(bench: Bench) -> None:
    await bench.take(event("u"), event("other"))
    theirs = await bench.top("other")
    resumed = await bench.broker.resume("u", str(theirs))
    assert resumed == Resume(await bench.top("u"), (), False, Gap(theirs, "reset"))


async def test_a_future_position_is_a_reset(bench: Bench) -> None:
    await bench.take(event())
    top = await bench.top("u")
    future = Position(top.epoch, top.offset + 1)
    assert await bench.broker.resume("u", str(future)) == Resume(top, (), False, Gap(future, "reset"))


async def test_a_position_of_an_unknown_user_is_a_reset(bench: Bench) -> None:
    resumed = await bench.broker.resume("nobody", "k3f9x2:0")
    assert resumed == Resume(await bench.top("nobody"), (), False, Gap(Position("k3f9x2", 0), "reset"))


@pytest.mark.parametrize(("handled", "recovered"), [(0, False), (1, False), (2, True), (6, True), (7, True)])
async def test_more_than_the_history_holds_is_a_gap_without_a_part(bench: Bench, handled: int, recovered: bool) -> None:
    await bench.take(*numbered(SIZE + 2))
    top = await bench.top("u")
    after = Position(top.epoch, handled)
    resumed = await bench.broker.resume("u", str(after))
    if recovered:
        assert resumed == Resume(after, tuple(bench.sink.of("u")[handled:]), True, None)
    else:
        assert resumed == Resume(top, (), False, Gap(after, "trimmed"))


async def test_older_than_the_history_keeps_is_a_gap_without_a_part(bench: Bench) -> None:
    await bench.take(event())
    bench.clock.now += TTL / 2
    await bench.take(event())
    top = await bench.top("u")
    bench.clock.now += TTL / 2
    before, between = Position(top.epoch, 0), Position(top.epoch, 1)
    assert await bench.broker.resume("u", str(before)) == Resume(top, (), False, Gap(before, "expired"))
    assert await bench.broker.resume("u", str(between)) == Resume(between, (bench.sink.seen[1],), True, None)


async def test_a_gap_says_expired_where_time_took_the_last_one_that_is_missing(bench: Bench) -> None:
    await bench.take(*numbered(SIZE + 1))  # the first is trimmed
    bench.clock.now += TTL  # the others expire
    epoch = (await bench.top("u")).epoch
    reasons = [await bench.broker.resume("u", f"{epoch}:{offset}") for offset in (0, 1, 5)]
    assert [resumed.gap and resumed.gap.reason for resumed in reasons] == ["trimmed", "expired", "expired"]


@pytest.mark.parametrize("days", [0.1, 1, 1.9])
async def test_the_position_outlives_the_events(bench: Bench, days: float) -> None:
    await bench.take(*numbered(2))
    top = await bench.top("u")
    bench.clock.now += days * 86_400
    assert await bench.broker.resume("u", str(top)) == Resume(top, (), True, None)
    await bench.take(event())
    assert bench.sink.seen[-1].offset == 3


# The contract: duplicates.


async def test_a_duplicate_is_taken_once(bench: Bench) -> None:
    assert await bench.take(event(key="a"), event(key="a"), event(key="b")) == [STORED, DUPLICATE, STORED]
    assert await bench.take(event(key="b"), event(key="c"), event(key="a")) == [DUPLICATE, STORED, DUPLICATE]
    assert [entry.offset for entry in bench.sink.seen] == [1, 2, 3]


async def test_a_duplicate_is_known_for_its_time(bench: Bench) -> None:
    await bench.take(event(key="a"))
    for _ in range(10):
        bench.clock.now += DEDUPE_TTL / 10 - 1e-6
        assert await bench.take(event(key="a")) == [DUPLICATE]


async def test_a_key_is_forgotten_in_the_end(bench: Bench) -> None:
    await bench.take(event(key="a"))
    for _ in range(3):
        bench.clock.now += DEDUPE_TTL
        await bench.take(event())
    assert await bench.take(event(key="a")) == [STORED]


async def test_an_event_that_nothing_names_is_never_a_duplicate(bench: Bench) -> None:
    assert await bench.take(event(), event()) == [STORED, STORED]
    assert await bench.take(event()) == [STORED]


async def test_a_redelivery_for_more_users_reaches_the_new_ones_only(bench: Bench) -> None:
    await bench.take(event("a", "b", key="k"))
    assert await bench.take(event("b", "c", key="k")) == [STORED]
    assert [entry.user for entry in bench.sink.seen] == ["a", "b", "c"]


# The contract: room. What does not fit is not taken at all, and order is kept.


async def test_what_is_taken_is_published_in_one_piece_and_in_order(bench: Bench) -> None:
    await bench.broker.append([event("a"), event("b", "c"), event("a")])
    assert bench.sink.puts == 1
    assert [(entry.user, entry.offset) for entry in bench.sink.seen] == [("a", 1), ("b", 1), ("c", 1), ("a", 2)]


async def test_nothing_to_publish_publishes_nothing(bench: Bench) -> None:
    assert await bench.broker.append([]) == []
    await bench.take(event(key="a"))
    assert await bench.broker.append([event(key="a")]) == [DUPLICATE]
    assert bench.sink.puts == 1


async def test_a_full_queue_retries_and_costs_no_offset(bench: Bench) -> None:
    await bench.broker.append([event("x", key=str(n)) for n in range(ROOM)])
    late = event("u", key="late")
    assert await bench.broker.append([late]) == [RETRIED]
    assert await bench.top("u") == Position((await bench.top("u")).epoch, 0)
    bench.sink.queue.clear()
    assert await bench.broker.append([late]) == [STORED]
    assert [entry.offset for entry in bench.sink.of("u")] == [1]


async def test_behind_a_retry_the_same_users_are_retried_and_others_are_not(bench: Bench) -> None:
    await bench.broker.append([event("x") for _ in range(ROOM - 2)])
    outcomes = await bench.broker.append(
        [event("a"), event("b", "c", "d"), event("c"), event("e"), event("d", "f"), event("f"), event("g")]
    )
    assert outcomes == [STORED, RETRIED, RETRIED, STORED, RETRIED, RETRIED, RETRIED]
    assert [entry.user for entry in bench.sink.seen[ROOM - 2 :]] == ["a", "e"]
    assert len(bench.sink.queue) == ROOM


async def test_an_event_for_more_users_than_the_queue_holds_enters_an_empty_one(bench: Bench) -> None:
    everyone = event(*(f"u{n}" for n in range(ROOM + 1)))
    assert await bench.broker.append([event("a"), everyone]) == [STORED, RETRIED]
    bench.sink.queue.clear()
    assert await bench.broker.append([everyone, event("a")]) == [STORED, RETRIED]
    assert len(bench.sink.queue) == ROOM + 1


async def test_what_is_in_a_history_is_published_whatever_goes_wrong_behind_it(bench: Bench) -> None:
    broken = Event(("b", ["unhashable"]), b"{}", "task_update", "", "")  # type: ignore[arg-type]  # the point
    with pytest.raises(TypeError):
        await bench.broker.append([event("a"), broken])
    assert [entry.user for entry in bench.sink.seen] == ["a"]
    await bench.take(event("a"))
    assert [entry.offset for entry in bench.sink.of("a")] == [1, 2]


# The one in this process: memory.


async def test_over_the_bound_the_events_of_who_got_none_for_long_go_first() -> None:
    bench = in_memory(max_bytes=3 * (HISTORY_BYTES + 1) + 3 * (ENTRY_BYTES + 2))
    for user in ("a", "b", "c"):
        await bench.take(event(user))
    await bench.take(event("a"))  # now b is the one that got none for longest
    tops = {user: await bench.top(user) for user in ("a", "b", "c")}
    reasons = {user: (await bench.broker.resume(user, f"{top.epoch}:0")).gap for user, top in tops.items()}
    assert reasons == {"a": None, "b": Gap(Position(tops["b"].epoch, 0), "trimmed"), "c": None}
    assert {user: top.offset for user, top in tops.items()} == {"a": 2, "b": 1, "c": 1}


async def test_under_the_bound_a_position_goes_last_and_comes_back_as_another_epoch() -> None:
    bench = in_memory(max_bytes=2 * (HISTORY_BYTES + 1))
    first = {user: await bench.top(user) for user in ("a", "b", "c")}
    again = {user: await bench.top(user) for user in ("c", "b", "a")}
    assert first["c"] == again["c"]
    assert first["a"].epoch != again["a"].epoch
    resumed = await bench.broker.resume("a", str(first["a"]))
    assert resumed.gap == Gap(first["a"], "reset")


async def test_an_event_larger_than_the_whole_bound_is_published_and_not_kept() -> None:
    bench = in_memory(max_bytes=100)
    assert await bench.take(event(data='{"x":"%s"}' % ("x" * 1_000))) == [STORED]
    assert len(bench.sink.seen) == 1
    assert broker_of(bench).bytes == 0


@pytest.mark.parametrize(("size", "ttl"), [(0, TTL), (SIZE, 0.0)])
async def test_without_a_history_positions_go_on(size: int, ttl: float) -> None:
    bench = in_memory(size=size, ttl=ttl)
    await bench.take(event())
    await bench.take(event())
    top = await bench.top("u")
    assert [entry.offset for entry in bench.sink.seen] == [1, 2]
    assert (await bench.broker.resume("u", f"{top.epoch}:1")).recovered is False
    assert (await bench.broker.resume("u", str(top))).recovered is True


async def test_what_has_expired_is_freed_without_being_asked_for() -> None:
    bench = in_memory()
    for user in ("a", "b", "c"):
        await bench.take(event(user, data='{"x":1}'), event(user))
    bench.clock.now += TTL
    await bench.take(event("d"))
    assert broker_of(bench).bytes == 4 * (HISTORY_BYTES + 1) + ENTRY_BYTES + 2
    assert broker_of(bench).users == 4


async def test_who_gets_events_all_the_time_keeps_none_that_are_too_old() -> None:
    bench = in_memory(size=100)
    for _ in range(10):
        bench.clock.now += TTL / 2
        await bench.take(event())
    assert broker_of(bench).bytes == HISTORY_BYTES + 1 + 2 * (ENTRY_BYTES + 2)


def broker_of(bench: Bench) -> MemoryBroker:
    assert isinstance(bench.broker, MemoryBroker)
    return bench.broker


# The one in this process: a random walk against a model.


def result(coroutine: Coroutine[Any, Any, T]) -> T:
    """In memory nothing waits, so no loop is needed."""
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
    """Append, resume, let time pass, let the bus drain, in any order; nothing may ever break the promises.

    `max_bytes` is more than ever needed, or enough for the four positions, or not even for those.
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
        self.told: list[tuple[str, Position]] = []  # positions that a client may hold
        self.serial = 0

    @rule(wanted=EVENTS)
    def append(self, wanted: list[tuple[list[str], str, int]]) -> None:
        events = []
        for users, key, padding in wanted:
            self.serial += 1
            events.append(event(*users, data=f'{{"n":{self.serial},"x":"{"x" * padding}"}}', key=key))
        room, empty, before = self.bench.sink.room(), self.bench.sink.is_empty(), len(self.bench.sink.seen)
        outcomes = result(self.bench.broker.append(events))
        published = [(entry.user, entry.data) for entry in self.bench.sink.seen[before:]]
        assert len(published) <= room or (empty and len({data for _, data in published}) == 1)
        self.compare(events, outcomes, published)

    def compare(self, events: list[Event], outcomes: list[Outcome], published: list[tuple[str, bytes]]) -> None:
        """Who got what: in order, each once, nothing behind a retry."""
        blocked: set[str] = set()
        expected: list[tuple[str, bytes]] = []
        for taken, outcome in zip(events, outcomes, strict=True):
            if outcome is RETRIED:
                blocked |= set(taken.users)
                continue
            assert blocked.isdisjoint(taken.users)
            fresh = [user for user in taken.users if not taken.key or (user, taken.key) not in self.keys]
            if self.max_bytes != PLENTY:  # some keys are forgotten early: what was published tells which
                fresh = [user for user in taken.users if (user, taken.data) in published]
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
        resumed = result(self.bench.broker.resume(user, str(after)))
        missed = [e for e in self.bench.sink.of(user) if e.epoch == after.epoch and e.offset > after.offset]
        if resumed.recovered:
            assert resumed == Resume(after, tuple(missed), True, None)
        else:
            assert (resumed.recovered, resumed.entries, resumed.gap and resumed.gap.after) == (False, (), after)
            assert (resumed.gap and resumed.gap.reason == "reset") is (resumed.position.epoch != after.epoch)
        if self.max_bytes >= 8_000:  # positions stay
            assert resumed.position.epoch == after.epoch
        if self.max_bytes == PLENTY:  # nothing but size and time takes anything away
            kept = all(entry.received > self.bench.clock.now - TTL for entry in missed) and len(missed) <= self.size
            assert resumed.recovered is kept

    @rule(seconds=st.sampled_from([1.0, TTL / 2, TTL]))
    def wait(self, seconds: float) -> None:
        if self.bench.clock.now < 1_000_000 + DEDUPE_TTL / 2:  # no key is forgotten in this walk
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


Walk.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=25)
TestWalk = Walk.TestCase
