"""The contract of every broker: positions, histories, duplicates, room.

It names no implementation: each test runs on the histories in the process, on a real server and on a real cluster.
"""

import re
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

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
    on_redis,
)
from tests.support.clocks import WallClock
from tests.support.cluster import Cluster
from tests.support.running import until
from tests.support.valkey import Valkey
from wsbridge.core.events import Event, Position
from wsbridge.core.reasons import Retry
from wsbridge.core.recovery import Gap, Resume

FEW = 100_000  # bytes of a history
LARGE = 40_000  # bytes of data that a broker may store beside the histories
SPAN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all tests


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("servers")
    async with Valkey(directory) as valkey, Cluster(directory, replicas=0) as cluster:
        yield {"redis": valkey.url, "cluster": cluster.url}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def astray(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, WallClock]]:
    """A server whose clock is set back by an hour before the first append."""
    directory = tmp_path_factory.mktemp("astray")
    clock = WallClock(directory)
    async with Valkey(directory, clock) as valkey:
        yield valkey.url, clock


KINDS = ["memory", "redis", "cluster", pytest.param("astray", marks=pytest.mark.fault("D8"))]


@pytest_asyncio.fixture(params=KINDS[:3], loop_scope="module")
async def tight(request: pytest.FixtureRequest, urls: dict[str, str]) -> AsyncIterator[Bench]:
    """A broker that keeps few bytes for each user."""
    if request.param == "memory":
        yield in_memory(max_bytes_per_user=FEW)
    else:
        async with on_redis(urls[request.param], max_bytes_per_user=FEW) as found:
            yield found


@pytest_asyncio.fixture(params=KINDS, loop_scope="module")
async def bench(
    request: pytest.FixtureRequest, urls: dict[str, str], astray: tuple[str, WallClock]
) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield in_memory()
    elif request.param == "astray":
        url, clock = astray
        async with on_redis(url) as found:
            found.before = lambda: clock.set(clock.ahead - 3_600)
            yield found
    else:
        async with on_redis(urls[request.param]) as found:
            yield found


# The contract: positions.


async def test_broker_offsets_of_each_user_are_contiguous(bench: Bench) -> None:
    await bench.take(event("a"), event("b"), event("a"))
    await bench.take(event("b", "a"))
    assert [entry.offset for entry in bench.sink.of("a")] == [1, 2, 3]
    assert [entry.offset for entry in bench.sink.of("b")] == [1, 2]
    assert len({entry.epoch for entry in bench.sink.of("a")}) == 1
    assert bench.sink.of("a")[0].epoch != bench.sink.of("b")[0].epoch


async def test_broker_user_without_events_has_a_lasting_position(bench: Bench) -> None:
    hello = await bench.resume("u", None)
    assert hello == Resume(Position(hello.position.epoch, 0), (), None, None)
    assert re.fullmatch("[A-Za-z0-9]+", hello.position.epoch)
    await bench.take(event())
    assert [(entry.epoch, entry.offset) for entry in bench.sink.seen] == [(hello.position.epoch, 1)]
    resumed = await bench.resume("u", str(hello.position))
    assert resumed == Resume(hello.position, tuple(bench.sink.seen), True, None)


async def test_broker_entry_has_the_data_verbatim(bench: Bench) -> None:
    await bench.take(Event(("u",), b'{ "user_id" : "u" }', "order_update", "e-1", "source\ne-1"))
    (entry,) = bench.sink.seen
    assert (entry.user, entry.type, entry.data, entry.event_id) == ("u", "order_update", b'{ "user_id" : "u" }', "e-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.timestamp)


@pytest.mark.parametrize("size", [2, LARGE])
async def test_broker_entry_has_the_span_of_its_event_live_and_in_the_history(bench: Bench, size: int) -> None:
    before = await bench.top("u")
    plain = event(data=f'"{"x" * size}"')
    await bench.take(msgspec.structs.replace(plain, span=SPAN), plain, msgspec.structs.replace(plain, span=SPAN))
    assert [entry.span for entry in bench.sink.seen] == [SPAN, "", SPAN]
    resumed = await bench.resume_all("u", str(before))
    assert [entry.span for entry in resumed.entries] == [SPAN, "", SPAN]


# The contract: resume.


@pytest.mark.parametrize("asked", [None, ""])
async def test_broker_resume_without_a_position_returns_the_position_only(bench: Bench, asked: str | None) -> None:
    await bench.take(*numbered(3))
    top = await bench.top("u")
    assert top.offset == 3
    assert await bench.resume("u", asked) == Resume(top, (), None, None)


@pytest.mark.parametrize("handled", range(SIZE + 1))
async def test_broker_resume_returns_exactly_the_later_entries(bench: Bench, handled: int) -> None:
    await bench.take(*numbered(SIZE), event("other"))
    after = Position((await bench.top("u")).epoch, handled)
    resumed = await bench.resume("u", str(after))
    assert resumed == Resume(after, tuple(bench.sink.of("u")[handled:]), True, None)
    assert await bench.resume("u", str(after)) == resumed  # a resume removes nothing


@pytest.mark.parametrize("asked", ["x", ":", "1", "-", "a:b", "k3f9x2:041", "null", "\x00", "k" * 10_000])
async def test_broker_resume_from_a_malformed_position_is_a_reset(bench: Bench, asked: str) -> None:
    await bench.take(event())
    assert await bench.resume("u", asked) == Resume(await bench.top("u"), (), False, Gap(None, "reset"))


async def test_broker_resume_from_another_users_position_is_a_reset(bench: Bench) -> None:
    await bench.take(event("u"), event("other"))
    theirs = await bench.top("other")
    resumed = await bench.resume("u", str(theirs))
    assert resumed == Resume(await bench.top("u"), (), False, Gap(theirs, "reset"))


async def test_broker_resume_from_a_future_position_is_a_reset(bench: Bench) -> None:
    await bench.take(event())
    top = await bench.top("u")
    future = Position(top.epoch, top.offset + 1)
    assert await bench.resume("u", str(future)) == Resume(top, (), False, Gap(future, "reset"))


async def test_broker_resume_of_an_unknown_user_is_a_reset(bench: Bench) -> None:
    resumed = await bench.resume("nobody", "k3f9x2:0")
    assert resumed == Resume(await bench.top("nobody"), (), False, Gap(Position("k3f9x2", 0), "reset"))


@pytest.mark.parametrize(("handled", "recovered"), [(0, False), (1, False), (2, True), (6, True), (7, True)])
async def test_broker_resume_over_the_size_is_a_gap_without_entries(
    bench: Bench, handled: int, recovered: bool
) -> None:
    await bench.take(*numbered(SIZE + 2))
    top = await bench.top("u")
    after = Position(top.epoch, handled)
    resumed = await bench.resume("u", str(after))
    if recovered:
        assert resumed == Resume(after, tuple(bench.sink.of("u")[handled:]), True, None)
    else:
        assert resumed == Resume(top, (), False, Gap(after, "trimmed"))


async def test_broker_resume_after_the_ttl_is_a_gap_without_entries(bench: Bench) -> None:
    await bench.take(event())
    bench.clock.now += TTL / 2
    await bench.take(event())
    top = await bench.top("u")
    bench.clock.now += TTL / 2
    before, between = Position(top.epoch, 0), Position(top.epoch, 1)
    assert await bench.resume("u", str(before)) == Resume(top, (), False, Gap(before, "expired"))
    assert await bench.resume("u", str(between)) == Resume(between, (bench.sink.seen[1],), True, None)


async def test_broker_gap_is_expired_if_the_last_missing_entry_expired(bench: Bench) -> None:
    await bench.take(*numbered(SIZE + 1))  # the first is trimmed
    bench.clock.now += TTL  # the others expire
    epoch = (await bench.top("u")).epoch
    reasons = [await bench.resume("u", f"{epoch}:{offset}") for offset in (0, 1, 5)]
    assert [resumed.gap and resumed.gap.reason for resumed in reasons] == ["trimmed", "expired", "expired"]


@pytest.mark.parametrize("days", [0.1, 1, 1.9])
async def test_broker_position_outlives_the_events(bench: Bench, days: float) -> None:
    await bench.take(*numbered(2))
    top = await bench.top("u")
    bench.clock.now += days * 86_400
    assert await bench.resume("u", str(top)) == Resume(top, (), True, None)
    await bench.take(event())
    assert bench.sink.seen[-1].offset == 3


@pytest.mark.fault("C6")
async def test_find_returns_the_position_of_an_event_by_its_id(bench: Bench) -> None:
    assert await bench.broker.find("u", "id-1") is None
    events = [event("u", "u2", key=f"source\nid-{n}") for n in range(1, 4)]
    await bench.take(*events, msgspec.structs.replace(events[1], users=("u",), key="another"))
    top = await bench.top("u")
    found = [await bench.broker.find("u", f"id-{n}") for n in (1, 2, 3, 4)]
    assert found == [Position(top.epoch, 1), Position(top.epoch, 4), Position(top.epoch, 3), None]
    assert await bench.broker.find("u", "id-") is None
    assert await bench.broker.find("other", "id-1") is None


async def test_position_of_a_user_without_a_history_is_none_and_makes_none(bench: Bench) -> None:
    assert await bench.broker.position("u") is None
    assert await bench.broker.position("u") is None
    await bench.take(event())
    assert await bench.broker.position("u") == await bench.top("u")
    assert await bench.broker.position("other") is None


# The contract: duplicates.


async def test_broker_duplicate_is_stored_once(bench: Bench) -> None:
    assert await bench.take(event(key="a"), event(key="a"), event(key="b")) == [STORED, DUPLICATE, STORED]
    assert await bench.take(event(key="b"), event(key="c"), event(key="a")) == [DUPLICATE, STORED, DUPLICATE]
    assert [entry.offset for entry in bench.sink.seen] == [1, 2, 3]


async def test_broker_duplicate_is_recognised_for_the_dedupe_ttl(bench: Bench) -> None:
    await bench.take(event(key="a"))
    for _ in range(10):
        bench.clock.now += DEDUPE_TTL / 10 - 1e-6
        assert await bench.take(event(key="a")) == [DUPLICATE]


async def test_broker_key_is_forgotten_after_the_dedupe_ttl(bench: Bench) -> None:
    await bench.take(event(key="a"))
    for _ in range(3):
        bench.clock.now += DEDUPE_TTL
        await bench.take(event())
    assert await bench.take(event(key="a")) == [STORED]


async def test_broker_event_without_a_key_is_never_a_duplicate(bench: Bench) -> None:
    assert await bench.take(event(), event()) == [STORED, STORED]
    assert await bench.take(event()) == [STORED]


async def test_broker_redelivery_for_more_users_reaches_the_new_ones_only(bench: Bench) -> None:
    await bench.take(event("a", "b", key="k"))
    assert await bench.take(event("b", "c", key="k")) == [STORED]
    assert sorted(entry.user for entry in bench.sink.seen) == ["a", "b", "c"]


# The contract: room. An event that does not fit is not appended at all, and the order is kept.


async def test_broker_with_a_full_queue_retries_without_using_an_offset(bench: Bench) -> None:
    bench.fill(ROOM)
    late = event("u", key="late")
    assert await bench.append([late]) == [RETRIED]
    assert await bench.top("u") == Position((await bench.top("u")).epoch, 0)
    bench.sink.queue.clear()
    assert await bench.take(late) == [STORED]
    assert [entry.offset for entry in bench.sink.of("u")] == [1]


async def test_broker_after_a_retry_retries_the_same_users_only(bench: Bench) -> None:
    bench.fill(ROOM - 2)
    outcomes = await bench.take(
        event("a"), event("b", "c", "d"), event("c"), event("e"), event("d", "f"), event("f"), event("g")
    )
    assert outcomes == [STORED, RETRIED, RETRIED, STORED, RETRIED, RETRIED, RETRIED]
    assert sorted(entry.user for entry in bench.sink.seen) == ["a", "e"]
    assert {(await bench.top(user)).offset for user in "bcdfg"} == {0}


async def test_broker_event_for_more_users_than_the_queue_holds_enters_an_empty_queue(bench: Bench) -> None:
    everyone = event(*(f"u{n}" for n in range(ROOM + 1)))
    assert await bench.append([event("a"), everyone]) == [STORED, RETRIED]
    bench.sink.queue.clear()
    assert await bench.append([everyone, event("a")]) == [STORED, RETRIED]
    assert {(await bench.top(user)).offset for user in everyone.users} == {1}


async def test_append_over_the_bytes_of_the_queue_retries_what_does_not_fit(bench: Bench) -> None:
    bench.sink.max_bytes = 1_000
    large = '{"x":"%s"}' % ("x" * 600)
    outcomes = await bench.broker.append([event("a", data=large), event("b", data=large), event("c")])
    assert [outcome.status for outcome in outcomes] == [STORED, RETRIED, STORED]
    assert outcomes[1].reason is Retry.QUEUE_BYTES


async def test_append_of_more_bytes_than_the_queue_holds_enters_an_empty_queue(bench: Bench) -> None:
    bench.sink.max_bytes = 1_000
    large = event("b", data='{"x":"%s"}' % ("x" * 2_000), key="k")
    bench.fill(1)
    assert await bench.append([large]) == [RETRIED]
    bench.sink.queue.clear()
    assert await bench.append([large, event("a")]) == [STORED, RETRIED]


@pytest.mark.fault("E3")
async def test_append_without_room_gives_the_reason_of_each_retry(bench: Bench) -> None:
    bench.fill(ROOM - 1)
    outcomes = await bench.broker.append([event("a", "b"), event("b"), event("c")])
    assert [outcome.reason for outcome in outcomes] == [Retry.QUEUE_FULL, Retry.FOLLOWS_RETRY, None]


@pytest.mark.fault("D3")
async def test_delivery_for_more_than_the_queue_holds_ends_stored_when_it_comes_again(bench: Bench) -> None:
    team = [f"u{n}" for n in range(5)]
    delivery = [event(*team, data=f'{{"n":{n}}}', key=f"k{n}") for n in range(4 * ROOM // 5)]
    tries = 1
    while RETRIED in await bench.take(*delivery):
        tries += 1
        assert tries <= 4
    for user in team:
        assert [entry.offset for entry in bench.sink.of(user)] == list(range(1, len(delivery) + 1))
        assert [entry.data for entry in bench.sink.of(user)] == [event.data for event in delivery]


# The contract: size.


LARGE = 100_000  # bytes


def large(*users: str, n: int = 1, size: int = LARGE) -> Event:
    return event(*users, data=f'{{"n":{n},"x":"{"x" * size}"}}', key=f"large-{n}")


@pytest.mark.fault("D1")
async def test_large_event_for_many_users_reaches_each(bench: Bench) -> None:
    users = [f"u{n}" for n in range(ROOM)]
    assert await bench.take(large(*users)) == [STORED]
    assert [bench.sink.of(user)[0].data for user in users] == [large().data] * ROOM
    assert await bench.take(large(*users)) == [DUPLICATE]


async def test_large_and_small_events_of_a_user_keep_their_order(bench: Bench) -> None:
    delivery = [large("u", n=n) if n % 2 else event("u", data=f'{{"n":{n}}}') for n in range(SIZE)]
    assert await bench.take(*delivery) == [STORED] * SIZE
    assert [entry.data for entry in bench.sink.of("u")] == [event.data for event in delivery]
    assert [entry.offset for entry in bench.sink.of("u")] == list(range(1, SIZE + 1))


@pytest.mark.fault("D2")
@pytest.mark.parametrize("size", [10, 30_000, 32_768, LARGE, 300_000])
async def test_history_of_any_size_is_resumed_as_a_whole(bench: Bench, size: int) -> None:
    bench.sink.max_bytes = 10**8
    await bench.take(*(large("u", n=n, size=size) for n in range(SIZE)))
    after = Position((await bench.top("u")).epoch, 0)
    assert await bench.resume_all("u", str(after)) == Resume(after, tuple(bench.sink.of("u")), True, None)


@pytest.mark.fault("D2")
async def test_resume_without_waiting_returns_contiguous_entries_and_a_rest(bench: Bench) -> None:
    await bench.take(*numbered(2), large("u", n=3), *numbered(2))
    after = Position((await bench.top("u")).epoch, 1)
    found = await bench.broker.resume("u", str(after), wait=False)
    assert found.recovered
    assert [entry.offset for entry in found.entries] == list(range(2, 2 + len(found.entries)))
    assert len(found.entries) + found.rest == SIZE - 1


# The contract: bytes of a history. Each event has only data, without an id.


def sized(size: int, *users: str) -> Event:
    return event(*users, data=f'{{"x":"{"x" * (size - 8)}"}}')


async def kept_of(tight: Bench, user: str) -> int:
    """The number of newest events that a client can resume; earlier ones are a `trimmed` gap."""
    top = await tight.top(user)
    answers = [await tight.resume_all(user, f"{top.epoch}:{after}") for after in range(top.offset + 1)]
    kept = sum(1 for answer in answers if answer.recovered) - 1
    for after, answer in enumerate(answers):
        if answer.recovered:
            assert [entry.offset for entry in answer.entries] == list(range(after + 1, top.offset + 1))
        else:
            assert answer.gap == Gap(Position(top.epoch, after), "trimmed")
    assert [bool(answer.recovered) for answer in answers] == [False] * (top.offset - kept) + [True] * (kept + 1)
    return kept


HALF = FEW // 2


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([HALF, HALF], 2),  # exactly the bound
        ([HALF, HALF + 1], 1),
        ([HALF, HALF - 20_000, 20_000], 3),  # large data, and data that is small enough for the list
        ([HALF, HALF - 20_000, 20_001], 2),
        ([20_000, HALF, HALF], 2),
        ([20_000, 20_000, FEW - 20_000], 2),
        ([20_000, 20_000, FEW + 1], 1),  # one event over the bound is kept alone
        ([FEW + 1, 10], 1),
        ([FEW + 1, FEW + 1], 1),
        ([FEW - 40_000, 20_000, 20_000, 20_000, 20_000], 4),
        ([10, 10, 10, 10, 10, FEW - 40], 5),  # both bounds at once
    ],
)
@pytest.mark.parametrize("in_bulk", [False, True])
@pytest.mark.parametrize("span", ["", SPAN])
async def test_history_over_its_bytes_loses_the_oldest_and_never_the_newest(
    tight: Bench, sizes: list[int], kept: int, in_bulk: bool, span: str
) -> None:
    events = [msgspec.structs.replace(sized(size), span=span) for size in sizes]
    for delivery in [events] if in_bulk else [[one] for one in events]:
        assert await tight.take(*delivery) == [STORED] * len(delivery)
    assert await kept_of(tight, "u") == kept


@pytest.mark.fault("D5")
async def test_history_counts_shared_data_in_full_for_each_user(tight: Bench) -> None:
    await tight.take(sized(HALF, "a", "b"), sized(HALF, "b"))
    await tight.take(sized(10, "a", "b"))
    assert [await kept_of(tight, user) for user in ("a", "b")] == [2, 2]


@pytest.mark.fault("D5")
async def test_history_counts_the_ids_of_its_events(tight: Bench) -> None:
    await tight.take(event(key="i" * HALF), sized(HALF - 2))
    assert await kept_of(tight, "u") == 2
    await tight.take(event(key="i" * 10))
    assert await kept_of(tight, "u") == 2


@pytest.mark.fault("D5")
async def test_history_counts_no_bytes_of_events_that_are_expired(tight: Bench) -> None:
    await tight.take(sized(HALF), sized(HALF))
    tight.clock.now += TTL
    top = await tight.top("u")
    await tight.take(sized(HALF), sized(HALF))
    after = await tight.resume_all("u", str(top))
    assert (after.recovered, len(after.entries)) == (True, 2)


# The contract: following.


async def test_broker_append_for_a_followed_user_reaches_the_sink(bench: Bench) -> None:
    await bench.follow("u")
    await bench.append([*numbered(3), event("other")])
    await bench.received("u")
    assert [entry.data for entry in bench.sink.of("u")] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


async def test_broker_following_twice_delivers_once(bench: Bench) -> None:
    await bench.follow("u")
    await bench.take(*numbered(2))
    assert [entry.offset for entry in bench.sink.of("u")] == [1, 2]


@pytest.mark.parametrize("user", ["}", "{a}", "\n", "*", "ü😀", "x" * 256, "a b", "__proto__"])
async def test_broker_any_user_id_has_its_own_history(bench: Bench, user: str) -> None:
    await bench.take(event(user, data='{"n":1}'), event("u", data='{"n":2}'))
    assert [(entry.user, entry.data) for entry in bench.sink.of(user)] == [(user, b'{"n":1}')]
    assert (await bench.top(user)).offset == 1


async def test_broker_disconnect_reaches_followed_users(bench: Bench) -> None:
    await bench.follow("u")
    await bench.broker.disconnect("u")
    await until(lambda: bench.sink.disconnected)
    assert bench.sink.disconnected == ["u"]
