"""The record of a connection for the log."""

import pytest

from wsbridge.core.close_codes import LOST, SHUTDOWN, Close
from wsbridge.sessions.record import Record

BYE, TIMED_OUT = Close(1000, "bye"), Close(LOST.code, "ping_timeout")


@pytest.mark.parametrize(
    ("ours", "peers", "final", "by"),
    [
        (None, None, LOST, "network"),
        (None, BYE, BYE, "client"),
        (SHUTDOWN, None, SHUTDOWN, "server"),
        (SHUTDOWN, BYE, SHUTDOWN, "server"),
        (TIMED_OUT, None, TIMED_OUT, "network"),
        (TIMED_OUT, BYE, TIMED_OUT, "client"),
    ],
)
def test_record_names_the_first_close_and_its_side(
    ours: Close | None, peers: Close | None, final: Close, by: str
) -> None:
    record = Record("u", peer="10.0.0.9", agent="x", now=0.0)
    record.close, record.peers_close = ours, peers
    assert (record.final_close, record.ended_by) == (final, by)


def test_record_ids_are_different() -> None:
    assert len({Record("u", peer="", agent="", now=0.0).id for _ in range(100)}) == 100
