"""The records about a session."""

import time
from typing import Any

from tests.support.peer import Peer
from wsbridge.core.close_codes import SLOW_CONSUMER
from wsbridge.core.events import Position
from wsbridge.core.recovery import Gap, Resume
from wsbridge.sessions.stations import record_end, record_resume
from wsbridge.telemetry.stations.records import SESSIONS, Closed, Resumed
from wsbridge.telemetry.stations.ring import Stations


async def records(stations: Stations) -> list[Any]:
    return [record async for record in stations.search("u", SESSIONS)]


async def test_session_is_recorded_with_its_reads_and_its_end() -> None:
    stations, peer = Stations(10_000), Peer.live(now=time.monotonic() - 60)
    resume = Resume(Position("e", 7), gap=Gap(Position("e", 3), "trimmed"))
    record_resume(stations, peer.session, resume, is_start=False, asked="e:3")
    peer.session.end(SLOW_CONSUMER)
    record_end(stations, peer.session)
    closed, resumed = await records(stations)
    assert isinstance(resumed, Resumed)
    assert (resumed.user, resumed.session, resumed.is_start, resumed.asked) == ("u", peer.session.id, False, "e:3")
    assert (resumed.position, resumed.replayed, resumed.gap) == (Position("e", 7), 0, "trimmed")
    assert abs(time.time() - 60 - resumed.opened_at) < 5
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason, closed.position) == (4408, "slow_consumer", Position("e", 0))


async def test_session_is_not_recorded_if_stations_are_off() -> None:
    stations, peer = Stations(0), Peer.live()
    record_resume(stations, peer.session, Resume(Position("e", 7)), is_start=True, asked=None)
    record_end(stations, peer.session)
    assert await records(stations) == []
