"""The effects of a client's frames on its session."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.peer import Peer
from tests.support.running import until
from wsbridge.core.close_codes import BAD_UTF8, INTERNAL, POLICY, UNSUPPORTED
from wsbridge.core.events import Position
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.reports import Reports
from wsbridge.sessions.session import Session
from wsbridge.supervision.jobs import Starter
from wsbridge.transports.client_frames import BINARY, PING, PONG, TEXT, Frame, FrameError
from wsbridge.transports.client_messages import INVALID_WINDOW, MAX_INVALID, ClientMessages


class Checked:
    """Stands in for an admission: it keeps the sessions and tokens that it was given."""

    def __init__(self) -> None:
        self.tokens: list[tuple[Session, str]] = []
        self.error: Exception | None = None

    async def reauthenticate(self, session: Session, token: str) -> None:
        self.tokens.append((session, token))
        if self.error:
            raise self.error


class Client:
    """A session, and the state of the connection that its frames come from."""

    def __init__(self) -> None:
        self.peer = Peer.live()
        self.is_checking = False
        self.invalid_at: list[float] | None = None
        self.waited = 0
        self.jobs = Starter()
        self.admission = Checked()
        admission: Any = self.admission
        self.reports = Reports(Registry(), self.peer.metrics)
        self.messages = ClientMessages(admission, self.jobs, self.peer.metrics, self.reports)

    def take_waiting(self) -> None:
        assert not self.is_checking
        self.waited += 1

    def take(self, opcode: int, payload: bytes) -> None:
        self.messages.take(self, self.peer.session, Frame(opcode, payload))

    def send(self, text: str) -> None:
        self.take(TEXT, text.encode())

    async def work(self) -> None:
        """Run the jobs that were started."""
        running = asyncio.create_task(self.jobs.run())
        await until(lambda: self.waited)
        running.cancel()
        await asyncio.wait([running])

    @property
    def answers(self) -> list[str]:
        return [message["type"] for message in self.peer.connection.messages[1:]]


def test_client_messages_answer_a_ping_with_a_pong() -> None:
    client = Client()
    client.send('{"type":"ping"}')
    client.send('{"type":"ping"}')
    assert (client.answers, client.peer.session.messages_received) == (["pong", "pong"], 2)


def test_client_messages_note_the_round_trip_of_a_pong() -> None:
    client = Client()
    session = client.peer.session
    session.pinged_at, session.heard_at = 1.0, 1.5
    client.take(PONG, b"")
    assert (session.round_trip, client.answers) == (0.5, [])


async def test_client_messages_check_the_token_of_auth_in_a_job_and_go_on_behind_it() -> None:
    client = Client()
    client.send('{"type":"auth","token":"a.b.c"}')
    assert (client.is_checking, client.admission.tokens, client.answers) == (True, [], [])
    await client.work()
    assert (client.is_checking, client.waited) == (False, 1)
    assert client.admission.tokens == [(client.peer.session, "a.b.c")]


def test_client_messages_name_the_job_of_a_check() -> None:
    client = Client()
    client.send('{"type":"auth","token":"a.b.c"}')
    name, _ = client.jobs._wanted.get_nowait()
    assert name == "auth"


async def test_client_messages_whose_check_fails_unexpectedly_end_the_session() -> None:
    client = Client()
    client.admission.error = ZeroDivisionError()
    client.send('{"type":"auth","token":"a.b.c"}')
    with capture_logs() as lines:
        await client.work()
    assert client.peer.connection.ended == [INTERNAL]
    assert [(line["event"], line["doing"], line["exc_info"]) for line in lines] == [
        ("internal.error", "auth", client.admission.error)
    ]


@pytest.mark.parametrize(
    ("text", "kind"), [('{"type":"ping"}', "ping"), ('{"type":"auth","token":"x"}', "auth"), ("[]", "bad")]
)
def test_client_messages_count_each_by_its_kind_and_characters(text: str, kind: str) -> None:
    client = Client()
    client.send(text)
    assert +client.peer.metrics.messages == {kind: 1}
    assert client.peer.metrics.received_bytes == len(text)


def test_client_messages_answer_an_invalid_one_with_an_error_that_explains_it() -> None:
    client = Client()
    client.send("[]")
    assert client.peer.connection.messages[-1] == {
        "type": "error",
        "code": "bad_message",
        "message": 'expected a JSON object such as {"type":"ping"}',
    }


@pytest.mark.parametrize(
    ("position", "kind", "handled"),
    [("e:2", "handled", Position("e", 2)), ("e:4", "bad", None), ("old:1", "stale", None), ("2", "bad", None)],
)
def test_client_messages_note_what_a_client_has_handled(position: str, kind: str, handled: Position | None) -> None:
    client = Client()
    client.peer.offer(1, 2, 3)
    client.peer.session.flush()
    client.send(f'{{"type":"handled","last_event_id":"{position}"}}')
    assert client.peer.session.handled == handled
    assert +client.peer.metrics.messages == {kind: 1}
    assert client.answers[3:] == (["error"] if kind == "bad" else [])


def test_client_messages_explain_a_report_of_the_future() -> None:
    client = Client()
    client.send('{"type":"handled","last_event_id":"e:1"}')
    assert client.peer.connection.messages[-1]["message"] == "e:1 is after e:0, the last position that was sent"


def test_client_messages_refuse_reports_if_receipts_are_off() -> None:
    client = Client()
    client.messages.reports = None
    client.send('{"type":"handled","last_event_id":"e:0"}')
    assert client.answers == ["error"]
    assert client.peer.session.handled is None


def test_client_messages_answer_a_ping_frame_uncounted() -> None:
    client = Client()
    client.take(PING, b"x")
    assert client.peer.connection.written[-1] == b"\x8a\x01x"
    assert (client.peer.session.messages_sent, client.peer.session.messages_received) == (1, 0)


def test_client_messages_close_on_a_binary_frame_and_ignore_what_follows() -> None:
    client = Client()
    client.take(BINARY, b"x")
    client.send('{"type":"ping"}')
    assert (client.peer.connection.ended, client.answers) == ([UNSUPPORTED], [])


def test_client_messages_refuse_text_that_is_not_utf8() -> None:
    with pytest.raises(FrameError) as caught:
        Client().take(TEXT, b"\xff")
    assert caught.value.close == BAD_UTF8


@pytest.mark.parametrize(("pause", "closed"), [(0.0, True), (INVALID_WINDOW, False)])
def test_client_messages_close_after_ten_invalid_ones_within_the_window_only(
    monkeypatch: pytest.MonkeyPatch, pause: float, closed: bool
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("wsbridge.transports.client_messages.time", SimpleNamespace(monotonic=lambda: now[0]))
    client = Client()
    for number in range(MAX_INVALID):
        assert client.peer.connection.ended == []
        if number == MAX_INVALID - 1:
            now[0] += pause
        client.send("nonsense")
    assert client.peer.connection.ended == ([POLICY] if closed else [])
    assert client.answers == ["error"] * MAX_INVALID
