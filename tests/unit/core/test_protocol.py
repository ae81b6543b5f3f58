"""The wire, byte for byte: messages, frames, closes; held against the vectors and against a foreign decoder."""

import json
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets import frames as foreign
from websockets.streams import StreamReader

from tests.support.running import ROOT
from wsbridge.core import protocol
from wsbridge.core.events import Entry
from wsbridge.core.protocol import (
    CLOSES,
    LOST,
    NO_STATUS,
    PING_FRAME,
    PONG,
    TOKEN_EXPIRED,
    Auth,
    Bad,
    Close,
    Ping,
    Refused,
)

VECTORS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "tests" / "vectors").glob("*")}
MESSAGES, CLOSED, FRAMES = VECTORS["messages"], VECTORS["closes"], VECTORS["frames"]
MEANINGS = {"ping": Ping, "auth": Auth, "bad": Bad}
EDGES = st.sampled_from([0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537])


def decoded(data: bytes) -> foreign.Frame:
    """The one frame that there is, as a foreign client reads it."""
    stream = StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    parsing = foreign.Frame.parse(stream.read_exact, mask=False)
    try:
        next(parsing)
    except StopIteration as end:
        assert not stream.buffer
        frame: foreign.Frame = end.value
        return frame
    raise AssertionError("a frame is cut off")


@pytest.mark.parametrize("case", MESSAGES["server"], ids=lambda case: case["name"])
def test_a_message_of_the_server_is_as_the_vectors_say(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "timestamp", lambda: MESSAGES["now"])
    make: Callable[..., bytes] = getattr(protocol, case["made_by"])
    hints = get_type_hints(make)
    arguments = {name: value for name, value in case["from"].items() if name != "entry"}
    arguments = {name: msgspec.convert(value, hints[name]) for name, value in arguments.items()}
    if "entry" in case["from"]:
        arguments["entry"] = Entry(**case["from"]["entry"] | {"data": case["from"]["entry"]["data"].encode()})
    assert make(**arguments).decode() == case["text"]


@pytest.mark.parametrize("case", MESSAGES["client"], ids=lambda case: case["text"])
def test_a_message_of_a_client_is_taken_as_the_vectors_say(case: dict[str, Any]) -> None:
    message = protocol.read(case["text"])
    assert type(message) is MEANINGS[case["means"]]
    if isinstance(message, Auth):
        assert message.token == case["token"]


@given(st.text(st.characters()) | st.text(st.sampled_from('{}[]":,typeaungk 0\ud800')))
@example("[" * 100_000)
@example('{"type":"ping","x":%s}' % ("9" * 10_000))
@settings(deadline=None)
def test_no_message_raises_and_what_is_wrong_is_said_in_one_line(text: str) -> None:
    message = protocol.read(text)
    assert not isinstance(message, Bad) or message.text.isprintable()


def test_a_pong_has_nothing_else_in_it() -> None:
    assert json.loads(PONG) == {"type": "pong"}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.integers(0, 2**60), st.booleans())
@settings(deadline=None)
def test_an_update_holds_the_data_untouched(fields: dict[str, object], offset: int, ascii_only: bool) -> None:
    data = json.dumps(fields, ensure_ascii=ascii_only, indent=1).encode()
    frame = protocol.update(Entry("u", "k3f9x2", offset, "task_update", data, "2026-02-07T12:00:00.000Z", 0.0, "e-1"))
    assert data in frame
    assert json.loads(frame) == {
        "type": "task_update",
        "event": fields,
        "timestamp": "2026-02-07T12:00:00.000Z",
        "id": f"k3f9x2:{offset}",
    }


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_770_465_600, "2026-02-07T12:00:00.000Z"),
        (1_770_465_600.0419, "2026-02-07T12:00:00.041Z"),
        (1_770_465_600.9999, "2026-02-07T12:00:00.999Z"),
    ],
)
def test_a_timestamp_is_utc_with_milliseconds(at: float, text: str) -> None:
    assert protocol.timestamp(at) == text


def test_a_timestamp_is_now_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_770_465_600.25)
    assert protocol.timestamp() == "2026-02-07T12:00:00.250Z"


def test_a_refusal_has_its_close_and_says_why() -> None:
    assert Refused(TOKEN_EXPIRED).close == TOKEN_EXPIRED
    assert str(Refused(TOKEN_EXPIRED)) == "token_expired"
    assert str(Refused(TOKEN_EXPIRED, "it ended in 1970")) == "it ended in 1970"


# Frames.


@pytest.mark.parametrize("case", FRAMES["heads"], ids=lambda case: f"{case['kind']} of {case['times']}")
def test_a_frame_begins_as_the_vectors_say(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["byte"]) * case["times"]
    frame = {"text": protocol.text_frame, "pong": protocol.pong_frame}[case["kind"]](payload)
    assert frame == bytes.fromhex(case["head"]) + payload


def test_whole_frames_are_as_the_vectors_say() -> None:
    made = [PING_FRAME, protocol.pong_frame(b""), protocol.close_frame(NO_STATUS), protocol.text_frame(PONG)]
    assert [frame.hex() for frame in made] == [case["frame"] for case in FRAMES["whole"]]


@given(EDGES | st.integers(0, 200_000))
@settings(deadline=None)
def test_a_foreign_client_reads_every_size(size: int) -> None:
    frame = decoded(protocol.text_frame(b"x" * size))
    assert (frame.opcode, frame.fin, len(frame.data)) == (foreign.Opcode.TEXT, True, size)
    assert (frame.rsv1, frame.rsv2, frame.rsv3) == (False, False, False)


@given(st.binary(max_size=125))
@settings(deadline=None)
def test_a_foreign_client_reads_its_pong(payload: bytes) -> None:
    frame = decoded(protocol.pong_frame(payload))
    assert (frame.opcode, frame.data) == (foreign.Opcode.PONG, payload)
    assert decoded(PING_FRAME).opcode == foreign.Opcode.PING


# Closes.


@pytest.mark.parametrize("close", CLOSES, ids=lambda close: f"{close.code} {close.reason}")
def test_a_foreign_client_reads_every_close(close: Close) -> None:
    frame = decoded(protocol.close_frame(close))
    assert frame.opcode == foreign.Opcode.CLOSE
    found = foreign.Close.parse(frame.data)
    assert (found.code, found.reason) == close


@pytest.mark.parametrize("case", CLOSED["closes"], ids=lambda case: f"{case['code']} {case['reason']}")
def test_a_close_is_as_the_vectors_say(case: dict[str, Any]) -> None:
    close = Close(case["code"], case["reason"])
    assert close in CLOSES
    assert protocol.close_frame(close).hex() == case["frame"]
    assert close.reconnect is case["reconnect"] is (case["client"] != "stop")


def test_the_vectors_have_every_close() -> None:
    assert {(case["code"], case["reason"]) for case in CLOSED["closes"]} == set(CLOSES)
    assert len(CLOSED["closes"]) == len(set(CLOSES)) == len(CLOSES)


@pytest.mark.parametrize("case", CLOSED["any_code"], ids=lambda case: str(case["code"]))
def test_whether_to_come_back_can_be_told_from_the_code_alone(case: dict[str, Any]) -> None:
    assert Close(case["code"], "whatever").reconnect is case["reconnect"]


@pytest.mark.parametrize("close", [NO_STATUS, LOST], ids=str)
def test_a_code_that_must_not_be_sent_is_not(close: Close) -> None:
    assert decoded(protocol.close_frame(close)).data == b""


def test_a_reason_that_is_too_long_is_cut() -> None:
    assert len(decoded(protocol.close_frame(Close(1011, "x" * 200))).data) == 125


@pytest.mark.fault("E7")
@pytest.mark.parametrize("close", [*CLOSES, Close(1006, "lost"), Close(1006, "ping_timeout")])
def test_close_of_ours_is_counted_by_code_and_reason(close: Close) -> None:
    assert protocol.counted(close) == (str(close.code), close.reason)
    assert protocol.counted(close) in protocol.CLOSE_LABELS


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_close_of_a_client_is_counted_without_its_text(code: int) -> None:
    assert protocol.counted(Close(code, "what a client makes up")) == (str(code), "client")


@pytest.mark.parametrize("code", [0, 999, 1004, 1015, 2999, 3000, 4000, 4401, 4402, 4999, 65_535])
def test_codes_that_clients_make_up_are_counted_as_one(code: int) -> None:
    assert protocol.counted(Close(code, "made up")) == ("other", "client")
