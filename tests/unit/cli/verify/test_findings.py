"""What `wsbridge verify` concludes from a record."""

import pytest

from tests.support.verify_record import EVENTS, Told, cut, gap
from wsbridge.cli.verify.findings import examine, is_explained
from wsbridge.cli.verify.record import During
from wsbridge.cli.verify.viewer import Broken, Flaw
from wsbridge.core.close_codes import SHUTDOWN


def codes(told: Told) -> list[str]:
    return [finding.code for finding in examine(told.record)]


@pytest.fixture
def told() -> Told:
    """Two clients each of three users, which get everything."""
    told = Told("u1", "u2", "u3")
    for user in told.record.users:
        for _ in range(2):
            told.client(user)
            told.sees_all()
    return told


def test_examine_healthy_run_finds_nothing(told: Told) -> None:
    assert codes(told) == []


def test_examine_lost_event_names_the_command_that_explains_it(told: Told) -> None:
    told.client("u1")
    told.sees(*range(1, EVENTS))
    told.client("u1")
    told.sees_all()
    (finding,) = examine(told.record)
    assert (finding.code, finding.is_failure) == ("lost", True)
    assert finding.text == f"1 delivery lost. wsbridge why u1 r-1-{EVENTS}"


def test_examine_user_whom_nothing_reaches_is_a_lost_partition(told: Told) -> None:
    told.record.tracks[-2:] = []
    for _ in range(2):
        told.client("u3")
        told.sees(1, 2)
    (finding,) = examine(told.record)
    assert finding.code == "partition-lost"
    assert "1 of 3 users" in finding.text


def test_examine_users_whom_nothing_reaches_at_all() -> None:
    told = Told("u1", "u2")
    told.client("u1")
    told.client("u2")
    (finding,) = examine(told.record)
    assert (finding.code, finding.text) == ("nothing-arrives", "no client got an event: 20 deliveries lost")


def test_examine_users_whom_nothing_reaches_any_more() -> None:
    told = Told("u1", "u2")
    for user in told.record.users:
        told.client(user)
        told.sees(1, 2, 3)
    (finding,) = examine(told.record)
    assert (finding.code, finding.text) == ("nothing-arrives", "no client got an event any more: 14 deliveries lost")


def test_examine_events_on_one_replica_only_are_competing_replicas(told: Told) -> None:
    told.client("u1", epoch="f")
    told.sees(2, 4, 6, 8, 10)
    assert codes(told) == ["competing-replicas"]


def test_examine_events_on_each_replica_are_separate_histories(told: Told) -> None:
    told.client("u1", epoch="f")
    told.sees_all()
    told.record.tracks[0].gaps.append(gap("reset", explained=False))
    assert codes(told) == ["separate-histories"]
    assert is_explained(told.record, gap("reset", explained=False))
    assert not is_explained(told.record, gap("expired", explained=False))


def test_examine_skipped_positions_are_dropped_frames(told: Told) -> None:
    told.client("u1")
    told.sees(1, 2, 3, 5, 6, 7, 9, 10, skipping=True)
    assert codes(told) == ["frames-dropped"]


def test_examine_cuts_after_the_same_idle_time_are_a_timeout(told: Told) -> None:
    told.record.tracks[4].cuts.append(cut(4.0, 4.0))
    told.record.tracks[5].cuts.extend([cut(4.1, 4.1), cut(8.2, 4.05)])
    (finding,) = examine(told.record)
    assert (finding.code, finding.text) == ("idle-cut", "3 connections cut after 4.0 s without a message")


@pytest.mark.parametrize("idles", [(4.0,), (4.0, 4.1, 0.1, 0.2), (2.0, 9.0, 5.0)])
def test_examine_other_cuts_are_lost_connections(told: Told, idles: tuple[float, ...]) -> None:
    told.record.tracks[4].cuts.extend(cut(5.0, idle) for idle in idles)
    assert codes(told) == ["connections-lost"]


def test_examine_cuts_after_the_command_or_with_a_close_frame_are_expected(told: Told) -> None:
    told.record.during = During("restart", 3.0, 4.0, 0)
    told.record.tracks[0].cuts.extend([cut(3.5, 0.1), cut(2.0, 5.0, SHUTDOWN)])
    assert codes(told) == []


def test_examine_deliveries_that_are_held_back() -> None:
    told = Told("u1")
    told.client("u1")
    told.sees_all()
    told.client("u1", late=2.5)
    told.sees_all()
    (finding,) = examine(told.record)
    assert finding.code == "held-back"
    assert finding.text.startswith("50% of the deliveries were more than 1 s")


def test_examine_event_that_reached_the_bridge_late_is_a_warning(told: Told) -> None:
    told.record.before.append(7.0)
    (finding,) = examine(told.record)
    assert (finding.code, finding.is_failure) == ("late", False)


@pytest.mark.parametrize(
    ("reason", "explained", "code"),
    [("reset", True, "history-lost"), ("expired", True, "gaps"), ("reset", False, "gap-unexplained")],
)
def test_examine_gap(told: Told, reason: str, explained: bool, code: str) -> None:
    told.record.tracks[0].gaps.append(gap(reason, explained=explained))
    told.record.broken(Broken("client 1 of u1: a gap\n  more", Flaw.GAP))
    assert codes(told) == [code]


@pytest.mark.parametrize("flaw", [Flaw.TWICE, Flaw.OUT_OF_ORDER, Flaw.ALTERED, Flaw.WRONG_USER, Flaw.PROTOCOL])
def test_examine_flaw_has_its_finding(told: Told, flaw: Flaw) -> None:
    told.record.broken(Broken("client 1 of u1: event 1 came\n  more", flaw))
    (finding,) = examine(told.record)
    assert finding.text == "once, first: client 1 of u1: event 1 came"
    assert finding.cure


@pytest.mark.parametrize(
    ("code", "found"), [(0, []), (3, ["during-failed"]), (None, ["during-unfinished"])], ids=["0", "3", "running"]
)
def test_examine_command(told: Told, code: int | None, found: list[str]) -> None:
    told.record.during = During("restart", 3.0, 4.0, code)
    assert codes(told) == found


def test_examine_clients_that_are_refused_come_first(told: Told) -> None:
    told.record.tracks[0].ended = "4401 token_invalid: the server does not accept the token"
    told.record.tracks[1].dark.append((1.0, 12.0))
    found = examine(told.record)
    assert [finding.code for finding in found] == ["unreachable", "dark"]
    assert found[0].text == "1 of 6 clients: 4401 token_invalid: the server does not accept the token"


def test_examine_clients_that_are_not_back_at_the_end_have_lost_nothing(told: Told) -> None:
    for user in "u1", "u2":
        track = told.client(user)
        told.sees(1, 2)
        track.away, track.trouble = 3.0, "cannot connect"
    (finding,) = examine(told.record)
    assert (finding.code, finding.is_failure) == ("away", True)
    assert finding.text == "2 of 8 clients had no connection at the end, and lack 16 deliveries: cannot connect"


def test_examine_client_that_lost_an_event_before_it_went_away() -> None:
    told = Told("u1", "u2")
    told.client("u2")
    told.sees_all()
    track = told.client("u1")
    told.sees(1, 3)
    track.away = 4.0
    lost, away = examine(told.record)
    assert (away.code, lost.code, lost.text) == ("away", "lost", "1 delivery lost. wsbridge why u1 r-1-2")


def test_examine_run_at_whose_end_nobody_is_connected() -> None:
    told = Told("u1", "u2")
    for user in told.record.users:
        told.client(user).away = 4.0
        told.sees(1, 3)
    assert codes(told) == ["lost", "away"]


def test_examine_event_that_is_not_accepted(told: Told) -> None:
    told.record.ledger.sending("u1", EVENTS + 1, b'{"verify":{}}', 11.0)
    told.record.problems["403: the sidecar does not allow that topic"] += 1
    (finding,) = examine(told.record)
    assert (finding.code, finding.text) == (
        "publish-failed",
        "1 event not accepted: 403: the sidecar does not allow that topic",
    )


def test_examine_run_without_an_event_has_verified_nothing() -> None:
    told = Told()
    assert codes(told) == ["nothing-verified"]
