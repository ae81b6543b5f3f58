"""Sessions that missed a live entry get it from the history, each at the pace of its peer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from tests.support.bugs import Bug, Buggy
from tests.support.peer import Peer, resume
from tests.support.running import until
from wsbridge.broker.base import BrokerUnavailable, Outcome, always
from wsbridge.core.close_codes import INTERNAL, LOST, SHUTDOWN
from wsbridge.core.events import Event, Position
from wsbridge.core.recovery import Gap, Resume
from wsbridge.sessions.catch_up import CatchUp
from wsbridge.sessions.state import State
from wsbridge.supervision.jobs import Starter
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.records import SESSIONS, Resumed
from wsbridge.telemetry.stations.ring import Stations


class Histories:
    """Histories that give the test's answers or exceptions when the test allows it."""

    def __init__(self, *answers: Resume | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        self.asked.append((user, after))
        await self.open.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def append(self, events: Sequence[Event], is_wanted: Callable[[], bool] = always) -> list[Outcome]:
        raise AssertionError

    async def follow(self, user: str) -> None:
        raise AssertionError

    async def position(self, user: str) -> Position | None:
        raise AssertionError

    async def find(self, user: str, event_id: str) -> Position | None:
        raise AssertionError

    async def disconnect(self, user: str) -> None:
        raise AssertionError


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.sessions.catch_up.AGAIN", 0)


@contextlib.asynccontextmanager
async def mending(histories: Histories, *peers: Peer) -> AsyncIterator[Metrics]:
    """Peers that have missed an entry, and a catch-up that handles them."""
    metrics = Metrics()
    async with running(histories, metrics) as catch_up:
        for peer in peers:
            peer.session.fall_behind()
            assert peer.behind == [peer.session]
            catch_up.request(peer.session)
        yield metrics


@contextlib.asynccontextmanager
async def running(histories: Histories, metrics: Metrics | None = None) -> AsyncIterator[CatchUp]:
    jobs = Starter()
    job = asyncio.create_task(jobs.run())
    try:
        yield CatchUp(histories, jobs, metrics or Metrics(), Stations(0))
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert job.cancelled()


async def test_catch_up_sends_missed_entries_then_those_of_meanwhile() -> None:
    peer = Peer.live()
    peer.offer(1)
    histories = Histories(resume(1, top=3))
    with capture_logs() as lines:
        async with mending(histories, peer) as metrics:
            peer.offer(3, 4)
            await until(lambda: peer.session.state is State.LIVE)
    assert histories.asked == [("u", "e:1")]
    assert peer.ids == ["e:1", "e:2", "e:3", "e:4"]
    assert metrics.catch_ups == 1
    assert lines == [
        {
            "event": "session.mended", "log_level": "info", "session": peer.session.id, "user": "u",
            "position": "e:1", "replayed": 2, "gap": None,
        }
    ]  # fmt: skip


async def test_catch_up_is_recorded_as_a_station() -> None:
    peer, jobs, stations = Peer.live(), Starter(), Stations(10_000)
    job = asyncio.create_task(jobs.run())
    peer.session.fall_behind()
    histories = Histories(resume(0, top=2))
    CatchUp(histories, jobs, Metrics(), stations).request(peer.session)
    await until(lambda: stations.bytes)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    (record,) = [record async for record in stations.search("u", SESSIONS)]
    assert isinstance(record, Resumed)
    assert (record.session, record.is_start, record.asked, record.replayed) == (peer.session.id, False, "e:0", 2)


async def test_catch_up_gap_is_sent_to_the_client() -> None:
    peer = Peer.live()
    with capture_logs() as lines:
        async with mending(Histories(Resume(Position("f", 7), (), False, Gap(Position("e", 0), "reset"))), peer):
            await until(lambda: peer.session.state is State.LIVE)
    assert peer.connection.messages[-1] == {"type": "gap", "after": "e:0", "last_event_id": "f:7", "reason": "reset"}
    assert peer.session.position == Position("f", 7)
    assert peer.metrics.gaps["reset"] == 1
    assert [(line["log_level"], line["position"], line["gap"]) for line in lines] == [("info", "f:7", "reset")]


async def test_catch_up_of_a_complete_session_is_not_logged() -> None:
    peer = Peer.live()
    with capture_logs() as lines:
        async with mending(Histories(resume(0)), peer):
            await until(lambda: peer.session.state is State.LIVE)
    assert [message["type"] for message in peer.connection.messages] == ["connected"]
    assert [line["log_level"] for line in lines] == ["debug"]


async def test_catch_up_with_an_unavailable_history_waits() -> None:
    peer = Peer.live()
    histories = Histories(
        BrokerUnavailable("gone"), BrokerUnavailable("gone"), BrokerUnavailable("gone"), resume(0, top=1)
    )
    with capture_logs() as lines:
        async with mending(histories, peer) as metrics:
            await until(lambda: peer.session.state is State.LIVE)
    assert histories.asked == [("u", "e:0")] * 4
    assert peer.ids == ["e:1"]
    assert (metrics.catch_ups, +metrics.errors) == (1, {})
    assert [line["event"] for line in lines] == ["session.mended"]


async def test_catch_up_ends_when_its_session_leaves() -> None:
    peer, histories = Peer.live(), Histories(BrokerUnavailable("gone"))
    async with mending(histories, peer) as metrics:
        await until(lambda: len(histories.asked) > 2)
        peer.session.end(SHUTDOWN)
        before = len(histories.asked)
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(histories.asked) - before <= 1  # one read may have begun before
    assert metrics.catch_ups == 0
    assert peer.connection.ended == [SHUTDOWN]


async def test_catch_up_session_that_leaves_during_the_read_gets_nothing() -> None:
    peer, histories = Peer.live(), Histories(resume(0, top=2))
    histories.open.clear()
    async with mending(histories, peer):
        await until(lambda: histories.asked)
        peer.session.drop(LOST.reason)
        histories.open.set()
        await asyncio.sleep(0)
    assert peer.ids == []
    assert (peer.session.state, peer.connection.aborted, peer.connection.ended) == (State.CLOSED, 1, [])


def test_catch_up_names_its_jobs() -> None:
    jobs = Starter()
    CatchUp(Histories(), jobs, Metrics(), Stations(0)).request(Peer().session)
    name, _ = jobs._wanted.get_nowait()
    assert name == "catch_up"


async def test_catch_up_of_a_slow_peer_does_not_delay_others() -> None:
    slow, quick = Peer.live(), Peer.live("other")
    slow.connection.draining = asyncio.Event().wait
    async with mending(Histories(resume(0, top=1)), slow, quick) as metrics:
        await until(lambda: quick.session.state is State.LIVE)
        assert slow.session.state is State.REPLAYING
    assert (quick.ids, metrics.catch_ups) == (["e:1"], 2)


async def test_catch_up_with_another_gap_runs_again() -> None:
    """The entries that arrived during the replay do not begin where it ended."""
    peer, histories = Peer.live(), Histories(resume(0, top=1), resume(1, top=3))
    histories.open.clear()
    async with running(histories) as catch_up:
        peer.on_missed = catch_up.request
        peer.session.fall_behind()
        await until(lambda: histories.asked)
        peer.offer(3)
        histories.open.set()
        await until(lambda: peer.session.state is State.LIVE and len(peer.ids) == 3)
    assert histories.asked == [("u", "e:0"), ("u", "e:1")]
    assert peer.ids == ["e:1", "e:2", "e:3"]


@pytest.mark.parametrize("in_session", [False, True])
async def test_catch_up_error_ends_its_session_only(in_session: bool) -> None:
    peer, other, histories = Peer.live(), Peer.live("other"), Histories(resume(0, top=1))
    if in_session:
        vars(peer.connection).update(wake=Buggy(peer.connection.wake))
    else:
        histories.answers.insert(0, RuntimeError("a bug"))
    with capture_logs() as lines:
        async with mending(histories, peer, other):
            await until(lambda: peer.connection.ended and other.session.state is State.LIVE)
    assert peer.connection.ended == [INTERNAL]
    assert (INTERNAL.code, other.ids) == (1011, ["e:1"])
    assert +peer.metrics.errors == {"internal": 1}
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["doing"], line["session"]) == ("internal.error", "catch_up", peer.session.id)
    assert isinstance(line["exc_info"], Bug if in_session else RuntimeError)


async def test_catch_up_close_ends_all_catch_ups() -> None:
    peer, slow, histories = Peer.live(), Peer.live("slow"), Histories(BrokerUnavailable("gone"))
    metrics = Metrics()
    with capture_logs() as lines:
        async with running(histories, metrics) as catch_up:
            for each in (peer, slow):
                each.session.fall_behind()
                catch_up.request(each.session)
            await until(lambda: len(histories.asked) > 4)
    before = len(histories.asked)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(histories.asked) == before
    assert {each.session.state for each in (peer, slow)} == {State.REPLAYING}
    assert (lines, +metrics.errors) == ([], {})


async def test_catch_up_with_a_cancelled_read_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, histories = Peer.live(), Histories(resume(0))

    async def closed(*_: object) -> Resume:
        raise asyncio.CancelledError

    monkeypatch.setattr(histories, "resume", closed)
    async with mending(histories, peer):
        await until(lambda: peer.session.state is State.CLOSED)
    assert peer.connection.ended == [INTERNAL]


async def test_catch_up_of_a_session_that_is_live_again_does_nothing() -> None:
    peer, histories = Peer.live(), Histories(resume(0, top=1))
    async with running(histories) as catch_up:
        catch_up.request(peer.session)
        for _ in range(10):
            await asyncio.sleep(0)
    assert histories.asked == []
