"""Slow peers: which sessions are closed, and in which order when memory is short."""

import pytest
from structlog.testing import capture_logs

from wsbridge.core.close_codes import SLOW_CONSUMER, Close
from wsbridge.sessions.slow_consumers import HEALTHY, LATE, LOOK, PATIENCE, REPLAY_PATIENCE, SHARE, SlowConsumers
from wsbridge.telemetry.metrics import Metrics

BOUND, TOTAL = 16_000, 100_000


class Slow:
    """A session for which `waits` bytes wait; its peer reads `pace` bytes a second."""

    def __init__(self, bench: "Bench", waits: int, pace: float = 0.0, *, replaying: bool = False) -> None:
        self.id = self.user = "x"
        self.waits = float(waits)
        self.pace = pace
        self.is_replaying = replaying
        self.heard = 0.0
        self.closed: Close | None = None
        self._taken = 0.0
        self._bench = bench
        self.data = bytes(bytearray(waits))
        bench.slow_consumers.ledger.hold(self.data)
        bench.slow_consumers.add(self)
        bench.sessions.append(self)

    def unsent(self) -> int:
        return int(self.waits)

    def buffered(self) -> int:
        return 0

    def taken(self) -> int:
        return int(self._taken)

    def alive(self, now: float) -> None:
        self.heard = now

    def end(self, close: Close) -> None:
        self.closed = close
        self._bench.slow_consumers.ledger.release(self.data)
        self._bench.slow_consumers.discard(self)

    def go_on(self, seconds: float) -> None:
        size = min(self.pace * seconds, self.waits)
        self.waits -= size
        self._taken += size


class Enough(BaseException):
    """Ends an endless job."""


class Bench:
    def __init__(self, *, max_session: int = BOUND, max_total: int = 10**9) -> None:
        self.now = 100.0
        self.metrics = Metrics()
        self.slow_consumers = SlowConsumers(
            self.metrics, max_session=max_session, max_total=max_total, clock=lambda: self.now
        )
        self.sessions: list[Slow] = []

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK)):
            self.now += LOOK
            for session in self.sessions:
                session.go_on(LOOK)
            self.slow_consumers.look()

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.slow_consumers.look()


@pytest.mark.fault("D4")
@pytest.mark.parametrize(
    ("waits", "pace", "slow"),
    [
        (BOUND, 0, False),
        (BOUND + 1, 0, True),
        (100 * BOUND, 2 * BOUND / SHARE, False),
        (100 * BOUND, BOUND / SHARE / 2, True),
    ],
    ids=["at the bound", "stalled", "at a good pace", "at a poor pace"],
)
def test_backlog_over_the_bound_ends_slow_peers(waits: int, pace: float, slow: bool) -> None:
    bench = Bench()
    session = Slow(bench, waits, pace)
    bench.wait(PATIENCE - LOOK)
    assert session.closed is None
    bench.wait(2 * PATIENCE)
    assert (session.closed == SLOW_CONSUMER) is slow


def test_backlog_over_the_bound_ends_who_took_much_and_takes_nothing_now() -> None:
    bench = Bench()
    session = Slow(bench, 10 * BOUND, pace=4 * BOUND)
    bench.wait(LOOK)
    session.pace = 0
    bench.wait(PATIENCE)
    assert session.closed == SLOW_CONSUMER


@pytest.mark.parametrize("bound", [1, SHARE + 1])
def test_backlog_over_a_small_bound_spares_who_takes_the_least_share(bound: int) -> None:
    bench = Bench(max_session=bound)
    session = Slow(bench, 1_000, pace=1 / PATIENCE)
    bench.wait(3 * PATIENCE)
    assert session.closed is None


def test_backlog_look_that_is_as_late_as_it_may_be_counts() -> None:
    bench = Bench()
    session = Slow(bench, BOUND + 1)
    bench.pause(LOOK + LATE)
    assert session.closed == SLOW_CONSUMER


def test_backlog_of_a_replay_ends_peers_stalled_for_half_a_minute() -> None:
    bench = Bench()
    session = Slow(bench, 1, replaying=True)
    bench.wait(REPLAY_PATIENCE - LOOK)
    assert session.closed is None
    bench.wait(LOOK)
    assert session.closed == SLOW_CONSUMER


@pytest.mark.fault("D9")
def test_backlog_after_a_pause_of_this_process_gives_everyone_fresh_time() -> None:
    bench = Bench(max_total=TOTAL)
    stalled = Slow(bench, BOUND + 1)
    bench.wait(LOOK)
    Slow(bench, TOTAL)
    bench.pause(40)
    assert stalled.closed is None
    bench.wait(PATIENCE)
    assert stalled.closed == SLOW_CONSUMER


@pytest.mark.fault("C5")
def test_backlog_look_that_is_late_shows_the_lag_of_the_event_loop() -> None:
    bench = Bench()
    for seconds in (LOOK, LOOK + 0.3, LOOK / 2):
        bench.now += seconds
        bench.slow_consumers.look()
    read = bench.metrics.registry.get_sample_value
    assert read("wsbridge_event_loop_lag_seconds_count") == 3
    assert read("wsbridge_event_loop_lag_seconds_sum") == pytest.approx(0.3)


def test_backlog_over_the_total_ends_the_worst_first_and_no_more_than_needed() -> None:
    bench = Bench(max_session=10**9, max_total=TOTAL)
    worst, bad = Slow(bench, 60_000), Slow(bench, 30_000)
    slow, healthy = Slow(bench, 45_000, pace=1_000), Slow(bench, 45_000, pace=45_000)
    bench.wait(LOOK)
    assert [each.closed for each in (worst, bad, slow, healthy)] == [SLOW_CONSUMER, SLOW_CONSUMER, None, None]


@pytest.mark.fault("C5")
def test_backlog_over_the_total_that_is_just_enough_afterwards_ends_no_other() -> None:
    bench = Bench(max_session=10**9, max_total=TOTAL)
    worst, bad = Slow(bench, TOTAL + 1), Slow(bench, TOTAL)
    bench.wait(LOOK)
    assert (worst.closed, bad.closed) == (SLOW_CONSUMER, None)


@pytest.mark.fault("C5")
def test_backlog_over_the_total_ends_who_took_much_and_takes_nothing_now() -> None:
    bench = Bench(max_session=10**9, max_total=10**9)
    took, takes = Slow(bench, TOTAL, pace=TOTAL), Slow(bench, TOTAL, pace=TOTAL / 100)
    bench.wait(LOOK)
    took.pace, bench.slow_consumers._max_total = 0, TOTAL
    bench.wait(LOOK)
    assert (took.closed, takes.closed) == (SLOW_CONSUMER, None)


@pytest.mark.fault("C5")
def test_backlog_over_the_total_ends_who_takes_nothing_before_who_takes_a_byte_a_second() -> None:
    bench = Bench(max_session=10**9, max_total=TOTAL)
    takes, stalls = Slow(bench, TOTAL, pace=1), Slow(bench, TOTAL // 2)
    for session in bench.sessions:
        session.go_on(1)
    bench.pause(1)
    assert (takes.closed, stalls.closed) == (None, SLOW_CONSUMER)
    assert takes.heard == bench.now


@pytest.mark.fault("C5")
def test_backlog_over_the_total_spares_who_has_all_within_the_healthy_time() -> None:
    bench = Bench(max_session=10**9, max_total=1)
    healthy = Slow(bench, 1_000 * round(HEALTHY) + 250, pace=1_000)
    bench.wait(LOOK)
    assert (healthy.unsent() / healthy.pace, healthy.closed) == (HEALTHY, None)


@pytest.mark.fault("C5")
def test_backlog_over_the_total_keeps_fast_peers() -> None:
    bench = Bench(max_session=10**9, max_total=1)
    healthy = Slow(bench, 10**6, pace=500_000)
    bench.wait(1)
    assert healthy.closed is None


def test_backlog_of_a_peer_that_reads_shows_that_it_lives() -> None:
    bench = Bench()
    takes, stalls = Slow(bench, 1_000, pace=100), Slow(bench, 1_000)
    bench.wait(1)
    assert (takes.heard, stalls.heard) == (bench.now, 0.0)
    bench.now += 0.1
    bench.slow_consumers.discard(stalls)
    assert stalls.heard == bench.now  # it has read everything


async def test_backlog_continues_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, looks, pauses = Bench(), list[int](), list[float]()

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise Enough
        raise RuntimeError("a bug")

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("wsbridge.sessions.slow_consumers.asyncio.sleep", at_once)
    monkeypatch.setattr(bench.slow_consumers, "look", look)
    with capture_logs() as lines, pytest.raises(Enough):
        await bench.slow_consumers.run()
    assert pauses == [LOOK, LOOK]
    (line,) = lines
    assert (line["event"], line["doing"], str(line["exc_info"])) == ("internal.error", "slow_consumers", "a bug")
