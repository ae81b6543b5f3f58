"""The publisher's log: its counts, and when two texts are one event."""

import pytest

from wsbridge.cli.verify.ledger import Ledger, Position


def test_ledger_counts_events_that_got_success_without_a_break() -> None:
    ledger = Ledger(ttl=1, size=1)
    for serial, success in ((1, True), (2, False), (3, True)):
        ledger.sending("u", serial, b"%d" % serial, float(serial))
        ledger.answered("u", serial, serial + 0.5, success=success)
    assert (ledger.count("u"), ledger.required("u"), ledger.acked_by("u", 9)) == (3, 3, 1)
    assert (ledger.sent_by("u", 2.5), ledger.sent_at("u", 3)) == (2, 3.0)
    assert (ledger.count("nobody"), ledger.required("nobody"), ledger.acked_by("nobody", 9)) == (0, 0, 0)


@pytest.mark.parametrize("verbatim", [True, False])
def test_ledger_accepts_json_that_was_written_again_unless_it_is_verbatim(verbatim: bool) -> None:
    ledger = Ledger(ttl=1, size=1, verbatim=verbatim)
    ledger.sending("u", 1, b'{"b":"\xc3\xbc", "a":1}', 0.0)
    assert ledger.is_of("u", 1, b'{"a":1,"b":"\\u00fc"}') is not verbatim
    assert not ledger.is_of("u", 1, b'{"a":2,"b":"\\u00fc"}')


def test_position_holds_earlier_positions_of_its_epoch_only() -> None:
    position = Position.read("e:5")
    assert (str(position), str(position.next)) == ("e:5", "e:6")
    assert [position.holds(Position.read(text)) for text in ("e:5", "e:6", "f:1")] == [True, False, False]
