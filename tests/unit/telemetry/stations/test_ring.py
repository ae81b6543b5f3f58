"""The ring of records: its bounds, its sample, and its exclusions."""

from typing import Any

import pytest

from wsbridge.core.events import Entry, Event, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.telemetry.stations import ring
from wsbridge.telemetry.stations.records import EVENTS, Received, Record, Refused, Relayed
from wsbridge.telemetry.stations.ring import Stations


def event(name: str, **fields: Any) -> Event:
    return Event(("u1",), b"{}", "task_update", name, "", **fields)


def entry(name: str, offset: int = 1) -> Entry:
    return Entry("u1", "e", offset, "task_update", b"{}", "", 0.0, name)


async def found(stations: Stations, text: str) -> list[Record]:
    return [record async for record in stations.search(text, EVENTS)]


async def test_ring_finds_the_records_with_an_id_newest_first() -> None:
    stations = Stations(10_000)
    stations.received(1.0, "t", [event("e1", partition="3", offset="41", produced=0.5), event("e2")], None)
    stations.relayed([entry("e1"), entry("e2", 2)])
    stations.dropped("t", Rejected(Drop.NO_USER, "why", "e2"))
    relayed, received = await found(stations, "e1")
    assert isinstance(relayed, Relayed)
    assert (relayed.ids, relayed.users, relayed.epochs, relayed.offsets) == (
        ["e1", "e2"], ["u1", "u1"], ["e", "e"], [1, 2],
    )  # fmt: skip
    assert isinstance(received, Received)
    assert (received.at, received.topic, received.partitions, received.offsets) == (1.0, "t", ["3", ""], ["41", ""])
    assert (received.produced, received.outcomes) == ([0.5, None], None)
    assert [type(record) for record in await found(stations, "e2")] == [Refused, Relayed, Received]
    assert await found(stations, "e3") == []


async def test_ring_over_its_bytes_forgets_the_oldest() -> None:
    stations = Stations(1_000, clock=lambda: 7.0)
    assert stations.since() == 7.0
    for n in range(100):
        stations.received(float(n), "t", [event(f"e-{n}")], None)
    assert 800 < stations.bytes <= 1_000
    kept = [record.at for record in await found(stations, "")]
    assert kept == [99.0 - place for place in range(len(kept))]
    assert stations.since() == kept[-1] > 80


async def test_ring_of_no_bytes_records_nothing() -> None:
    stations = Stations(0)
    stations.received(1.0, "t", [event("e1")], None)
    assert not stations.is_on
    assert await found(stations, "") == []


async def test_ring_above_the_rate_keeps_one_in_sixteen_deliveries_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "RATE", 10)
    stations = Stations(10**6, clock=lambda: 5.0)
    names = [f"event-{n}" for n in range(1_000)]
    for name in names:
        stations.received(5.0, "t", [event(name), event("next")], None)
    for name in names:
        stations.relayed([entry(name)])
    records = await found(stations, "event")
    relayed = [record.ids[0] for record in records if isinstance(record, Relayed)]
    received = [record.ids[0] for record in records if isinstance(record, Received)]
    assert 30 < len(received) < 100
    assert relayed[:20] == received[:20]
    assert stations.has_sampled
    assert stations.deliveries == {"t/": 5.0}


async def test_ring_below_the_rate_keeps_all_in_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "RATE", 1)
    now = 0.0
    stations = Stations(10**6, clock=lambda: now)
    for now in (4.0, 5.0, 6.0, 0.5):  # at last the clock is set back
        stations.received(now, "t", [event("a")], None)
        stations.relayed([entry("a")])
    assert len(await found(stations, "a")) == 8
    assert not stations.has_sampled


@pytest.mark.parametrize("odd", ["\udc80", 10**30, object()])
async def test_ring_leaves_out_what_cannot_be_encoded(odd: Any) -> None:
    stations = Stations(10_000)
    stations.received(1.0, "t", [event("e1", offset=odd)], None)
    assert await found(stations, "") == []


def test_ring_remembers_the_last_delivery_of_each_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "PARTITIONS", 2)
    stations = Stations(100)
    for at, partition in ((1.0, "0"), (2.0, "1"), (3.0, "0"), (4.0, "2")):
        stations.received(at, "t", [event("e", partition=partition)], None)
    assert stations.deliveries == {"t/0": 3.0, "t/1": 2.0}


async def test_ring_search_lets_other_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "SLICE", 1)
    stations = Stations(10_000)
    for n in range(3):
        stations.received(float(n), "t", [event("e1")], None)
    seen = []
    async for record in stations.search("e1", EVENTS):
        stations.received(9.0, "t", [event("e1")], None)  # by another task, during the search
        seen.append(record.at)
    assert seen == [2.0, 1.0, 0.0]
