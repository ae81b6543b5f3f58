"""Lines a second of one event."""

import pytest

from wsbridge.log_budget import FROM_UNKNOWN_PEERS, KNOWN_USERS, UNKNOWN_PEERS, LogBudget


class Clock:
    """Seconds that the test lets pass."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.fault("C3", "C4")
@pytest.mark.parametrize(("event", "limits"), [("auth.failed", UNKNOWN_PEERS), ("session.opened", KNOWN_USERS)])
def test_log_budget_allows_a_burst_then_a_rate(event: str, limits: tuple[float, float]) -> None:
    clock = Clock()
    budget = LogBudget(clock)
    rate, burst = limits
    assert sum(budget.allows(event) for _ in range(2 * int(burst))) == burst
    clock.now += 2.0
    assert sum(budget.allows(event) for _ in range(2 * int(burst))) == 2 * rate
    clock.now += 1_000_000.0
    assert sum(budget.allows(event) for _ in range(2 * int(burst))) == burst


def test_log_budget_of_one_event_leaves_the_others_alone() -> None:
    budget = LogBudget(Clock())
    while budget.allows("auth.failed"):
        pass
    assert all(budget.allows(event) for event in FROM_UNKNOWN_PEERS - {"auth.failed"})


def test_log_budget_reports_refused_lines_once_a_second() -> None:
    clock = Clock()
    budget = LogBudget(clock)
    for _ in range(int(UNKNOWN_PEERS[1]) + 7):
        budget.allows("auth.failed")
    assert budget.due() == {}
    clock.now += 1.0
    assert budget.due() == {"auth.failed": 7}
    clock.now += 1.0
    assert budget.due() == {}


def test_log_budget_has_no_more_buckets_than_events() -> None:
    """The names are constants of the program: nothing of an outsider's text becomes one."""
    budget = LogBudget(Clock())
    for _ in range(1_000):
        budget.allows("auth.failed")
    assert budget.size == 1
