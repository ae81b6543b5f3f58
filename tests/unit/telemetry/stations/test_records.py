"""Encoded records: their tags, and decoding."""

import pytest

from wsbridge.core.events import Position
from wsbridge.telemetry.stations.records import (
    EVENTS,
    RECEIVED,
    SESSIONS,
    Closed,
    Received,
    Record,
    Refused,
    Relayed,
    Resumed,
    decode,
    encode,
    tag_of,
)

POSITION = Position("e", 7)
RECORDS: list[Record] = [
    Received(1.0, "t", ["e1"], [("u1", "u2")], ["3"], ["41"], [0.5], [("retried", "queue_full", "")]),
    Refused(1.0, "t", "e1", "no_user", "why"),
    Relayed(1.0, ["e1"], ["u1"], ["e"], [7]),
    Resumed(1.0, "u1", "s", "sse", 0.5, True, "e:6", POSITION, 1, None),
    Closed(1.0, "u1", "s", "sse", 0.5, 4408, "slow_consumer", POSITION),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_is_decoded_and_has_its_tag(record: Record) -> None:
    packed = encode(record)
    assert encode(decode(packed)) == packed
    assert type(decode(packed)) is type(record)
    assert (tag_of(packed) in EVENTS, tag_of(packed) in SESSIONS) == (
        isinstance(record, Received | Refused | Relayed),
        isinstance(record, Resumed | Closed),
    )
    assert (tag_of(packed) in RECEIVED) is isinstance(record, Received)
