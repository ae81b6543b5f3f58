"""Sessions that are behind the history are found and caught up, whatever messages were lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.examples import tries
from tests.support.peer import Peer, resume
from tests.support.running import until
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.core.close_codes import SHUTDOWN
from wsbridge.core.events import Position
from wsbridge.sessions.reconciler import AGAIN, INTERVAL, SLICE, Reconciler
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.state import State
from wsbridge.telemetry.metrics import Metrics

NOBODY = frozenset[str]()


class Histories:
    """Histories with the positions that the test sets. A doubt lasts until the test sets the next one."""

    def __init__(self, **positions: Position | None) -> None:
        self.positions = positions
        self.asked: list[list[tuple[str, Position]]] = []
        self.patience: list[float] = []
        self.swept = 0
        self.doubts = asyncio.Queue[frozenset[str]]()
        self.fails: Exception | None = None
        self.sweep_fails: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None  # called while the positions are read

    async def wait_for_doubt(self, patience: float) -> frozenset[str]:
        self.patience.append(patience)
        return await self.doubts.get()

    async def verify(self, known: Collection[tuple[str, Position]]) -> dict[str, Position | None]:
        self.asked.append(list(known))
        await asyncio.sleep(0)
        self.meanwhile()
        if self.fails:
            raise self.fails
        return {user: self.positions[user] for user, _ in known}

    async def sweep(self) -> None:
        self.swept += 1
        if self.sweep_fails:
            raise self.sweep_fails

    def doubt(self, *missed: str) -> None:
        self.doubts.put_nowait(frozenset(missed))


class Bench:
    """A reconciler for peers that are live at e:0 at first."""

    def __init__(self, *peers: Peer, **positions: Position | None) -> None:
        self.registry, self.metrics = Registry(), Metrics()
        self.histories = Histories(**positions)
        self.reconciler = Reconciler(self.histories, self.registry, self.metrics)
        self.peers = peers  # the registry has weak references only
        for peer in peers:
            self.registry.add(peer.session)

    async def look(self, *missed: str, **positions: Position | None) -> None:
        self.histories.positions |= positions
        await self.reconciler.look(frozenset(missed))

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reconciler.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def reached(offset: int, user: str = "u") -> Peer:
    """A live peer that has all entries up to this offset."""
    peer = Peer.live(user)
    peer.offer(*range(1, offset + 1))
    return peer


# One look.


async def test_reconciler_leaves_complete_sessions_alone() -> None:
    peer = reached(2)
    bench = Bench(peer)
    for _ in range(3):
        await bench.look("u", u=at(2))
    assert (peer.behind, peer.session.state) == ([], State.LIVE)


async def test_reconciler_lets_other_tasks_run_during_a_look_at_many_users() -> None:
    users = [f"u{number}" for number in range(2 * SLICE)]
    bench = Bench(*(reached(0, user) for user in users), **dict.fromkeys(users, at(0)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await bench.look()
    task.cancel()
    assert turns >= 5  # two before the histories are read, one meanwhile, two after


async def test_reconciler_catches_up_only_sessions_that_were_due_at_the_last_look() -> None:
    """An entry that was appended a moment ago is still in flight."""
    peer = reached(1)
    bench = Bench(peer)
    await bench.look(u=at(2))
    assert peer.behind == []
    await bench.look(u=at(3))
    assert peer.behind == [peer.session]
    assert peer.session.state is State.REPLAYING


async def test_reconciler_entry_in_flight_at_the_last_look_is_not_missed() -> None:
    peer = reached(1)
    bench = Bench(peer)
    await bench.look(u=at(2))
    peer.offer(2)
    await bench.look(u=at(3))
    peer.offer(3)
    await bench.look(u=at(3))
    assert peer.behind == []


async def test_reconciler_catches_up_users_with_missed_entries_at_once() -> None:
    peer, other, whole = reached(1), reached(1, "other"), reached(2, "whole")
    bench = Bench(peer, other, whole)
    await bench.look("u", "whole", "a stranger", u=at(2), other=at(2), whole=at(2))
    assert [each.behind for each in (peer, other, whole)] == [[peer.session], [], []]


@pytest.mark.parametrize("found", [None, at(0, "f"), at(1, "f"), at(9, "f")])
@pytest.mark.parametrize("missed", [False, True])
async def test_reconciler_catches_up_sessions_of_a_lost_or_new_history_at_once(
    found: Position | None, missed: bool
) -> None:
    peer = reached(1)
    bench = Bench(peer)
    await bench.look(u=at(1))
    await bench.look(*(["u"] * missed), u=found)
    assert peer.behind == [peer.session]


async def test_reconciler_due_position_of_a_lost_history_is_dropped() -> None:
    peer = reached(5)
    bench = Bench(peer)
    await bench.look(u=at(7))
    peer.session.epoch, peer.session.offset = "f", 1  # it got a gap meanwhile
    await bench.look(u=at(1, "f"))
    assert peer.behind == []


async def test_reconciler_catches_up_only_sessions_that_are_behind() -> None:
    first, second = reached(1), reached(3)
    bench = Bench(first, second)
    await bench.look("u", u=at(3))
    assert (first.behind, second.behind) == ([first.session], [])


async def test_reconciler_asks_for_the_furthest_session_in_each_epoch() -> None:
    peers = [reached(2), reached(4), reached(3), reached(1, "other")]
    gone, replaying = reached(9), reached(5)
    gone.session.end(SHUTDOWN)
    replaying.session.fall_behind()
    moved = [reached(number) for number in (6, 8, 7)]
    for peer in moved:
        peer.session.epoch = "new"
    bench = Bench(*peers, gone, replaying, *moved)
    await bench.look(u=at(5), other=at(1))
    assert sorted(bench.histories.asked[0], key=str) == [("other", at(1)), ("u", at(5)), ("u", at(8, "new"))]


async def test_reconciler_lets_sessions_that_are_not_live_alone() -> None:
    """One is catching up, one joining, one closed. The first may be in a lost epoch, so its position is asked for."""
    replaying, new, gone = reached(1), Peer("new"), reached(1, "gone")
    replaying.session.fall_behind()
    gone.session.end(SHUTDOWN)
    bench = Bench(replaying, new, gone)
    await bench.look("u", "new", "gone", u=None, new=None, gone=None)
    assert bench.histories.asked == [[("u", at(1))]]
    assert [len(peer.behind) for peer in (replaying, new, gone)] == [1, 0, 0]
    assert [peer.session.state for peer in (new, gone)] == [State.JOINING, State.CLOSED]


@pytest.mark.parametrize("change", ["ends", "leaves", "falls behind", "gets it", "another comes"])
async def test_reconciler_respects_changes_during_its_reads(change: str) -> None:
    peer = reached(1)
    bench = Bench(peer)
    fresh = Peer()

    def come() -> None:
        peer.offer(2)
        bench.registry.add(fresh.session)

    bench.histories.meanwhile = {
        "ends": lambda: peer.session.end(SHUTDOWN),
        "leaves": lambda: bench.registry.remove(peer.session),
        "falls behind": peer.session.fall_behind,
        "gets it": lambda: peer.offer(2),
        "another comes": come,
    }[change]
    await bench.look("u", u=at(2))
    assert len(peer.behind) == (change == "falls behind")
    assert fresh.behind == []


async def test_reconciler_with_unavailable_histories_changes_nothing() -> None:
    peer = reached(1)
    bench = Bench(peer, u=at(2))
    await bench.look()
    bench.histories.fails = BrokerUnavailable("gone")
    with pytest.raises(BrokerUnavailable):
        await bench.look("u")
    assert peer.behind == []
    bench.histories.fails = None
    await bench.look()  # sessions that were due before are still due
    assert peer.behind == [peer.session]


@given(
    offsets=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=6),
    tops=st.lists(st.fixed_dictionaries({"a": st.integers(5, 9), "b": st.integers(5, 9)}), min_size=2, max_size=2),
    missed=st.sets(st.sampled_from("ab")),
)
@tries(60)
def test_reconciler_catches_up_any_session_that_is_behind_for_two_looks(
    offsets: list[tuple[str, int]], tops: list[dict[str, int]], missed: set[str]
) -> None:
    peers = [reached(offset, user) for user, offset in offsets]
    bench = Bench(*peers)

    async def looks() -> None:
        await bench.look(*missed, **{user: at(top) for user, top in tops[0].items()})
        for peer, (user, offset) in zip(peers, offsets, strict=True):
            assert bool(peer.behind) == (user in missed and offset < tops[0][user])
        await bench.look(**{user: at(max(top, tops[0][user])) for user, top in tops[1].items()})

    asyncio.run(looks())
    for peer, (user, offset) in zip(peers, offsets, strict=True):
        assert bool(peer.behind) == (offset < tops[0][user])


# The endless loop.


async def test_reconciler_looks_at_each_doubt_and_sweeps_afterwards() -> None:
    peer = reached(1)
    bench = Bench(peer, u=at(2))
    async with bench.watching():
        assert bench.histories.asked == []
        for count in (1, 2):
            bench.histories.doubt()
            await until(lambda: bench.histories.swept == count)  # noqa: B023 - it is awaited here
            assert len(bench.histories.asked) == count
    assert peer.behind == [peer.session]
    assert bench.histories.patience == [AGAIN, INTERVAL, INTERVAL]


async def test_reconciler_keeps_suspects_until_the_histories_are_available() -> None:
    peer, other = reached(1), reached(1, "other")
    bench = Bench(peer, other, u=at(2), other=at(2))
    bench.histories.fails = BrokerUnavailable("gone")
    async with bench.watching():
        bench.histories.doubt("u")
        bench.histories.doubt()
        await until(lambda: len(bench.histories.patience) == 3)
        assert (peer.behind, bench.histories.swept) == ([], 0)
        bench.histories.fails = None
        bench.histories.doubt("other")
        await until(lambda: bench.histories.swept)
    assert (peer.behind, other.behind) == ([peer.session], [other.session])
    assert bench.histories.patience == [AGAIN, AGAIN, AGAIN, INTERVAL]


async def test_reconciler_looks_at_other_sessions_next_time() -> None:
    peer = reached(1)
    bench = Bench(peer, u=at(1))
    async with bench.watching():
        bench.histories.doubt("u")
        await until(lambda: bench.histories.swept)
        bench.histories.positions["u"] = at(2)
        bench.histories.doubt()
        await until(lambda: bench.histories.swept == 2)
    assert peer.behind == []


@pytest.mark.parametrize("where", ["fails", "sweep_fails"])
async def test_reconciler_after_an_error_logs_it_and_continues(where: str) -> None:
    peer, other = reached(1), reached(1, "other")
    bench = Bench(peer, other, u=at(2), other=at(1))
    setattr(bench.histories, where, RuntimeError("a bug"))
    async with bench.watching():
        with capture_logs() as lines:
            bench.histories.doubt("u")
            await until(lambda: len(bench.histories.patience) == 2)
        setattr(bench.histories, where, None)
        bench.histories.positions["other"] = at(2)
        bench.histories.doubt("other")
        await until(lambda: len(bench.histories.patience) == 3)
    assert [(line["event"], line["doing"]) for line in lines] == [("internal.error", "reconcile")]
    assert +bench.metrics.errors == {"internal": 1}
    assert (peer.behind, other.behind) == ([peer.session], [other.session])
    assert bench.histories.patience == [AGAIN, INTERVAL, INTERVAL]


async def test_reconciler_repeats_an_interrupted_sweep() -> None:
    bench = Bench()
    bench.histories.sweep_fails = BrokerUnavailable("gone")
    async with bench.watching():
        with capture_logs() as lines:
            bench.histories.doubt()
            bench.histories.doubt()
            await until(lambda: bench.histories.swept == 2)
    assert bench.histories.patience[:2] == [AGAIN, AGAIN]
    assert lines == []


async def test_reconciler_watches_a_session_again_after_its_catch_up() -> None:
    peer = reached(1)
    bench = Bench(peer)
    for top in (3, 5):
        await bench.look("u", u=at(top))
        await peer.catch_up(resume(peer.session.offset, top=top))
        await bench.look(u=at(top))
    assert len(peer.behind) == 2
    assert peer.ids[-1] == "e:5"
