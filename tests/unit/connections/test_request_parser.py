"""What aiohttp's parser refuses, in words that contain nothing of the request."""

import pytest

from wsbridge.connections.request_head import Head, Malformed
from wsbridge.connections.request_parser import parse

LINE = b"GET /ws?token=SECRET HTTP/1.1"
HOST = b"Host: a"
REQUEST_LINE = "the method or the target of the request line is malformed"


def head(*lines: bytes) -> Head:
    return Head(b"\r\n".join([*lines, b"", b""]))


async def test_parse_returns_the_request() -> None:
    message = parse(head(LINE, HOST, b"X-More: \xff"), 1_000)
    assert (message.method, message.path, message.headers["host"]) == ("GET", "/ws?token=SECRET", "a")


async def test_parse_of_a_head_with_an_empty_body_reads_no_connection() -> None:
    assert parse(head(b"CONNECT a:1 HTTP/1.1", HOST), 1_000).method == "CONNECT"


@pytest.mark.fault("H4")
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([b"GET /ws?token=SECRET\xff HTTP/1.1", HOST], REQUEST_LINE),
        ([b"GET /ws token=SECRET HTTP/1.1", HOST], REQUEST_LINE),
        ([b"GET http://[SECRET HTTP/1.1", HOST], REQUEST_LINE),
        ([b"G@T /SECRET HTTP/1.1", HOST], REQUEST_LINE),
        ([LINE, HOST, b"SEC RET: x"], "a header is malformed: Invalid header token"),
        ([LINE, HOST, b"X: SECRET\x00"], "a header is malformed: Invalid header value char"),
        ([LINE, HOST, b"Host: SECRET"], "a header is malformed: Duplicate 'Host' header found."),
        ([LINE, HOST, b"Content-Length: SECRET"], "a header is malformed: Invalid character in Content-Length"),
        ([b"GET /SECRET HTTP/2.0", HOST], "the request line does not end with HTTP/1.1 or HTTP/1.0"),
    ],
)
async def test_parse_of_a_malformed_head_raises(lines: list[bytes], why: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(head(*lines), 1_000)
    assert str(caught.value) == why
