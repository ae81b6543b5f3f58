"""Frames of clients, fed byte by byte and at once, compared with another library's client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as ForeignFrame
from websockets.frames import Opcode

from tests.support.frames import frame as masked_with_zeros
from wsbridge.core.close_codes import BAD_UTF8, NO_STATUS, PROTOCOL_ERROR, TOO_LARGE, Close
from wsbridge.core.messages import MAX_MESSAGE_BYTES
from wsbridge.transports.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    FrameError,
    FrameReader,
    close_of,
    text_of,
)


def taken(reader: FrameReader) -> list[Frame]:
    found = []
    while (frame := reader.take()) is not None:
        found.append(frame)
    return found


def foreign(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    return ForeignFrame(Opcode(opcode), payload, final).serialize(mask=True)


@given(
    messages=st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(st.binary(max_size=200), min_size=1, max_size=4)),
        max_size=5,
    ),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_reader_fed_in_any_pieces_gives_the_messages_of_a_foreign_client(
    messages: list[tuple[int, list[bytes]]], cuts: list[int]
) -> None:
    data = b""
    for opcode, parts in messages:
        for n, part in enumerate(parts):
            data += foreign(CONTINUATION if n else opcode, part, final=n == len(parts) - 1)
            data += foreign(PING, b"between")
    reader, found, place = FrameReader(), list[Frame](), 0
    for n in range(len(data)):
        cut = cuts[n % len(cuts)]
        reader.feed(data[place : place + cut])
        found += taken(reader)
        place += cut
    assert [frame for frame in found if frame.opcode in (TEXT, BINARY)] == [
        Frame(opcode, b"".join(parts)) for opcode, parts in messages
    ]
    assert [frame.payload for frame in found if frame.opcode == PING] == [b"between"] * sum(
        len(parts) for _, parts in messages
    )
    assert (len(reader), reader.is_empty) == (0, True)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 16_384])
def test_reader_takes_every_length_up_to_the_bound(size: int) -> None:
    reader = FrameReader()
    reader.feed(foreign(TEXT, b"x" * size))
    assert taken(reader) == [Frame(TEXT, b"x" * size)]


def test_reader_takes_a_length_in_eight_bytes() -> None:
    reader = FrameReader()
    reader.feed(b"\x81\xff" + (3).to_bytes(8, "big") + bytes(4) + b"abc")
    assert taken(reader) == [Frame(TEXT, b"abc")]


@pytest.mark.parametrize("head", [b"\x81\xfe\x40\x01", b"\x81\xff" + (16_385).to_bytes(8, "big")])
def test_reader_refuses_a_message_that_is_too_large_by_its_head(head: bytes) -> None:
    reader = FrameReader()
    reader.feed(head[:-1])
    assert taken(reader) == []
    reader.feed(head[-1:])
    with pytest.raises(FrameError):
        taken(reader)


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_reader_takes_a_control_frame_of_125_bytes_within_a_message_of_any_size(opcode: int) -> None:
    reader = FrameReader()
    reader.feed(masked_with_zeros(TEXT, b"x" * MAX_MESSAGE_BYTES, final=False) + foreign(opcode, b"y" * 125))
    reader.feed(masked_with_zeros(CONTINUATION))
    assert taken(reader) == [Frame(CONTINUATION), Frame(opcode, b"y" * 125), Frame(TEXT, b"x" * MAX_MESSAGE_BYTES)]


def test_reader_after_a_message_in_parts_takes_one_of_the_full_size() -> None:
    reader = FrameReader()
    reader.feed(masked_with_zeros(TEXT, b"x", final=False) + masked_with_zeros(CONTINUATION, b"y"))
    reader.feed(foreign(TEXT, b"z" * MAX_MESSAGE_BYTES))
    assert taken(reader) == [Frame(CONTINUATION), Frame(TEXT, b"xy"), Frame(TEXT, b"z" * MAX_MESSAGE_BYTES)]


BAD: dict[str, tuple[bytes, Close]] = {
    "not masked": (b"\x81\x01x", PROTOCOL_ERROR),
    "not masked, empty": (b"\x89\x00", PROTOCOL_ERROR),
    "reserved bit": (masked_with_zeros(TEXT, b"x", reserved=4), PROTOCOL_ERROR),
    "opcode 3": (masked_with_zeros(3), PROTOCOL_ERROR),
    "opcode 15": (masked_with_zeros(15), PROTOCOL_ERROR),
    "fragmented ping": (masked_with_zeros(PING, final=False), PROTOCOL_ERROR),
    "fragmented close": (masked_with_zeros(CLOSE, final=False), PROTOCOL_ERROR),
    "long close": (masked_with_zeros(CLOSE, b"x" * 126), PROTOCOL_ERROR),
    "long pong": (masked_with_zeros(PONG, b"x" * 126), PROTOCOL_ERROR),
    "continuation of nothing": (masked_with_zeros(CONTINUATION), PROTOCOL_ERROR),
    "message within another": (masked_with_zeros(TEXT, final=False) + masked_with_zeros(TEXT), PROTOCOL_ERROR),
    "too large": (masked_with_zeros(TEXT, claims=MAX_MESSAGE_BYTES + 1), TOO_LARGE),
    "announced 2^63": (masked_with_zeros(TEXT, claims=2**63), TOO_LARGE),
    "too large in parts": (
        masked_with_zeros(TEXT, b"x" * MAX_MESSAGE_BYTES, final=False) + masked_with_zeros(CONTINUATION, b"x"),
        TOO_LARGE,
    ),
    "too large in three parts": (
        masked_with_zeros(TEXT, b"x" * (MAX_MESSAGE_BYTES // 2), final=False)
        + masked_with_zeros(CONTINUATION, b"x" * (MAX_MESSAGE_BYTES // 2), final=False)
        + masked_with_zeros(CONTINUATION, b"x"),
        TOO_LARGE,
    ),
}


@pytest.mark.fault("C11")
@pytest.mark.parametrize(("data", "close"), BAD.values(), ids=BAD)
def test_reader_refuses_forbidden_frames(data: bytes, close: Close) -> None:
    reader = FrameReader()
    reader.feed(data)
    with pytest.raises(FrameError) as refused:
        taken(reader)
    assert refused.value.close == close


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_close_with_a_code_that_may_be_sent_is_read(code: int) -> None:
    assert close_of(code.to_bytes(2, "big") + "bis später".encode()) == Close(code, "bis später")


def test_close_without_a_code_has_no_status() -> None:
    assert close_of(b"") == NO_STATUS


@pytest.mark.fault("C11")
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535])
def test_close_with_a_code_that_must_not_be_sent_is_a_protocol_error(code: int) -> None:
    with pytest.raises(FrameError) as refused:
        close_of(code.to_bytes(2, "big"))
    assert refused.value.close == PROTOCOL_ERROR


def test_close_of_one_byte_is_a_protocol_error() -> None:
    with pytest.raises(FrameError):
        close_of(b"\x03")


def test_reader_marks_text_that_is_not_utf8() -> None:
    assert text_of("ü".encode()) == "ü"
    for payload in (b"\xff", b"\xed\xa0\x80"):
        with pytest.raises(FrameError) as refused:
            text_of(payload)
        assert (refused.value.close, str(refused.value)) == (BAD_UTF8, "text that is not UTF-8")
    with pytest.raises(FrameError):
        close_of((1000).to_bytes(2, "big") + b"\xff")


def test_reader_keeps_only_the_parts_of_an_unfinished_message() -> None:
    reader = FrameReader()
    reader.feed(masked_with_zeros(TEXT, b"x", final=False))
    assert taken(reader) == [Frame(CONTINUATION)]
    assert [reader.is_empty, FrameReader().is_empty] == [False, True]
    reader.feed(masked_with_zeros(CONTINUATION) + masked_with_zeros(CLOSE))
    assert taken(reader) == [Frame(TEXT, b"x"), Frame(CLOSE)]
    assert reader.is_empty
