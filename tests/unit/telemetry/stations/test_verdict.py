"""The sentences about accounts of several replicas, and about cases that one bridge cannot produce."""

from typing import Any

import pytest

from tests.support.stations import at, connection, read
from wsbridge.core.events import Position
from wsbridge.telemetry.stations.account import Account, Arrival, Connection, Relay
from wsbridge.telemetry.stations.verdict import Case, Code, judge

KAFKA = Arrival(2.0, "t/3/41", "stored", produced=1.97)


def account(name: str = "a", **fields: Any) -> Account:
    return Account(name, 0.0, is_on=True, **fields)


def closed(*reads: Any, **fields: Any) -> Connection:
    return connection(at(4), *reads, closed_at=1.9, close="1001", **fields)


def answer(*accounts: Account, kept: bool = True) -> tuple[Code, str]:
    verdict = judge(Case("u1", "e1", accounts, at(5) if kept else None, 250.0))
    return verdict.code, verdict.text


def test_verdict_of_two_replicas_adds_up_their_connections() -> None:
    taker = account("a", receipts=[KAFKA], relays=[Relay(2.011, at(5))], connections=[connection(at(5))])
    other = account("b", relays=[Relay(2.02, at(5))], connections=[connection(at(6)), connection(at(4))])
    assert answer(taker, other) == (
        Code.PARTLY,
        (
            "delivered to 2 of 3 connections 41 ms after its Kafka timestamp; "
            "one has missed it and catches up within seconds"
        ),
    )


def test_verdict_of_a_client_that_resumed_on_another_replica_finds_that_connection() -> None:
    taker = account(
        "a",
        receipts=[KAFKA],
        relays=[Relay(2.0, at(5))],
        connections=[connection(at(5), closed_at=2.5, close="4408 slow_consumer"), connection(at(5))],
    )
    other = account("b", connections=[connection(at(5), read(at(3), asked="e:3", replayed=2, at=3.2), opened_at=3.1)])
    assert answer(taker, other) == (
        Code.DELIVERED,
        (
            "delivered to 1 of 2 connections 30 ms after its Kafka timestamp; "
            "the other was closed as a slow consumer and its client resumed 1.2 s later"
        ),
    )


def test_verdict_of_an_event_that_left_the_history_is_stored() -> None:
    assert answer(account(receipts=[KAFKA]), kept=False) == (
        Code.STORED,
        "no connection when it arrived; no longer in the history",
    )


def test_verdict_without_a_position_does_not_judge_connections() -> None:
    code, text = answer(account(receipts=[KAFKA], connections=[connection(at(5))]), kept=False)
    assert (code, text.endswith("so nothing shows which connections got it")) == (Code.STORED, True)


def test_verdict_of_a_silent_partition_uses_the_last_delivery_to_any_replica() -> None:
    one = account("a", partitions=["t/3", "other/1"], deliveries={"t/3": 10.0, "t/4": 240.0})
    other = account("b", deliveries={"t/3": 190.0})
    code, text = answer(one, other, kept=False)
    assert code is Code.NEVER_RECEIVED
    assert text == (
        "has not reached any of 2 replicas in the last 4 min: "
        "the user's partition, 3 of t, has delivered nothing for 1 min"
    )


@pytest.mark.parametrize(
    ("one", "other", "places"),
    [
        (["t/1"], ["t/0"], "0 and 1 of t"),
        (["t/10", "t/2", "other/1"], [], "2 and 10 of t"),
        ([f"t/{number}" for number in range(5)], [], "0, 1, 2 and 2 more of t"),
    ],
)
def test_verdict_of_a_user_with_several_partitions_names_none_as_the_users(
    one: list[str], other: list[str], places: str
) -> None:
    code, text = answer(
        account("a", partitions=one, deliveries=dict.fromkeys(one, 249.0)), account(partitions=other), kept=False
    )
    assert code is Code.NEVER_RECEIVED
    assert text.partition(": ")[2] == (
        f"u1's events come from several partitions ({places}): the publisher does not use the user as partition key, "
        "so order is not kept. This event may be in a partition that another consumer has: run wsbridge doctor --canary"
    )


@pytest.mark.parametrize(("drops", "were"), [(26, "27 were"), (0, "1 was")])
def test_verdict_without_a_valid_event_tells_of_the_dropped_ones(drops: int, were: str) -> None:
    one = account("a", drops=drops, last_drop=(9.0, "not_json", "other") if drops else None)
    code, text = answer(one, account("b", drops=1, last_drop=(245.0, "no_user", "why; what")), kept=False)
    assert (code, text.partition(": ")[2]) == (
        Code.NEVER_RECEIVED,
        f"no sidecar has delivered a valid event, but {were} dropped (no_user, the last one 5.0 s ago: why; what)",
    )


LOST = (
    "no longer in the history after 4 min, though histories are kept for 300 s: Redis has lost or evicted it, see "
    "redis-eviction of wsbridge doctor"
)


@pytest.mark.parametrize(
    ("top", "ttl", "text"),
    [
        (None, 300.0, LOST),
        (at(0), 300.0, LOST),
        (Position("new", 7), 300.0, LOST),
        (at(999), 300.0, "no longer in the history"),  # it may be trimmed
        (None, 200.0, "no longer in the history"),  # it may be expired
    ],
)
def test_verdict_of_an_event_that_redis_has_lost_says_so(top: Position | None, ttl: float, text: str) -> None:
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))])
    verdict = judge(Case("u1", "e1", [one], None, 250.0, top=top, ttl=ttl))
    assert verdict.text == f"no connection when it arrived; {text}; the user has not connected since"


def test_verdict_adds_up_the_refused_calls_of_all_replicas() -> None:
    code, text = answer(account(denials=1, denied_at=10.0), account("b", denials=2, denied_at=245.0), kept=False)
    assert (code, text.partition("; ")[2]) == (
        Code.NEVER_RECEIVED,
        "3 calls to the sidecar's routes were refused, the last one 5.0 s ago: see request.denied in the log",
    )


@pytest.mark.parametrize(
    ("deliveries", "places"),
    [
        ({"t/3": 10.0, "t/2": 245.0}, "t/2, t/3 only"),
        ({"t/": 245.0}, "t only"),
        ({"t/4": 9.0, "t/3": 10.0, "t/2": 245.0, "t/1": 12.0, "t/0": 11.0}, "t/2, t/1, t/0 and 2 more"),
    ],
)
def test_verdict_of_an_unknown_user_names_the_partitions_that_deliver(
    deliveries: dict[str, float], places: str
) -> None:
    code, text = answer(account(deliveries=deliveries), kept=False)
    assert code is Code.NEVER_RECEIVED
    assert text.partition(": ")[2] == (
        f"other events arrive (the last one 5.0 s ago, from {places}). If the user's partition is another one, another "
        "consumer may get it: run wsbridge doctor --canary. Otherwise check id and topic at the publisher"
    )


def test_verdict_of_a_sampled_event_does_not_say_never() -> None:
    code, text = answer(account(may_be_left_out=True), account("b"), kept=False)
    assert code is Code.NOT_RECORDED
    assert text == "not in the history and without a record; under high load only some events are recorded"


@pytest.mark.parametrize(("first", "what"), [(True, "t/3/57, 7.0 s later"), (False, "t/3/57")])
def test_verdict_names_a_duplicate(first: bool, what: str) -> None:
    receipts = [KAFKA] if first else []
    _, text = answer(account(receipts=[*receipts, Arrival(9.0, "t/3/57", "duplicate")]))
    assert text.startswith("no connection when it arrived; in the history at e:5; ")
    assert text.endswith(f"; a duplicate was skipped ({what})")


def test_verdict_of_a_retry_has_the_reason_and_its_detail() -> None:
    receipt = Arrival(2.0, "t", "retried", reason="redis_unavailable", detail="no answer")
    code, text = answer(account(receipts=[receipt]), kept=False)
    assert code is Code.RETRIED
    assert text.startswith("not stored yet (RETRY 4 min ago: redis_unavailable, no answer); ")


def test_verdict_of_connections_closed_before_the_event_leaves_them_out() -> None:
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))], connections=[closed(), connection(at(5))])
    assert answer(one)[1].startswith("delivered to 1 of 1 connection ")


def test_verdict_of_a_connection_that_read_the_history_after_the_event_does_not_count_it() -> None:
    joined = connection(at(5), read(at(5), at=2.1), opened_at=1.9)
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))], connections=[joined])
    assert answer(one) == (
        Code.STORED,
        (
            "no connection when it arrived; in the history at e:5; "
            "the next connection sent no position, so it gets later events only"
        ),
    )


LOST_REPLAY = connection(
    at(4), read(at(2), asked="e:2", replayed=3, at=3.0), opened_at=3.0, closed_at=4.0, close="1006"
)


@pytest.mark.parametrize(
    ("resumes", "expected"),
    [
        ([], (Code.STORED, "in the history at e:5; the next connection was lost and its client has not resumed")),
        ([("e:4", 1)], (Code.DELIVERED, "replayed to 1 connection 3.0 s later")),
        ([("e:4", 1), ("e:5", 0)], (Code.DELIVERED, "replayed to 1 connection 3.0 s later")),
    ],
)
def test_verdict_of_a_replay_that_was_cut_depends_on_the_next_connection(
    resumes: list[tuple[str, int]], expected: tuple[Code, str]
) -> None:
    again = [
        connection(at(5), read(at(int(asked[2:])), asked=asked, replayed=replayed, at=5.0 + n), opened_at=5.0 + n)
        for n, (asked, replayed) in enumerate(resumes)
    ]
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))], connections=[LOST_REPLAY, *again])
    code, text = answer(one)
    assert (code, text) == (expected[0], f"no connection when it arrived; {expected[1]}")


def test_verdict_for_one_connection_uses_the_singular() -> None:
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))], connections=[connection(at(4), is_live=False)])
    assert answer(one) == (
        Code.STORED,
        "the connection is still replaying and does not have it yet",
    )


def test_verdict_for_many_connections_tells_of_three() -> None:
    one = account(receipts=[KAFKA], relays=[Relay(2.0, at(5))], connections=[connection(at(4)) for _ in range(5)])
    missed = "one has missed it and catches up within seconds"
    assert (
        answer(one)[1]
        == f"delivered to 0 of 5 connections; {missed}; {missed}; {missed}; 2 more are among the stations"
    )
