"""The records of a replica about one event of one user."""

from tests.support.stations import connected, entry, event
from wsbridge.core.events import Position, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.telemetry.stations.account import Account, Arrival, Connection, Read, Relay, collect
from wsbridge.telemetry.stations.ring import Stations


async def account_of(stations: Stations, *connections: Connection, event_id: str = "e1") -> Account:
    return await collect(stations, "u1", event_id, connections)


async def test_account_has_receipts_and_relays_of_the_event_only() -> None:
    stations = Stations(10_000, clock=lambda: 2.0)
    outcomes = [("stored", None, ""), ("retried", "queue_full", "text")]
    events = [event("e1", partition="3", offset="41", produced=0.5), event("e10", users=("u10",))]
    stations.received(1.0, "t", events, outcomes)
    stations.relayed([entry("e10", user="u1"), entry("e1", offset=2), entry("e1", user="u10", offset=3)])
    stations.dropped("t", Rejected(Drop.NO_USER, "why", "e11", place="t/3/42"))
    account = await account_of(stations)
    assert account.receipts == [Arrival(1.0, "t/3/41", "stored", produced=0.5)]
    assert account.relays == [Relay(2.0, Position("e", 2))]
    (other,) = (await account_of(stations, event_id="e10")).receipts
    assert (other.status, other.reason, other.detail, other.is_for_user) == ("retried", "queue_full", "text", False)
    (dropped,) = (await account_of(stations, event_id="e11")).receipts
    assert (dropped.status, dropped.reason, dropped.detail, dropped.place) == ("dropped", "no_user", "why", "t/3/42")
    assert (account.drops, account.last_drop) == (1, (2.0, "no_user", "why"))


async def test_account_joins_the_records_of_a_session() -> None:
    now = 1.0
    stations = Stations(10_000, clock=lambda: now)
    open_one, closed_one, other = (connected(name) for name in ("open", "closed", "other"))
    top = Position("e", 5)
    stations.resumed(open_one, is_start=True, asked="e:3", position=Position("e", 3), replayed=2, gap=None)
    stations.resumed(closed_one, is_start=True, asked=None, position=top, replayed=0, gap=None)
    stations.resumed(other._replace(user="u11"), is_start=True, asked=None, position=top, replayed=0, gap=None)
    now = 2.0
    stations.resumed(open_one, is_start=False, asked="e:4", position=top, replayed=0, gap="trimmed")
    stations.closed(closed_one, code=4408, reason="slow_consumer", position=Position("e", 9))
    account = await account_of(stations, Connection("open", "sse", 0.5, Position("e", 6), unsent=7))
    first, second = sorted(account.connections, key=lambda connection: connection.session)
    assert (first.session, first.closed_at, first.close) == ("closed", 2.0, "4408 slow_consumer")
    assert (first.position, len(first.reads), first.replica) == (Position("e", 9), 1, stations.replica)
    assert (second.session, second.closed_at, second.unsent) == ("open", None, 7)
    assert second.reads == [
        Read(1.0, True, "e:3", Position("e", 3), 2, None),
        Read(2.0, False, "e:4", top, 0, "trimmed"),
    ]


async def test_account_of_a_session_before_the_clock_was_set_forward_begins_with_its_opening() -> None:
    stations = Stations(10_000, clock=lambda: 1.0)
    top = Position("e", 5)
    stations.resumed(connected("s"), is_start=True, asked=None, position=top, replayed=0, gap=None)
    (found,) = (await account_of(stations, Connection("s", "sse", 1.001, top))).connections
    assert found.opened_at == found.reads[0].at == 1.0


async def test_account_without_the_event_names_the_partitions_of_the_user() -> None:
    stations = Stations(10_000)
    stations.received(1.0, "t", [event("e0", partition="3"), event("e0", users=("u10",), partition="4")], None)
    stations.received(2.0, "t", [event("e2", partition=""), event("e3", partition="2")], None)
    account = await account_of(stations)
    assert (account.partitions, account.deliveries) == (["t/2", "t/3"], {"t/4": 1.0, "t/2": 2.0})
    assert (await collect(stations, "nobody", "e1", [])).partitions == []


async def test_account_tells_when_the_event_may_be_left_out() -> None:
    stations = Stations(10_000)
    assert not (await account_of(stations)).may_be_left_out
    stations.has_sampled = True
    assert (await account_of(stations)).may_be_left_out
