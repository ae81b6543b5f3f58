"""Ready-made responses are valid for an HTTP or a WebSocket client."""

import json
from http import HTTPStatus

from wsbridge.connections import canned_responses


def test_problem_is_an_http_response_that_closes_the_connection() -> None:
    head, _, body = canned_responses.problem(HTTPStatus.TOO_MANY_REQUESTS, "Too many.", retry_after=1).partition(
        b"\r\n\r\n"
    )
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 429 Too Many Requests"
    assert {"Connection: close", "Retry-After: 1", f"Content-Length: {len(body)}"} <= set(lines)
    assert json.loads(body) == {
        "type": "about:blank", "title": "Too Many Requests", "status": 429, "detail": "Too many."
    }  # fmt: skip


def test_overloaded_accepts_the_handshake_and_closes_with_1013() -> None:
    answer = canned_responses.overloaded(b"dGhlIHNhbXBsZSBub25jZQ==")  # RFC 6455 §1.3
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" in answer
    assert b'"type":"goodbye"' in answer
    assert answer.endswith((1013).to_bytes(2, "big") + b"overloaded")
