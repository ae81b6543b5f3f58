"""The queue and the broadcaster: bounded, in order, and an error does not affect other events."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.peer import BACKLOG, Peer, entry
from tests.support.running import until
from wsbridge.core.close_codes import LOST, SLOW_CONSUMER, Close
from wsbridge.core.events import Entry
from wsbridge.core.messages import update
from wsbridge.sessions.bus import PORTION, UNPAUSED, Bus, portions
from wsbridge.sessions.outbox import HIGH_WATER
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.slow_consumers import PATIENCE
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.traces.tracing import Delivered, PassedOn


class Bench:
    """A bus with a running broadcaster."""

    def __init__(self, size: int = 100, max_bytes: int = 1_000_000) -> None:
        self.registry = Registry()
        self._peers: list[Peer] = []
        self.metrics = Metrics()
        self.now = 10.0
        self.bus = Bus(self.registry, self.metrics, size=size, max_bytes=max_bytes, clock=lambda: self.now)

    def peer(self, user: str = "u") -> Peer:
        peer = Peer.live(user, metrics=self.metrics)
        self.registry.add(peer.session)
        self._peers.append(peer)  # the registry has weak references only
        return peer

    async def deliver(self, *entries: Entry) -> list[Any]:
        """Put each as a batch and wait until all are sent; return the log lines of that time."""
        with capture_logs() as lines:
            for one in entries:
                self.bus.put([one])
            await until(self.bus.is_empty)
        return [line for line in lines if line["log_level"] != "debug"]


class Crowd:
    """Users who all get one large event."""

    def __init__(self, bench: Bench, size: int, users: int) -> None:
        self.entries = [entry(1, user=f"u{n}", data=b'"%b"' % (b"x" * size)) for n in range(users)]
        self.made = self.written = self.most = 0  # frames, and how many of them were in memory at once
        for each in self.entries:
            connection = bench.peer(each.user).connection
            vars(connection).update(update=self._update, write=self._write)

    def _update(self, one: Entry) -> bytes:
        self.made += 1
        self.most = max(self.most, self.made - self.written)
        return update(one)

    def _write(self, _: bytes) -> None:
        self.written += 1


@contextlib.asynccontextmanager
async def running(size: int = 100) -> AsyncIterator[Bench]:
    bench = Bench(size)
    job = asyncio.create_task(bench.bus.broadcast())
    try:
        yield bench
        assert not job.done()
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_bus_gives_each_session_the_events_of_its_user_in_order() -> None:
    async with running() as bench:
        first, second, other = bench.peer("a"), bench.peer("a"), bench.peer("b")
        await bench.deliver(entry(1, user="a"), entry(1, user="b"), entry(2, user="a"), entry(1, user="nobody"))
    assert first.ids == second.ids == ["e:1", "e:2"]
    assert other.ids == ["e:1"]
    assert bench.metrics.deliveries == 5


class Recorded(PassedOn):
    def __init__(self) -> None:
        self.found: list[list[Delivered]] = []

    def delivered(self, entries: Sequence[Delivered]) -> None:
        self.found.append(list(entries))


async def test_bus_with_traces_reports_entries_with_a_span_that_have_sessions() -> None:
    spanned = [
        msgspec.structs.replace(entry(n, user=user), span="s") for n, user in ((1, "a"), (2, "a"), (1, "nobody"))
    ]
    traces = Recorded()
    async with running() as bench:
        bench.peer("a"), bench.peer("a")
        await bench.deliver(spanned[0], entry(1, user="b"))
        assert traces.found == []
        bench.bus.traces = traces
        await bench.deliver(spanned[1], spanned[2], entry(3, user="a"))
    assert traces.found == [[(spanned[1], 2, 0.0)]]


@pytest.mark.fault("E6")
async def test_bus_reports_the_age_of_an_event_when_it_is_written() -> None:
    late = msgspec.structs.replace(entry(1), received_at=10.0, produced=time.time() - 20)
    ahead = msgspec.structs.replace(entry(2), received_at=10.0, produced=time.time() + 3_600)
    async with running() as bench:
        bench.peer("u")
        await bench.deliver(late, ahead, entry(3))
        await bench.deliver(msgspec.structs.replace(late, user="nobody"))
    read = bench.metrics.registry.get_sample_value
    assert read("wsbridge_event_delivery_seconds_count") == 2
    assert read("wsbridge_event_delivery_seconds_sum") == pytest.approx(20, abs=10)


async def test_bus_passes_over_events_of_users_without_a_session() -> None:
    async with running() as bench:
        peer = bench.peer()
        for offset in (1, 2):
            bench.bus.put([entry(1, user="nobody"), entry(offset)])
            await until(bench.bus.is_empty)
    assert (peer.ids, bench.metrics.deliveries) == (["e:1", "e:2"], 2)


def test_bus_room_is_its_size_minus_its_entries() -> None:
    bench = Bench(size=3)
    assert (bench.bus.room(), bench.bus.is_empty(), bench.bus.depth) == (3, True, 0)
    bench.bus.put([entry(1), entry(2)])
    bench.bus.put([entry(3)])
    assert (bench.bus.room(), bench.bus.is_empty(), bench.bus.depth) == (0, False, 3)


def test_bus_with_entries_of_one_event_counts_their_data_once() -> None:
    bench, data = Bench(max_bytes=1_000), b"x" * 300
    shared = [Entry(user, "e", 1, "task_update", data, "", 0.0, "") for user in "abc"]
    bench.bus.put([*shared, Entry("a", "e", 2, "task_update", b"y" * 100, "", 0.0, "")])
    assert (bench.bus.depth, bench.bus.bytes, bench.bus.room_bytes()) == (4, 400, 600)
    assert bench.bus.fullness == 0.4


async def test_bus_after_delivery_gives_the_bytes_back() -> None:
    async with running() as bench:
        data = b"x" * 300
        bench.bus.put([Entry(user, "e", 1, "task_update", data, "", 0.0, "") for user in "ab"])
        bench.bus.put([Entry(user, "e", 2, "task_update", data, "", 0.0, "") for user in "ab"])
        assert bench.bus.bytes == 600
        await until(bench.bus.is_empty)
        assert bench.bus.bytes == 0


async def test_bus_most_is_that_of_this_minute_and_the_one_before() -> None:
    async with running() as bench:
        bus, found = bench.bus, list[int]()
        for at, entries in ((10, 0), (20, 3), (69.9, 0), (70, 0), (75, 1), (129.9, 0), (130, 0), (190, 0), (191, 0)):
            bench.now = at
            bus.put([entry(n) for n in range(entries)])
            await until(bus.is_empty)
            found.append(bus.most())
        assert found == [0, 3, 3, 3, 3, 3, 3, 1, 0]


def test_bus_is_connected_is_true_for_users_with_a_session() -> None:
    bench = Bench()
    peer = bench.peer("u")
    assert [bench.bus.is_connected(user) for user in (peer.session.user, "v")] == [True, False]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 2], [(0, 2, 3)]),
        ([PORTION], [(0, 1, PORTION)]),
        ([PORTION + 1, 1], [(0, 1, PORTION + 1), (1, 2, 1)]),
        ([1, PORTION - 1, 1], [(0, 2, PORTION), (2, 3, 1)]),
        ([1, PORTION, 1], [(0, 1, 1), (1, 2, PORTION), (2, 3, 1)]),
    ],
)
def test_portions_have_a_bound_in_bytes_or_one_entry(sizes: list[int], expected: list[tuple[int, int, int]]) -> None:
    assert list(portions([entry(n, data=bytes(size)) for n, size in enumerate(sizes)])) == expected


async def test_bus_room_grows_when_a_batch_is_sent() -> None:
    async with running(size=3) as bench:
        bench.peer()
        await bench.deliver(*map(entry, (1, 2, 3)))
        assert (bench.bus.room(), bench.bus.depth) == (3, 0)


async def test_bus_sends_all_queued_entries_in_one_write_for_each_session() -> None:
    async with running() as bench:
        peer = bench.peer()
        await bench.deliver(*map(entry, range(1, 50)))
    assert peer.ids == [f"e:{n}" for n in range(1, 50)]
    assert len(peer.connection.written) == 2  # `connected`, and one write for all others


async def test_bus_makes_a_frame_once_for_all_sessions_of_a_transport() -> None:
    async with running() as bench:
        peers = [bench.peer() for _ in range(5)]
        made: list[Entry] = []

        def counted(one: Entry) -> bytes:
            made.append(one)
            return update(one)

        for peer in peers:
            vars(peer.connection).update(update=counted)
        await bench.deliver(entry(1))
    assert made == [entry(1)]
    assert [peer.ids for peer in peers] == [["e:1"]] * 5


def broken(peer: Peer, method: str, **state: object) -> None:
    """Make a method of the connection, or the call of `mend`, fail for a session in that state."""

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    setattr(peer if method == "on_missed" else peer.connection, method, fail)
    for name, value in state.items():
        setattr(peer.session, name, value)


FAULTS: dict[str, Callable[[Peer], None]] = {
    "write": lambda peer: broken(peer, "write"),
    "mend": lambda peer: broken(peer, "on_missed", epoch="old"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_bus_session_that_fails_does_not_affect_others(fault: Callable[[Peer], None], place: int) -> None:
    async with running() as bench:
        peers = [bench.peer() for _ in range(3)]
        stranger = bench.peer("other")
        bad = peers.pop(place)
        fault(bad)
        lines = await bench.deliver(entry(1), entry(1, user="other"))
        await bench.deliver(entry(2))
    assert [peer.ids for peer in peers] == [["e:1", "e:2"]] * 2
    assert stranger.ids == ["e:1"]
    assert bad.session.state is State.CLOSED
    (line,) = lines
    assert (line["event"], line["log_level"], str(line["exc_info"])) == ("internal.error", "error", "a bug")
    assert (line["doing"], line["what"]) == ("deliver", bad.session.id)
    assert bench.metrics.errors["internal"] == 1
    assert bad.session.close == Close(LOST.code, "internal")


async def test_bus_event_that_fails_does_not_affect_the_next() -> None:
    async with running() as bench:
        peer, other = bench.peer(), bench.peer("broken")
        broken(other, "update")
        lines = await bench.deliver(entry(1), entry(1, user="broken"), entry(2))
        assert bench.bus.room() == 100
    assert peer.ids == ["e:1", "e:2"]
    assert [(line["event"], line["doing"], line["what"], str(line["exc_info"])) for line in lines] == [
        ("internal.error", "frame", "id-1", "a bug")
    ]
    assert bench.metrics.errors["internal"] == 1


async def test_broadcaster_after_a_batch_keeps_none_of_its_data() -> None:
    data = b'"%d"' % time.monotonic_ns()
    held = sys.getrefcount(data)
    async with running() as bench:
        await bench.deliver(entry(1, user="nobody", data=data))
        assert sys.getrefcount(data) == held


async def test_broadcaster_after_any_error_continues_and_frees_the_room() -> None:
    async with running() as bench:
        peer = bench.peer()
        vars(bench.metrics).update(delivered=None)  # a bug at an unexpected place
        lines = await bench.deliver(entry(1))
        lines += await bench.deliver(entry(2))
        assert bench.bus.room() == 100
    assert peer.ids == ["e:1", "e:2"]
    assert [(line["event"], line["doing"], line["what"]) for line in lines] == [("internal.error", "broadcast", "")] * 2
    assert {type(line["exc_info"]) for line in lines} == {TypeError}


async def test_bus_with_a_large_event_for_many_users_keeps_few_frames_of_it() -> None:
    """Memory that is reused at once is in the cache and causes no page faults."""
    async with running() as bench:
        crowd = Crowd(bench, PORTION // 4 - 2, users=100)
        bench.bus.put(crowd.entries)
        await until(bench.bus.is_empty)
        assert (crowd.written, crowd.most) == (100, 4)


async def test_bus_with_much_to_deliver_lets_others_run_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    real, pauses = asyncio.sleep, list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr("wsbridge.sessions.bus.asyncio.sleep", sleep)
    async with running() as bench:
        crowd = Crowd(bench, PORTION // 2 - 2, users=300)
        bench.bus.put(crowd.entries)
        turns = list[int]()
        while not bench.bus.is_empty():
            before = crowd.written
            await real(0)
            turns.append(crowd.written - before)
        at_once = 2 * UNPAUSED // PORTION
        assert [count for count in turns if count] == [at_once, at_once, 300 - 2 * at_once]
        assert pauses == [0, 0]


async def test_bus_slow_consumer_is_closed_and_others_are_not_affected() -> None:
    async with running() as bench:
        slow, quick = bench.peer(), bench.peer()
        slow.connection.buffered = BACKLOG + HIGH_WATER
        assert await bench.deliver(entry(1)) == []
        slow.now = PATIENCE
        slow.slow_consumers.look()
        await bench.deliver(entry(2))
    assert slow.connection.ended == [SLOW_CONSUMER]
    assert quick.ids == ["e:1", "e:2"]


async def test_bus_entries_for_a_replaying_session_are_held() -> None:
    async with running() as bench:
        peer = Peer(metrics=bench.metrics)
        bench.registry.add(peer.session)
        await bench.deliver(entry(1))
        assert peer.connection.written == []
        assert bench.metrics.deliveries == 0


async def test_bus_measures_the_history_until_the_queue_and_the_socket_from_there() -> None:
    async with running() as bench:
        bench.peer()
        for bench.now, received in ((10.5, 10.0), (10.6, 10.2)):
            bench.bus.put([Entry("u", "e", 1, "task_update", b"{}", "", received, "")])
        bench.now = 12.0
        await until(bench.bus.is_empty)
        bench.bus.put(
            [Entry("u", "e", n, "task_update", b"{}", "", received, "") for n, received in ((3, 11.0), (4, 12.0))]
        )
        await until(bench.bus.is_empty)
    read = bench.metrics.registry.get_sample_value
    assert read("wsbridge_event_stage_seconds_sum", {"stage": "history"}) == pytest.approx(0.5 + 0.4 + 1)
    assert read("wsbridge_event_stage_seconds_sum", {"stage": "socket"}) == pytest.approx(1.5 + 1.4)


async def test_bus_stages_are_counted_for_each_event() -> None:
    async with running() as bench:
        bench.peer()
        bench.bus.put([entry(1), entry(2), entry(3)])
        await until(bench.bus.is_empty)
    assert bench.metrics.registry.get_sample_value("wsbridge_event_stage_seconds_count", {"stage": "socket"}) == 3


@pytest.mark.parametrize("debug", [False, True])
async def test_bus_delivery_is_logged_at_debug_only(debug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.sessions.bus.debugging", lambda: debug)
    async with running() as bench:
        bench.peer()
        with capture_logs() as lines:
            bench.bus.put([entry(1)])
            await until(bench.bus.is_empty)
    assert [line["event"] for line in lines] == ["event.delivered"] * debug


async def test_bus_delivery_at_debug_is_found_by_its_event_id() -> None:
    async with running() as bench:
        peer = bench.peer()
        with capture_logs() as lines:
            bench.bus.put([entry(1)])
            await until(bench.bus.is_empty)
    (line,) = [line for line in lines if line["event"] == "event.delivered"]
    assert (line["event_id"], line["user"], line["position"], line["sessions"]) == (
        "id-1", "u", "e:1", [peer.session.id],
    )  # fmt: skip


def test_bus_disconnect_ends_all_sessions_of_that_user_only() -> None:
    bench = Bench()
    one, two, other = bench.peer(), bench.peer(), bench.peer("somebody else")
    bench.bus.disconnect("u")
    assert [peer.session.state for peer in (one, two, other)] == [State.CLOSED, State.CLOSED, State.LIVE]
