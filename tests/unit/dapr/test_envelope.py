"""CloudEvents in JSON and in headers; what becomes of the events in them is test_cloudevents' business."""

import json
from typing import Any

import pytest

from wsbridge.core.events import Rejected, is_user
from wsbridge.dapr.envelope import Envelope, read_envelope, read_headers, unescaped, word


def enveloped(body: bytes) -> Envelope:
    envelope = read_envelope(body)
    assert isinstance(envelope, Envelope)
    return envelope


def test_an_envelope_keeps_the_data_as_it_stands() -> None:
    envelope = enveloped(b'{"specversion":"1.0","id":"a","source":"b","subject":"c","data": {"x": 1e2 } }')
    assert (envelope.specversion, envelope.id, envelope.source, envelope.subject) == ("1.0", "a", "b", "c")
    assert bytes(envelope.data) == b'{"x": 1e2 }'


def test_what_stands_bare_has_no_specversion() -> None:
    assert enveloped(b'{"user_id":"u"}').specversion == ""


@pytest.mark.parametrize(
    ("attribute", "value", "read"),
    [
        ("specversion", 1.0, "1.0"),
        ("specversion", None, ""),
        ("id", 7, "7"),
        ("id", [7], ""),
        ("source", None, ""),
        pytest.param("source", 10**300, "", id="a huge number"),
        ("traceparent", 7, "7"),
        ("expiration", ["now"], ""),
    ],
)
def test_a_mistyped_attribute_does_not_cost_the_data(attribute: str, value: object, read: object) -> None:
    sound = {"specversion": "1.0", "id": "a", "source": "b"}
    envelope = enveloped(json.dumps(sound | {attribute: value, "data": {}}).encode())
    assert getattr(envelope, attribute) == read
    assert bytes(envelope.data) == b"{}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "not_json"), (b"null", "not_an_object"), (b"[]", "not_an_object"), (b"{", "not_json")],
)
def test_what_is_no_object_has_no_envelope(body: bytes, reason: str) -> None:
    rejected = read_envelope(body)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), ("", ""), (7, "7"), (-1, "-1"), (True, ""), (1.5, ""), (None, ""), ([], ""), (10**300, "")],
)
def test_words(value: Any, expected: str) -> None:
    assert word(value) == expected


def test_an_envelope_is_made_of_defaults_only() -> None:
    assert Envelope().specversion == ""
    assert bytes(Envelope().data) == b""


BINARY = {
    "ce_specversion": "1.0",
    "ce_id": "e-1",
    "ce_source": "https://example.com/backend",
    "ce_subject": "a+b@example.com",
    "ce_expiration": "2026-02-07T12:00:00Z",
}
ESCAPED = {
    "ce_specversion": "1.0",
    "ce_id": "e-1",
    "ce_source": "https%3A%2F%2Fexample.com%2Fbackend",
    "ce_subject": "a%2Bb%40example.com",
    "ce_expiration": "2026-02-07T12%3A00%3A00Z",
}


@pytest.mark.fault("H1")
@pytest.mark.parametrize(("headers", "escaped"), [(BINARY, False), (ESCAPED, True)])
def test_headers_of_binary_mode_are_an_envelope(headers: dict[str, str], escaped: bool) -> None:
    envelope = read_headers(headers, escaped=escaped)
    assert envelope is not None
    assert (envelope.specversion, envelope.id, envelope.source, envelope.subject) == (
        "1.0",
        "e-1",
        "https://example.com/backend",
        "a+b@example.com",
    )
    assert envelope.has_expired()


def test_headers_without_a_specversion_are_no_envelope() -> None:
    assert read_headers({"ce_id": "e-1", "ce_source": "s"}, escaped=False) is None


def test_headers_that_are_not_said_to_be_escaped_stay_as_they_are_but_for_the_time() -> None:
    envelope = read_headers(ESCAPED, escaped=False)
    assert envelope is not None
    assert envelope.subject == "a%2Bb%40example.com"
    assert envelope.has_expired()


@pytest.mark.parametrize("value", [None, 1.5, [], {}, True])
def test_headers_that_are_no_text_count_as_missing(value: Any) -> None:
    envelope = read_headers({"ce_specversion": "1.0", "ce_id": value, "ce_expiration": value}, escaped=True)
    assert envelope is not None
    assert (envelope.id, envelope.has_expired()) == ("", False)


@pytest.mark.parametrize(
    ("text", "plain"), [("a%20b", "a b"), ("a+b", "a b"), ("%C3%BC", "ü"), ("%zz", "%zz"), ("", "")]
)
def test_unescaped_text_is_what_go_escaped(text: str, plain: str) -> None:
    assert unescaped(text) == plain


def test_unescaped_text_that_was_no_utf8_is_no_user() -> None:
    assert not is_user(unescaped("%ff"))


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"specversion":"1.0","data":{"a":1}}', b'{"a":1}'),
        (b'{"specversion":"1.0","data":"{}"}', b"{}"),
        (b'{"specversion":"1.0","data":"\\ufeff{}"}', b"{}"),
        (b'{"specversion":"1.0","data_base64":"77u/e30="}', b"{}"),
    ],
)
def test_content_of_an_envelope_is_its_data_without_a_byte_order_mark(body: bytes, content: bytes) -> None:
    assert enveloped(body).content() == content


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"specversion":"1.0"}', "no_data"),
        (b'{"specversion":"1.0","data":null}', "no_data"),
        (b'{"specversion":"1.0","data_base64":"%"}', "not_json"),
        (b'{"specversion":"1.0","data":"\xff"}', "bad_utf8"),
    ],
)
def test_content_that_is_missing_or_broken_is_rejected(body: bytes, reason: str) -> None:
    content = enveloped(body).content()
    assert isinstance(content, Rejected)
    assert content.reason == reason
