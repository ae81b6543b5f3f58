"""Parses complete request heads with aiohttp's parser, before they are answered or passed on to its protocol."""

import asyncio

from aiohttp import http_exceptions
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage

from wsbridge.connections.request_head import MAX_LINES, Head, Malformed

_REQUEST_LINE = (http_exceptions.InvalidURLError, http_exceptions.BadStatusLine)  # of which a BadHttpMethod is one


def parse(head: Head, max_header_bytes: int) -> RawRequestMessage:
    """Parse a head.

    Raises `Malformed`, whose text contains nothing of the head, because that may have a token.
    """
    head.check()
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(
        BaseProtocol(loop),  # of no connection: the parser resumes it at the end of an empty body
        loop,
        0,
        max_line_size=max_header_bytes,
        max_field_size=max_header_bytes,
        max_headers=MAX_LINES,
        auto_decompress=False,
    )
    try:
        messages, _, _ = parser.feed_data(head.raw)
    except _REQUEST_LINE:
        raise Malformed("the method or the target of the request line is malformed") from None
    except HttpProcessingError as error:
        raise Malformed(f"a header is malformed: {error.message.partition(':')[0].strip()}") from None
    if len(messages) != 1:
        raise Malformed("the head is not that of one request")
    return messages[0][0]
