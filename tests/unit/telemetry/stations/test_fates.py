"""The fate of the event at e:5, which was relayed at 2 s, for one connection."""

import pytest

from tests.support.stations import at, connection, read
from wsbridge.telemetry.stations.account import Connection
from wsbridge.telemetry.stations.fates import Fate, Kind, fate_of, span

EVENT = at(5)
SLOW, BYE = {"closed_at": 3.0, "close": "4408 slow_consumer"}, {"closed_at": 3.0, "close": "1000"}
TOO_SLOW = "was closed as a slow consumer"
TRIMMED = "got a gap (trimmed) instead, and its client must refetch"
RESUMED = connection(at(6), read(at(3), at=4.5, asked="e:3", replayed=3), opened_at=4.0)


@pytest.mark.parametrize(
    ("one", "later", "expected"),
    [
        (connection(at(5)), [], Fate(Kind.GOT)),
        (connection(at(9), unsent=7), [], Fate(Kind.GOT, "has 7 bytes unsent")),
        (
            connection(at(4), is_live=False), [],
            Fate(Kind.NOT, "is still replaying and does not have it yet"),
        ),
        (connection(at(4)), [], Fate(Kind.NOT, "has missed it and catches up within seconds")),
        (connection(at(9), read(at(4), replayed=1)), [], Fate(Kind.LATE, "got it by a replay 0 ms later", 1.0)),
        (connection(at(9), read(at(3), replayed=1)), [], Fate(Kind.GOT)),
        (
            connection(at(4), read(at(2), asked="e:2", replayed=9), is_live=False), [],
            Fate(Kind.NOT, "is still replaying and does not have it yet"),
        ),
        (
            connection(at(4), read(at(2), asked="e:2", replayed=9), **SLOW), [],
            Fate(Kind.NOT, f"{TOO_SLOW} and its client has not resumed"),
        ),
        (
            connection(at(9), read(at(2), asked="e:2", replayed=9), **SLOW), [],
            Fate(Kind.NOT, f"{TOO_SLOW} and its client has not resumed"),
        ),
        (
            connection(at(4), read(at(2), asked="e:2", replayed=9), **SLOW), [RESUMED],
            Fate(Kind.LATE, f"{TOO_SLOW} and its client resumed 2.5 s later", 4.5),
        ),
        (
            connection(at(9), read(at(4), asked="e:4", replayed=1), **BYE), [],
            Fate(Kind.LATE, "got it by a replay 0 ms later", 1.0),
        ),
        (
            connection(at(9), read(at(4), asked="e:4", replayed=1), handled=at(5), **SLOW), [],
            Fate(Kind.LATE, "got it by a replay 0 ms later", 1.0),
        ),
        (
            connection(at(9), read(at(5))), [],
            Fate(Kind.PAST, "sent no position, so it gets later events only"),
        ),
        (
            connection(at(9), read(at(5), asked="e:5")), [],
            Fate(Kind.PAST, "resumed past it"),
        ),
        (connection(at(9), read(at(9), asked="e:6", is_start=False)), [], Fate(Kind.GOT)),
        (
            connection(at(9), read(at(7), asked="e:2", gap="trimmed")), [],
            Fate(Kind.NOT, TRIMMED, 1.0),
        ),
        (connection(at(9), read(at(4), asked="e:2", gap="trimmed")), [], Fate(Kind.GOT)),
        (connection(at(1, "f"), read(at(0, "f"), asked="e:5", gap="reset", is_start=False)), [], Fate(Kind.GOT)),
        (
            connection(at(1, "f"), read(at(0, "f"), asked="e:4", gap="reset", is_start=False)), [],
            Fate(Kind.NOT, "got a gap (reset) instead, and its client must refetch", 1.0),
        ),
        (connection(at(5), **BYE), [], Fate(Kind.GOT)),
        (connection(at(4), **BYE), [], Fate(Kind.NOT, "was closed (1000) and its client has not resumed")),
        (connection(at(5), **SLOW), [], Fate(Kind.NOT, f"{TOO_SLOW} and its client has not resumed")),
        (connection(at(5), handled=at(5), **SLOW), [], Fate(Kind.GOT)),
        (
            connection(at(5), handled=at(4), **SLOW), [],
            Fate(Kind.NOT, f"{TOO_SLOW} and its client has not resumed"),
        ),
        (
            connection(at(4), **BYE), [RESUMED],
            Fate(Kind.LATE, "was closed (1000) and its client resumed 2.5 s later", 4.5),
        ),
        (
            connection(at(5), **SLOW), [RESUMED],
            Fate(Kind.LATE, f"{TOO_SLOW} and its client resumed 2.5 s later", 4.5),
        ),
        (
            connection(at(5), **SLOW),
            [connection(at(9), read(at(4), asked="e:2", gap="trimmed"), opened_at=4.0)],
            Fate(Kind.GOT, f"{TOO_SLOW}; its client's next connection got it"),
        ),
        (connection(at(5), **SLOW), [connection(at(6), read(at(5), asked="e:5"), opened_at=4.0)], Fate(Kind.GOT)),
        (
            connection(at(5), **SLOW),
            [connection(at(9), read(at(8), asked="e:3", gap="trimmed"), opened_at=4.0)],
            Fate(Kind.NOT, f"{TOO_SLOW}; its client's next connection {TRIMMED}", 1.0),
        ),
        (
            connection(at(5), **SLOW),
            [connection(at(9), read(at(9)), opened_at=4.0), connection(at(9), read(at(8), asked="e:8"), opened_at=4.0)],
            Fate(Kind.NOT, f"{TOO_SLOW} and its client has not resumed"),
        ),
    ],
)  # fmt: skip
def test_fate_follows_from_positions(one: Connection, later: list[Connection], expected: Fate) -> None:
    assert fate_of(one, EVENT, later, 2.0)._replace(at=expected.at) == expected


def test_fate_of_two_connections_uses_a_resumed_connection_once() -> None:
    later = [RESUMED]
    assert fate_of(connection(at(4), **BYE), EVENT, later, 2.0).kind is Kind.LATE
    assert fate_of(connection(at(4), **BYE), EVENT, later, 2.0).kind is Kind.NOT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 ms"), (0.0414, "41 ms"), (1.24, "1.2 s"), (240, "4 min"), (7_200, "2 h"), (400_000, "5 days")],
)
def test_span_has_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text
