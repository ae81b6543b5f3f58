"""Received frames without a socket: handled at once, delayed, or too many."""

import asyncio
import time
from typing import Any

import pytest

from tests.support.fake_transport import FakeTransport
from tests.support.frames import BINARY, CLOSE, PING, TEXT, frame
from tests.support.peer import Peer
from tests.support.running import until
from wsbridge.core.close_codes import INTERNAL, POLICY, PROTOCOL_ERROR, UNSUPPORTED, Close
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.transports.base import MAX_IGNORED
from wsbridge.transports.client_frames import Frame
from wsbridge.transports.client_messages import ClientMessages, FrameSource
from wsbridge.transports.inbox import FRAMES_PER_SECOND, MAX_WAITING, Inbox


class Recorded(ClientMessages):
    """Keeps the text messages in `texts`, in place of acting on them."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing, nothing)
        self.texts: list[str] = []

    def take(self, source: FrameSource, session: Session, frame: Frame) -> None:
        if frame.opcode != TEXT or session.state is State.CLOSED:
            super().take(source, session, frame)
        elif frame.payload == b"bug":
            raise ZeroDivisionError
        else:
            self.texts.append(frame.payload.decode())


class Client:
    """The inbox of a live session; `heard` has its text messages."""

    def __init__(self, *, opened: bool = True) -> None:
        self.transport = FakeTransport()
        self.messages = Recorded()
        self.inbox = Inbox(self.transport, self.messages)
        self.peer = Peer.live()
        if opened:
            self.inbox.session = self.peer.session
            self.inbox.open()

    @property
    def heard(self) -> list[str]:
        return self.messages.texts


async def test_inbox_hands_text_over_at_once_and_answers_pings() -> None:
    client = Client()
    client.inbox.data_received(frame(TEXT, b"a") + frame(PING, b"b") + frame(TEXT, b"c"))
    assert client.heard == ["a", "c"]
    assert client.peer.connection.written[-1] == b"\x8a\x01b"
    assert client.inbox._reader is None  # an idle connection has no parser


async def test_inbox_during_a_token_check_delays_all_frames_in_order() -> None:
    client = Client()
    client.inbox.is_checking = True
    client.inbox.data_received(frame(TEXT, b"a"))
    client.inbox.data_received(frame(TEXT, b"b"))
    assert client.heard == []
    client.inbox.is_checking = False
    client.inbox.take_waiting()
    assert client.heard == ["a", "b"]


@pytest.mark.fault("C7")
async def test_inbox_frames_over_the_rate_wait_for_the_next_second() -> None:
    client = Client()
    client.inbox.data_received(frame(TEXT, b"a") * (FRAMES_PER_SECOND + 1))
    assert len(client.heard) == FRAMES_PER_SECOND
    client.inbox.data_received(frame(TEXT, b"b"))
    assert len(client.heard) == FRAMES_PER_SECOND
    await until(lambda: len(client.heard) > FRAMES_PER_SECOND)
    assert client.heard[-2:] == ["a", "b"]


@pytest.mark.fault("C7")
async def test_inbox_with_too_many_waiting_bytes_closes_with_policy() -> None:
    client = Client()
    client.inbox.data_received(frame(TEXT, b"a") * FRAMES_PER_SECOND + frame(PING, b"x" * 125) * (MAX_WAITING // 131))
    closes = [client.peer.session.close]
    client.inbox.data_received(frame(PING, b"x" * 125))
    closes.append(client.peer.session.close)
    assert closes == [None, POLICY]
    assert client.inbox._reader is None
    client.inbox.connection_lost(None)


@pytest.mark.fault("C7")
async def test_inbox_before_its_session_holds_a_bounded_number_of_bytes() -> None:
    client = Client(opened=False)
    client.inbox.data_received(b"x" * MAX_WAITING)
    assert client.transport.aborted == 0
    client.inbox.data_received(b"x")
    assert client.transport.aborted == 1


@pytest.mark.fault("C7")
async def test_inbox_after_the_servers_close_accepts_a_few_frames_only() -> None:
    client = Client()
    client.peer.session.end(UNSUPPORTED)
    client.inbox.data_received(frame(TEXT, b"a") * (FRAMES_PER_SECOND - 1))
    assert (client.heard, client.transport.aborted) == ([], 0)
    client.inbox.data_received(frame(TEXT, b"a"))
    assert client.transport.aborted == 1


@pytest.mark.fault("C7")
async def test_inbox_after_the_servers_close_reads_the_peers_close() -> None:
    client = Client()
    client.inbox.data_received(frame(BINARY, b"a") + frame(TEXT, b"b") + frame(CLOSE, b"\x03\xeb"))
    assert client.heard == []
    assert client.peer.session.peers_close == Close(1003, "")
    assert client.inbox.is_over


@pytest.mark.fault("C11")
async def test_inbox_after_a_broken_frame_ignores_input_and_soon_resets() -> None:
    client = Client()
    client.inbox.data_received(b"\x81\x01x" + frame(TEXT, b"a"))
    assert client.peer.session.close == PROTOCOL_ERROR
    client.inbox.data_received(b"x" * MAX_IGNORED)
    assert (client.heard, client.transport.aborted) == ([], 0)
    client.inbox.data_received(b"x")
    assert client.transport.aborted == 1


@pytest.mark.fault("C8")
async def test_inbox_of_a_lost_connection_ends_at_once() -> None:
    client = Client()
    client.inbox.data_received(frame(TEXT, b"a") * (FRAMES_PER_SECOND + 50))
    client.inbox.connection_lost(None)
    assert (client.peer.left, client.inbox.is_over) == ([client.peer.session], True)
    assert client.inbox._reader is None
    await asyncio.sleep(0)
    assert len(client.heard) == FRAMES_PER_SECOND


async def test_inbox_echoes_the_code_of_a_close_and_ignores_later_frames() -> None:
    client = Client()
    client.inbox.data_received(frame(CLOSE, b"\x0b\xb8bye") + frame(TEXT, b"a"))
    assert client.peer.session.peers_close == Close(3000, "bye")
    assert client.peer.connection.ended == [Close(3000, "")]
    assert (client.peer.session.state, client.peer.session.close) == (State.CLOSED, None)
    assert (client.heard, client.inbox.peer_has_closed) == ([], True)


async def test_inbox_reports_an_error_without_raising_it_to_aiohttp() -> None:
    client = Client()
    client.inbox.data_received(frame(TEXT, b"bug"))
    assert client.peer.session.close == INTERNAL
    assert client.peer.metrics.errors["internal"] == 1


async def test_inbox_notes_the_time_of_the_last_bytes() -> None:
    client = Client()
    before = time.monotonic()
    client.inbox.data_received(b"\x81")
    assert client.peer.session.heard_at >= before


async def test_inbox_opened_without_a_session_handles_a_close_only() -> None:
    client = Client(opened=False)
    client.inbox.data_received(frame(TEXT, b"a") + frame(BINARY, b"b"))
    client.inbox.open()
    assert not client.inbox.is_over
    client.inbox.data_received(frame(CLOSE, b"\x03\xe8"))
    assert (client.inbox.is_over, client.inbox.peer_has_closed) == (True, True)
