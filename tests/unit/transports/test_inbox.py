"""What a client sends, without a socket: when it is taken, when it waits, when it is too much."""

import asyncio
import time
from typing import Any

import pytest

from tests.support.frames import BINARY, CLOSE, PING, TEXT, frame
from tests.support.peer import Peer
from tests.support.running import until
from wsbridge.core.close_codes import POLICY, PROTOCOL_ERROR, UNSUPPORTED, Close
from wsbridge.sessions.session import State
from wsbridge.transports.inbox import FRAMES_PER_SECOND, MAX_WAITING, Inbox


class Line:
    """Stands in for a transport's connection."""

    def __init__(self) -> None:
        self.peer_has_closed = self.is_over = False
        self.aborted = self.paused = self.resumed = 0

    def over(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.aborted += 1

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.resumed += 1


class Client:
    """An inbox of a live session; `heard` are its text messages."""

    def __init__(self, *, opened: bool = True) -> None:
        self.heard: list[str] = []
        self.errors: list[Exception] = []
        self.ended = 0
        connection: Any = Line()
        self.connection: Line = connection
        self.inbox = Inbox(connection, ended=self._end, hear=self._hear, failed=self.errors.append)
        self.peer = Peer.live()
        if opened:
            self.inbox.session = self.peer.session
            self.inbox.open()

    def _end(self) -> None:
        self.ended += 1

    def _hear(self, text: str) -> None:
        if text == "bug":
            raise ZeroDivisionError
        self.heard.append(text)


async def test_inbox_hands_text_over_at_once_and_answers_pings() -> None:
    client = Client()
    assert client.inbox.feed_data(frame(TEXT, b"a") + frame(PING, b"b") + frame(TEXT, b"c")) == (False, b"")
    assert client.heard == ["a", "c"]
    assert client.peer.connection.written[-1] == b"\x8a\x01b"
    assert client.peer.session.received == 2
    assert client.inbox._reader is None  # an idle connection keeps no parser


async def test_inbox_that_is_shut_lets_everything_wait_in_order() -> None:
    client = Client()
    client.inbox.shut()
    client.inbox.feed_data(frame(TEXT, b"a"))
    client.inbox.feed_data(frame(TEXT, b"b"))
    assert client.heard == []
    client.inbox.open()
    assert client.heard == ["a", "b"]


@pytest.mark.fault("C7")
async def test_inbox_lets_frames_over_the_pace_wait_for_the_next_second() -> None:
    client = Client()
    client.inbox.feed_data(frame(TEXT, b"a") * (FRAMES_PER_SECOND + 1))
    assert len(client.heard) == FRAMES_PER_SECOND
    client.inbox.feed_data(frame(TEXT, b"b"))
    assert len(client.heard) == FRAMES_PER_SECOND
    await until(lambda: len(client.heard) > FRAMES_PER_SECOND)
    assert client.heard[-2:] == ["a", "b"]


@pytest.mark.fault("C7")
async def test_inbox_of_which_too_much_waits_is_a_policy_close() -> None:
    client = Client()
    client.inbox.feed_data(frame(TEXT, b"a") * FRAMES_PER_SECOND + frame(PING, b"x" * 125) * (MAX_WAITING // 131))
    closes = [client.peer.session.close]
    client.inbox.feed_data(frame(PING, b"x" * 125))
    closes.append(client.peer.session.close)
    assert closes == [None, POLICY]
    assert client.inbox._reader is None
    client.inbox.feed_eof()


@pytest.mark.fault("C7")
async def test_inbox_before_its_session_holds_a_bounded_amount() -> None:
    client = Client(opened=False)
    client.inbox.feed_data(b"x" * MAX_WAITING)
    assert client.connection.aborted == 0
    client.inbox.feed_data(b"x")
    assert client.connection.aborted == 1


@pytest.mark.fault("C7")
async def test_inbox_after_our_close_takes_only_a_few_frames_more() -> None:
    client = Client()
    client.peer.session.end(UNSUPPORTED)
    client.inbox.feed_data(frame(TEXT, b"a") * (FRAMES_PER_SECOND - 1))
    assert (client.heard, client.connection.aborted) == ([], 0)
    client.inbox.feed_data(frame(TEXT, b"a"))
    assert client.connection.aborted == 1


@pytest.mark.fault("C7")
async def test_inbox_after_our_close_still_hears_the_peers() -> None:
    client = Client()
    client.inbox.feed_data(frame(BINARY, b"a") + frame(TEXT, b"b") + frame(CLOSE, b"\x03\xeb"))
    assert client.heard == []
    assert client.inbox.peers_close == Close(1003, "")
    assert client.connection.is_over


@pytest.mark.fault("C11")
async def test_inbox_after_a_broken_frame_reads_nothing_and_then_nothing_for_long() -> None:
    client = Client()
    client.inbox.feed_data(b"\x81\x01x" + frame(TEXT, b"a"))
    assert client.peer.session.close == PROTOCOL_ERROR
    for _ in range(Inbox.IGNORED):
        client.inbox.feed_data(frame(TEXT, b"a"))
    assert (client.heard, client.connection.aborted) == ([], 0)
    client.inbox.feed_data(frame(TEXT, b"a"))
    assert client.connection.aborted == 1


@pytest.mark.fault("C8")
async def test_inbox_of_a_lost_connection_ends_at_once_whatever_waits() -> None:
    client = Client()
    client.inbox.feed_data(frame(TEXT, b"a") * (FRAMES_PER_SECOND + 50))
    client.inbox.feed_eof()
    assert (client.ended, client.connection.is_over) == (1, True)
    assert client.inbox._reader is None
    await asyncio.sleep(0)
    assert len(client.heard) == FRAMES_PER_SECOND


async def test_inbox_echoes_the_code_of_a_close_and_hears_no_more() -> None:
    client = Client()
    client.inbox.feed_data(frame(CLOSE, b"\x0b\xb8bye") + frame(TEXT, b"a"))
    assert client.inbox.peers_close == Close(3000, "bye")
    assert client.peer.connection.ended == [Close(3000, "")]
    assert (client.peer.session.state, client.peer.session.close) == (State.CLOSED, None)
    assert (client.heard, client.connection.peer_has_closed) == ([], True)


async def test_inbox_reports_a_bug_and_is_not_heard_of_by_aiohttp() -> None:
    client = Client()
    client.inbox.feed_data(frame(TEXT, b"bug"))
    assert [type(error) for error in client.errors] == [ZeroDivisionError]


async def test_inbox_notes_when_anything_came() -> None:
    client = Client()
    before = time.monotonic()
    client.inbox.feed_data(b"\x81")
    assert client.peer.session.heard >= before
