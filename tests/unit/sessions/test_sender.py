"""Frames to one peer, then the close."""

from tests.support.fake_connection import FakeConnection
from tests.support.peer import entry
from wsbridge.core.close_codes import FORCE_DISCONNECT, SLOW_CONSUMER
from wsbridge.sessions.outbox import PORTION, Ledger
from wsbridge.sessions.sender import Sender
from wsbridge.telemetry.metrics import Metrics

LARGE = bytes(2 * PORTION)


def test_sender_with_a_free_transport_writes_one_piece_and_the_close_at_once() -> None:
    connection = FakeConnection()
    sender = Sender(connection, Ledger(), Metrics())
    assert not sender.send([b"a", b"b"], 2)
    assert (connection.written, sender.is_waiting) == ([b"ab"], False)
    sender.send_close(FORCE_DISCONNECT, cut=False)
    assert connection.ended == [FORCE_DISCONNECT]


def test_sender_writes_a_portion_at_once_and_queues_one_byte_more() -> None:
    connection = FakeConnection()
    sender = Sender(connection, Ledger(), Metrics())
    assert not sender.send([bytes(PORTION)], PORTION)
    assert sender.send([bytes(PORTION + 1)], PORTION + 1)
    assert [len(data) for data in connection.written] == [PORTION]


def test_sender_with_a_full_transport_reports_it_once_and_closes_last() -> None:
    connection, ledger = FakeConnection(), Ledger()
    sender = Sender(connection, ledger, Metrics())
    assert sender.send([LARGE], len(LARGE))
    assert not sender.send([b"b"], 1)
    sender.send_close(FORCE_DISCONNECT, cut=False)
    assert (sender.waiting, ledger.bytes, connection.ended) == (len(LARGE) + 1, len(LARGE) + 1, [])
    while sender.is_waiting:
        assert sender.write_portion() == 0
    assert b"".join(connection.written) == LARGE + b"b"
    assert (sender.written, sender.waiting, ledger.bytes) == (len(LARGE) + 1, 0, 0)
    assert connection.ended == [FORCE_DISCONNECT]


def test_sender_that_is_cut_keeps_the_rest_of_a_begun_frame() -> None:
    connection = FakeConnection()
    sender = Sender(connection, Ledger(), Metrics())
    sender.send([LARGE, b"b"], len(LARGE) + 1)
    sender.write_portion()
    sender.send_close(SLOW_CONSUMER, cut=True)
    assert (sender.waiting, connection.ended) == (PORTION, [])
    sender.write_portion()
    assert (b"".join(connection.written), sender.is_waiting) == (LARGE, False)
    assert connection.ended == [SLOW_CONSUMER]


def test_sender_whose_peer_is_gone_drops_everything() -> None:
    connection, ledger = FakeConnection(), Ledger()
    sender = Sender(connection, ledger, Metrics())
    sender.send([LARGE], len(LARGE))
    sender.write_portion()
    sender.send_close(FORCE_DISCONNECT, cut=False)
    sender.clear()
    sender.write_portion()
    assert (sender.waiting, ledger.bytes, connection.ended) == (0, 0, [])


def test_sender_flush_writes_all_gathered_frames_at_once_and_counts_them() -> None:
    connection, metrics = FakeConnection(), Metrics()
    sender = Sender(connection, Ledger(), metrics)
    sender.add(b"b")
    sender.add_entry(entry(1), b"c")
    sender.add(b"a", first=True)
    assert connection.written == []
    assert not sender.flush()
    assert not sender.flush()
    assert connection.written == [b"abc"]
    assert (sender.messages, metrics.sent, metrics.sent_bytes) == (3, 3, 3)


def test_sender_close_drops_gathered_frames_and_the_replay() -> None:
    connection, ledger = FakeConnection(), Ledger()
    sender = Sender(connection, ledger, Metrics())
    sender.add(b"a")
    sender.hold(entry(2), 10)
    sender.begin_replay([entry(1)])
    sender.send_close(FORCE_DISCONNECT, cut=False)
    sender.flush()
    sender.write_portion()
    assert (connection.written, connection.ended) == ([], [FORCE_DISCONNECT])
    assert (sender.waiting, sender.has_any, ledger.bytes) == (0, False, 0)
