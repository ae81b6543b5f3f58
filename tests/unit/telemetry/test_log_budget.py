"""The budget of each log event: lines a second."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.fake_time import Clock
from tests.support.sources import SOURCES
from wsbridge.telemetry.log_budget import FROM_UNKNOWN_PEERS, KNOWN_USERS, UNKNOWN_PEERS, LogBudget

BEFORE_ANY_TOKEN = ("auth.access", "connections.", "telemetry.log", "transports.", "web.problem")
BEHIND_A_TOKEN = {  # events that need a valid token of a user, an operator or the sidecar
    "payload.shown", "session.authenticated", "session.opened", "subscriptions.read", "user.disconnected",
}  # fmt: skip
OWN = {"log.dropped"}  # reports dropped lines, so it has no budget


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


def test_log_budget_used_up_by_one_event_allows_others() -> None:
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


def test_log_budget_has_one_bucket_per_event() -> None:
    """The names are constants of the program, so untrusted text cannot create buckets."""
    budget = LogBudget(Clock())
    for _ in range(1_000):
        budget.allows("auth.failed")
    assert len(budget._buckets) == 1


def logged(source: str) -> Iterator[tuple[str, set[str]]]:
    """Each event that a module logs, with the names of its fields."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and re.search(r"\blog\b", ast.unparse(node.func)):
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and re.fullmatch(r"[a-z]+\.[a-z]+", str(part.value)):
                    yield str(part.value), {str(keyword.arg) for keyword in node.keywords}


def test_log_budget_of_unknown_peers_covers_every_event_before_authentication() -> None:
    calls = [(module, *call) for module, source in SOURCES.items() for call in logged(source)]
    exposed = {event for module, event, fields in calls if "peer" in fields or module.startswith(BEFORE_ANY_TOKEN)}
    assert exposed - BEHIND_A_TOKEN - OWN <= FROM_UNKNOWN_PEERS
    assert {event for _, event, _ in calls} > FROM_UNKNOWN_PEERS | BEHIND_A_TOKEN | OWN
