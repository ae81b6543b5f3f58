"""A request head in any number of chunks."""

import pytest

from wsbridge.connections.head_buffer import HeadBuffer
from wsbridge.connections.request_head import Malformed

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
def test_head_buffer_given_two_pieces_returns_head_and_rest(cut: int) -> None:
    buffer = HeadBuffer(1_000)
    assert buffer.add(HEAD[:cut]) is None
    assert buffer.add(HEAD[cut:] + b"rest") == (HEAD, b"rest")
    assert len(buffer) == 0


def test_head_buffer_given_a_whole_head_keeps_nothing() -> None:
    buffer = HeadBuffer(1_000)
    assert buffer.add(HEAD + HEAD) == (HEAD, HEAD)
    assert len(buffer) == 0


def test_head_buffer_over_its_limit_is_too_large_and_keeps_the_head() -> None:
    buffer = HeadBuffer(20)
    assert buffer.add(HEAD[:-2]) is None
    assert buffer.is_too_large
    assert buffer.peek() == HEAD[:-2]


def test_head_buffer_given_bytes_that_are_not_http_raises() -> None:
    with pytest.raises(Malformed):
        HeadBuffer(1_000).add(b"\x16\x03\x01")


def test_head_buffer_holds_a_later_request_unread_until_cleared() -> None:
    buffer = HeadBuffer(1_000)
    buffer.hold(HEAD)
    buffer.hold(b"GET /2")
    assert buffer.clear() == HEAD + b"GET /2"
    assert len(buffer) == 0
