"""The message in a delivery: data, id, source, subject."""

import base64
import json
from typing import Any

import pytest

from wsbridge.core.events import Rejected
from wsbridge.dapr.envelope import Message, open_message, read_headers

AT = {"__partition": "3", "__offset": "41"}


def opened(posted: bytes, content_type: str | None = None, metadata: dict[str, Any] | None = None) -> Message:
    message = open_message(posted, "orders", metadata or {}, content_type=content_type, escaped=False)
    assert isinstance(message, Message)
    return message


def rejected(posted: bytes, content_type: str | None = None, metadata: dict[str, Any] | None = None) -> Rejected:
    message = open_message(posted, "orders", metadata or {}, content_type=content_type, escaped=False)
    assert isinstance(message, Rejected)
    return message


def test_open_message_in_an_envelope_gives_data_and_attributes() -> None:
    message = opened(
        b'{"specversion":"1.0","id":"a","source":"b","subject":"c","data": {"x": 1e2 } ,"traceparent":"t"}'
    )
    assert message == Message(b'{"x": 1e2 }', "a", "b\na", "c", "t")


def test_open_message_that_is_bare_gives_all_of_it_without_identity() -> None:
    assert opened(b' {"id":"a","source":"b"}\n') == Message(b'{"id":"a","source":"b"}', "a", "", None, "")
    assert opened(b'{"id":"a"}', metadata=AT).key == "\norders/3/41"


@pytest.mark.parametrize(
    ("posted", "content_type"),
    [
        pytest.param(b'"eyJ4IjoxfQ=="', "application/octet-stream", id="entry in base64"),
        pytest.param(b'"{\\"x\\":1}"', "text/plain", id="entry as a string"),
        pytest.param(b'{"x":1}', "application/json", id="entry as an object"),
        pytest.param(b'{"source":"Dapr","id":"new","data_base64":"eyJ4IjoxfQ=="}', None, id="single in base64"),
    ],
)
def test_open_message_that_is_verbatim_is_the_message_as_in_kafka(posted: bytes, content_type: str | None) -> None:
    assert opened(posted, content_type, AT) == Message(b'{"x":1}', "orders/3/41", "\norders/3/41", None, "")


def test_open_message_that_is_verbatim_is_unwrapped_once() -> None:
    inner = b'{"specversion":"1.0","source":"Dapr","id":"i","data_base64":"e30="}'
    outer = json.dumps({"source": "Dapr", "id": "o", "data_base64": base64.b64encode(inner).decode()}).encode()
    assert opened(outer).key == "Dapr\ni"


def test_open_message_of_a_single_delivery_never_reads_a_string_as_a_message() -> None:
    assert rejected(b'"{}"').reason == "not_an_object"


@pytest.mark.parametrize(
    ("attribute", "value", "key"),
    [
        ("specversion", 1.0, "b\na"),
        ("id", 7, "b\n7"),
        ("id", [7], ""),
        ("source", None, ""),
        pytest.param("source", 10**300, "", id="a huge number"),
        ("traceparent", 7, "b\na"),
        ("expiration", ["now"], "b\na"),
        ("expiration", 7, "b\na"),
    ],
)
def test_open_message_with_a_mistyped_attribute_keeps_the_data(attribute: str, value: object, key: str) -> None:
    sound = {"specversion": "1.0", "id": "a", "source": "b"}
    message = opened(json.dumps(sound | {attribute: value, "data": {}}).encode())
    assert (message.data, message.key) == (b"{}", key)


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"specversion":"1.0","data":{"a":1}}', b'{"a":1}'),
        (b'{"specversion":"1.0","data":"{}"}', b"{}"),
        (b'{"specversion":"1.0","data":"\\ufeff{}"}', b"{}"),
        (b'{"specversion":"1.0","data_base64":"77u/e30="}', b"{}"),
        (b'{"specversion":"1.0","data":7,"data_base64":"e30="}', b"{}"),
    ],
)
def test_open_message_gives_the_data_without_a_byte_order_mark(body: bytes, data: bytes) -> None:
    assert opened(body).data == data


@pytest.mark.parametrize(
    ("posted", "content_type", "reason"),
    [
        (b"", None, "not_json"),
        (b"null", None, "not_an_object"),
        (b"[]", None, "not_an_object"),
        (b"{", None, "not_json"),
        (b'{"specversion":"1.0"}', None, "no_data"),
        (b'{"specversion":"1.0","data":null}', None, "no_data"),
        (b'{"specversion":"1.0","data_base64":"%"}', None, "not_json"),
        (b'{"specversion":"1.0","data":"\xff"}', None, "bad_utf8"),
        (b'{"specversion":"1.0","data":{},"expiration":"2026-02-07T12:00:00Z"}', None, "expired"),
        (b'{"source":"Dapr","data_base64":"%"}', None, "not_json"),
        (b'"%%%"', "application/octet-stream", "not_json"),
        (b'"e30"', "application/octet-stream", "not_json"),
        (b'"\xff"', "text/plain", "bad_utf8"),
    ],
)
def test_open_message_that_is_rejected_has_reason_and_id(posted: bytes, content_type: str | None, reason: str) -> None:
    found = rejected(posted, content_type, AT)
    assert (found.reason, found.event_id) == (reason, "orders/3/41")
    assert rejected(posted, content_type, AT | {"ce_id": "e-1"}).event_id == "e-1"


@pytest.mark.parametrize(
    ("posted", "text"),
    [
        (b'{"specversion":"1.0"}', "the CloudEvent has no data; publish a JSON object as its data"),
        (
            b'{"specversion":"1.0","data":{},"expiration":"2026-02-07T12:00:00Z"}',
            "the event's time to live ended at 2026-02-07T12:00:00Z, before it was delivered",
        ),
        (
            b'{"specversion":"1.0","data":{},"expiration":"2026-02-07T12:00:00.%sZ"}' % (b"0" * 10_000),
            f"the event's time to live ended at 2026-02-07T12:00:00.{'0' * 44}, before it was delivered",
        ),
    ],
)
def test_open_message_that_is_rejected_says_why(posted: bytes, text: str) -> None:
    assert rejected(posted).text == text


def test_open_message_with_an_empty_specversion_is_bare() -> None:
    posted = b'{"specversion":"","id":"a","source":"b","data":{}}'
    assert opened(posted) == Message(posted, "a", "", None, "")


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
def test_read_headers_of_binary_mode_gives_an_envelope(headers: dict[str, str], escaped: bool) -> None:
    envelope = read_headers(headers, escaped=escaped)
    assert (envelope.specversion, envelope.id, envelope.source, envelope.subject) == (
        "1.0",
        "e-1",
        "https://example.com/backend",
        "a+b@example.com",
    )
    assert envelope.has_expired()


def test_read_headers_that_are_not_set_to_be_escaped_unescapes_only_the_expiration() -> None:
    envelope = read_headers(ESCAPED, escaped=False)
    assert envelope.subject == "a%2Bb%40example.com"
    assert envelope.has_expired()


@pytest.mark.parametrize("value", [None, 1.5, [], {}, True])
def test_read_headers_of_another_type_counts_them_as_missing(value: Any) -> None:
    envelope = read_headers({"ce_specversion": "1.0", "ce_id": value, "ce_expiration": value}, escaped=True)
    assert (envelope.id, envelope.has_expired()) == ("", False)


def test_open_message_with_cloudevents_headers_but_no_specversion_is_bare() -> None:
    assert opened(b"{}", metadata={"ce_id": "e-1", "ce_source": "s"}).key == ""


def test_open_message_gives_the_seconds_of_the_receipt_that_the_publisher_asks_for() -> None:
    assert opened(b'{"specversion":"1.0","data":{},"wsreceipt":60}').receipt == 60.0
    assert opened(b"{}", metadata={"ce_specversion": "1.0", "ce_wsreceipt": "60"}).receipt == 60.0
    assert opened(b'{"specversion":"1.0","data":{}}').receipt is None
    assert opened(b"{}", metadata={"ce_specversion": "1.0"}).receipt is None
