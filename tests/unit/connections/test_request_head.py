"""The end of heads and bodies in any chunks; tests on real sockets are in test_guard and test_faults."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.connections.request_head import (
    MAX_CHUNK_LINE,
    MAX_LINES,
    Chunks,
    Head,
    Length,
    Malformed,
    check_start,
    largest_field,
)

GET = b"GET /ws?user_id=u1 HTTP/1.1\r\nHost: a\r\n"


def head(*lines: bytes, request: bytes = b"GET / HTTP/1.1") -> Head:
    return Head(b"\r\n".join([request, *lines, b"", b""]))


def test_field_is_found_by_its_name_in_any_case() -> None:
    found = head(b"Host: a", b"X-Expect: no", b"EXPECT:  100-Continue ")
    assert found.field(b"expect") == b"100-Continue"
    assert found.field(b"upgrade") is None


@pytest.mark.fault("H4")
@pytest.mark.parametrize(
    "bad",
    [
        head(request=b"GET / HTTP/2.0"),
        head(b"X: HTTP/1.1", request=b"GET / HTTP/2.0 "),
        head(request=b"GET / HTTP/1.2"),
        head(request=b"GET /"),
        head(request=b"PRI * HTTP/2.0"),
        head(b"Expect: \xff"),
        head(b"expect: 200-ok"),
        head(b"A: b", b" folded"),
        head(*[b"A: b"] * (MAX_LINES + 1)),
    ],
    ids=lambda found: ascii(found.raw[-40:]),
)
def test_check_of_a_malformed_head_raises(bad: Head) -> None:
    with pytest.raises(Malformed):
        bad.check()


@pytest.mark.parametrize(
    "good", [head(), head(request=b"GET / HTTP/1.0"), head(b"Expect: 100-continue"), head(*[b"A: b"] * MAX_LINES)]
)
def test_check_of_a_valid_head_passes(good: Head) -> None:
    good.check()


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"\x00", b" GET", b"GET / HTTP/1.1\nHost: a"])
def test_check_start_of_other_protocols_raises(start: bytes) -> None:
    with pytest.raises(Malformed):
        check_start(start, 0)


def test_check_start_checks_new_bytes_only() -> None:
    check_start(b"GET / HTTP/1.1\r\nHos", 0)
    check_start(b"GET / HTTP/1.1\r\nHost: a\r\n", 20)
    with pytest.raises(Malformed):
        check_start(b"GET / HTTP/1.1\r\nHost: a\n", 23)


@pytest.mark.fault("D6")
def test_largest_field_returns_name_and_size() -> None:
    assert largest_field(GET + b"Cookie: " + b"x" * 100) == ("Cookie", 108)
    assert largest_field(b"GET /" + b"x" * 100) == ("request line", 105)
    assert largest_field(GET + b"\xff" * 9_000 + b"\r\n")[0].isascii()


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([], Length),
        ([b"Content-Length: 5"], Length),
        ([b"Transfer-Encoding: chunked"], Chunks),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], Chunks),
    ],
)
def test_body_follows_the_headers(lines: list[bytes], kind: type) -> None:
    assert isinstance(head(*lines).body(), kind)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 50, b"5, 5", b"+5", b""])
def test_body_with_a_malformed_length_is_empty(length: bytes) -> None:
    assert head(b"Content-Length: " + length).body().is_done


def fed(body: Length | Chunks, data: bytes, cuts: list[int]) -> int:
    """The number of bytes that belong to the body, fed in these chunks."""
    taken, at = 0, 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        if not body.is_done:
            taken += body.feed(data[at:end])
        at = end
    return taken


CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@given(chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6), trailer=st.booleans(), cuts=CUTS)
def test_chunks_end_after_the_last_chunk(chunks: list[bytes], trailer: bool, cuts: list[int]) -> None:
    body = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    body += b"0\r\n" + (b"X-Sum: 1\r\n" if trailer else b"") + b"\r\n"
    found = Chunks()
    assert fed(found, body + b"GET / HTTP/1.1\r\n", cuts) == len(body)
    assert found.is_done


@given(size=st.integers(0, 500), cuts=CUTS)
def test_length_ends_after_its_bytes(size: int, cuts: list[int]) -> None:
    found = Length(size)
    assert fed(found, b"x" * size + b"GET /", cuts) == size
    assert found.is_done


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n", b"\r\n", b"-1\r\n", b"2\r\nxx\r\nzz\r\n", b"2\r\nxxx\r\n", b"2\r\nxx\n", b"2\n", b"2x\r\n",
        b"2;\x00\r\n",
    ],
)  # fmt: skip
def test_malformed_chunks_raise(data: bytes) -> None:
    with pytest.raises(Malformed):
        Chunks().feed(data)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("line", [b"5;" + b"x" * MAX_CHUNK_LINE, b"0\r\n" + b"X: y\r\n" * MAX_CHUNK_LINE])
def test_chunks_with_long_lines_raise(line: bytes) -> None:
    body = Chunks()
    pieces = [line[n : n + 100] for n in range(0, len(line), 100)]
    with pytest.raises(Malformed):
        list(map(body.feed, pieces))
