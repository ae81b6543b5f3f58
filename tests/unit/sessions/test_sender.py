"""Frames to one peer, then the close."""

from tests.support.fake_connection import FakeConnection
from wsbridge.core.close_codes import FORCE_DISCONNECT
from wsbridge.sessions.outbox import PORTION, Ledger
from wsbridge.sessions.sender import Sender

LARGE = bytes(2 * PORTION)


def test_sender_with_a_free_transport_writes_one_piece_and_the_close_at_once() -> None:
    connection = FakeConnection()
    sender = Sender(connection, Ledger())
    assert not sender.send([b"a", b"b"], 2)
    assert (connection.written, sender.is_waiting) == ([b"ab"], False)
    sender.end(FORCE_DISCONNECT)
    assert connection.ended == [FORCE_DISCONNECT]


def test_sender_with_much_to_send_says_once_that_it_waits_and_closes_behind_all() -> None:
    connection, ledger = FakeConnection(), Ledger()
    sender = Sender(connection, ledger)
    assert sender.send([LARGE], len(LARGE))
    assert not sender.send([b"b"], 1)
    sender.end(FORCE_DISCONNECT)
    assert (sender.waiting, ledger.bytes, connection.ended) == (len(LARGE) + 1, len(LARGE) + 1, [])
    while sender.is_waiting:
        sender.write_portion()
    assert b"".join(connection.written) == LARGE + b"b"
    assert (sender.written, sender.waiting, ledger.bytes) == (len(LARGE) + 1, 0, 0)
    assert connection.ended == [FORCE_DISCONNECT]


def test_sender_that_is_cut_keeps_the_rest_of_a_frame_that_has_begun() -> None:
    connection = FakeConnection()
    sender = Sender(connection, Ledger())
    sender.send([LARGE, b"b"], len(LARGE) + 1)
    sender.write_portion()
    sender.cut()
    assert sender.waiting == PORTION
    sender.write_portion()
    assert (b"".join(connection.written), sender.is_waiting) == (LARGE, False)


def test_sender_whose_peer_is_gone_drops_everything() -> None:
    connection, ledger = FakeConnection(), Ledger()
    sender = Sender(connection, ledger)
    sender.send([LARGE], len(LARGE))
    sender.write_portion()
    sender.end(FORCE_DISCONNECT)
    sender.clear()
    sender.write_portion()
    assert (sender.waiting, ledger.bytes, connection.ended) == (0, 0, [])
