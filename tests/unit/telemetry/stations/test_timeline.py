"""Stations of accounts, in the order of time, without those of other events."""

from tests.support.stations import at, connection, read
from wsbridge.telemetry.stations.account import Account, Arrival, Relay
from wsbridge.telemetry.stations.timeline import Station, timeline


def test_timeline_merges_replicas_by_time() -> None:
    gone = connection(at(4), session="gone", opened_at=0.5, closed_at=1.5, close="1001")
    stays = connection(at(6), read(at(4)), session="stays", unsent=7, replica="b")
    later = connection(at(6), read(at(4), asked="e:4", replayed=2, at=4.0), session="later", opened_at=3.0, replica="b",
                       closed_at=5.0, close="4408 slow_consumer")  # fmt: skip
    gap = connection(at(9), read(at(8), asked="e:4", gap="trimmed", at=7.0), session="gap", opened_at=6.0, replica="b")
    one = Account("a", 0.0, is_on=True, receipts=[Arrival(2.0, "t/3/41", "stored", produced=1.96)])
    other = Account("b", 0.0, is_on=True, relays=[Relay(2.5, at(5))], connections=[gone, stays, later, gap])
    stations = timeline([one, other], None)
    assert [(station.name, station.replica, station.session) for station in stations] == [
        ("opened", "b", "stays"),
        ("resumed", "b", "stays"),
        ("received", "a", ""),
        ("relayed", "b", ""),
        ("written", "b", "stays"),
        ("opened", "b", "later"),
        ("replayed", "b", "later"),
        ("closed", "b", "later"),
        ("opened", "b", "gap"),
        ("gap", "b", "gap"),
    ]
    texts = [station.text for station in stations]
    assert texts[2:5] == [
        "t/3/41, stored, 40 ms after its Kafka timestamp",
        "passed to the user's sessions, position e:5",
        "7 bytes are not sent yet",
    ]
    assert texts[6:8] == [
        "read the history after e:4, got 2 entries",
        "4408 slow_consumer, last position e:6",
    ]
    assert texts[9] == "read the history after e:4, got a gap (trimmed) up to e:8"


def test_timeline_of_an_event_of_other_users_names_them() -> None:
    receipt = Arrival(2.0, "t", "retried", is_for_user=False, reason="queue_full", detail="text")
    assert timeline([Account("a", 0.0, is_on=True, receipts=[receipt])], None) == [
        Station("1970-01-01T00:00:02.000Z", "received", "a", "t, retried, for other users, queue_full, text")
    ]
