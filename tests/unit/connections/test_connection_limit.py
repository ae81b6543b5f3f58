"""The limit of connections, and which connection is closed first."""

import asyncio

import pytest

from tests.support.running import DEADLINE
from wsbridge.connections import connection_limit
from wsbridge.connections.connection_limit import MARGIN, ConnectionLimit
from wsbridge.telemetry.metrics import Metrics


class Connection:
    def __init__(self, limit: ConnectionLimit, *, known: bool = False) -> None:
        self._limit = limit
        self.known = known
        self.was_cut = ""
        limit.enter(self, known=known)

    def cut(self, reason: str) -> None:
        self.was_cut = reason
        self._limit.set_busy(self)
        self._limit.hold(self, 0)
        self._limit.leave(self)

    def close(self) -> None:
        self.cut("stop")

    def abort(self) -> None:
        self.cut("abort")


@pytest.mark.fault("C4")
def test_connection_limit_exceeded_cuts_the_longest_idle_unknown_peer_first() -> None:
    found = ConnectionLimit(3, Metrics())
    known, busy, first = Connection(found, known=True), Connection(found), Connection(found)
    found.set_busy(busy)
    second = Connection(found)
    assert (first.was_cut, second.was_cut) == ("descriptors", "")
    found.set_busy(second)
    third = Connection(found)
    assert [c.was_cut for c in (known, busy, second, third)] == ["descriptors", "", "", ""]


@pytest.mark.fault("C4")
def test_connection_limit_with_busy_connections_is_full_then_overflowing() -> None:
    found = ConnectionLimit(3, Metrics())
    members = []
    while not found.is_overflowing:
        members.append(Connection(found))
        found.set_busy(members[-1])
        assert found.is_full is (len(members) > 3)
    assert len(members) == 3 + MARGIN
    assert not any(member.was_cut for member in members)


@pytest.mark.fault("C9")
def test_connection_limit_on_head_memory_cuts_the_oldest_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "MAX_HEAD_BYTES", 100)
    metrics = Metrics()
    found = ConnectionLimit(10, metrics)
    silent, first, second = Connection(found), Connection(found), Connection(found)
    found.hold(first, 50)
    found.hold(second, 40)
    found.hold(first, 60)
    assert not first.was_cut
    found.hold(second, 41)
    assert (silent.was_cut, first.was_cut, second.was_cut) == ("", "head_memory", "")
    assert metrics.registry.get_sample_value("wsbridge_request_head_bytes") == 41


def test_connection_limit_close_closes_idle_connections() -> None:
    found = ConnectionLimit(10, Metrics())
    waiting, working = Connection(found), Connection(found)
    found.set_busy(working)
    found.close()
    assert (waiting.was_cut, working.was_cut) == ("stop", "")


async def test_connection_limit_end_all_waits_for_connections_then_cuts_the_rest() -> None:
    found = ConnectionLimit(10, Metrics())
    first, ends, stays = Connection(found), Connection(found), Connection(found)
    found.leave(first)
    asyncio.get_running_loop().call_soon(found.leave, ends)
    await found.end_all(0.1)
    assert (ends.was_cut, stays.was_cut) == ("", "abort")
    await found.end_all(DEADLINE)


@pytest.mark.fault("C4")
def test_connection_limit_never_cuts_a_connection_that_was_handed_over() -> None:
    found = ConnectionLimit(1, Metrics())
    first, successor = Connection(found), Connection(ConnectionLimit(10, Metrics()))
    found.replace(first, successor)
    second, third = Connection(found), Connection(found)
    assert (found.is_full, successor.was_cut, second.was_cut, third.was_cut) == (True, "", "descriptors", "")
