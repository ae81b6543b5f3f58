"""Frames of the server, compared with the vectors and with the decoder of another library."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets import frames as foreign
from websockets.streams import StreamReader

from tests.support.running import ROOT
from wsbridge.core.close_codes import CLOSES, LOST, NO_STATUS, Close
from wsbridge.core.frames import PING_FRAME, close_frame, pong_frame, text_frame
from wsbridge.core.messages import PONG

VECTORS = {
    name: json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("closes", "frames")
}
EDGES = st.sampled_from([0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537])


def decoded(data: bytes) -> foreign.Frame:
    """The only frame in the data, as the other library decodes it."""
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


@pytest.mark.parametrize("case", VECTORS["frames"]["heads"], ids=lambda case: f"{case['kind']} of {case['times']}")
def test_frame_of_each_size_has_the_head_of_its_vector(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["byte"]) * case["times"]
    frame = {"text": text_frame, "pong": pong_frame}[case["kind"]](payload)
    assert frame == bytes.fromhex(case["head"]) + payload


def test_whole_frames_equal_their_vectors() -> None:
    made = [PING_FRAME, pong_frame(b""), close_frame(NO_STATUS), text_frame(PONG)]
    assert [frame.hex() for frame in made] == [case["frame"] for case in VECTORS["frames"]["whole"]]


@given(EDGES | st.integers(0, 200_000))
def test_text_frame_of_any_size_is_read_by_another_library(size: int) -> None:
    frame = decoded(text_frame(b"x" * size))
    assert (frame.opcode, frame.fin, len(frame.data)) == (foreign.Opcode.TEXT, True, size)
    assert (frame.rsv1, frame.rsv2, frame.rsv3) == (False, False, False)


@given(st.binary(max_size=125))
def test_pong_frame_with_any_payload_is_read_by_another_library(payload: bytes) -> None:
    frame = decoded(pong_frame(payload))
    assert (frame.opcode, frame.data) == (foreign.Opcode.PONG, payload)


def test_ping_frame_is_read_by_another_library() -> None:
    assert decoded(PING_FRAME).opcode == foreign.Opcode.PING


@pytest.mark.parametrize("case", VECTORS["closes"]["closes"], ids=lambda case: f"{case['code']} {case['reason']}")
def test_close_frame_equals_its_vector(case: dict[str, Any]) -> None:
    assert close_frame(Close(case["code"], case["reason"])).hex() == case["frame"]


@pytest.mark.parametrize("close", CLOSES, ids=lambda close: f"{close.code} {close.reason}")
def test_close_frame_is_read_by_another_library(close: Close) -> None:
    frame = decoded(close_frame(close))
    assert frame.opcode == foreign.Opcode.CLOSE
    found = foreign.Close.parse(frame.data)
    assert (found.code, found.reason) == close


@pytest.mark.parametrize("close", [NO_STATUS, LOST], ids=str)
def test_close_frame_with_a_code_that_must_not_be_sent_is_empty(close: Close) -> None:
    assert decoded(close_frame(close)).data == b""


def test_close_frame_with_a_long_reason_is_cut_to_125_bytes() -> None:
    assert len(decoded(close_frame(Close(1011, "x" * 200))).data) == 125
