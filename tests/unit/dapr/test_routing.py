"""The users of an event, the field that names them, and rejected data."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from wsbridge.config.settings import Settings
from wsbridge.core.events import Event, Rejected
from wsbridge.dapr.envelope import Message
from wsbridge.dapr.routing import MAX_SENT, MAX_USERS, Router

TOPICS = {"task-updates": "task_update", "orders": "order_update"}


def route(
    data: str | bytes,
    field: str = "user_id",
    *,
    subject: object = None,
    metadata: Mapping[str, Any] | None = None,
    max_bytes: int = 1_048_576,
    topic: str = "task-updates",
) -> Event | Rejected:
    data = data if isinstance(data, bytes) else data.encode()
    message = Message(data, "e-1", "backend\ne-1", subject, "a trace")
    return Router(TOPICS, field, max_bytes, escaped_keys=False).route(message, topic, metadata or {})


def outcome(event: Event | Rejected) -> object:
    return event.reason if isinstance(event, Rejected) else event.users


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        pytest.param('"u"', ("u",), id="string"),
        pytest.param('"\\u0075\\ud83d\\ude00"', ("u😀",), id="escapes"),
        pytest.param("7", ("7",), id="integer"),
        pytest.param("-7", ("-7",), id="negative"),
        pytest.param("0", ("0",), id="zero"),
        pytest.param("9" * 256, ("9" * 256,), id="256 digits"),
        pytest.param("9" * 257, "bad_user", id="257 digits"),
        pytest.param("9" * 10_000, "bad_user", id="10,000 digits"),
        pytest.param("7.0", "bad_user", id="fraction"),
        pytest.param("1e3", "bad_user", id="exponent"),
        pytest.param("false", "bad_user", id="false"),
        pytest.param("{}", "bad_user", id="object"),
        pytest.param("null", "no_user", id="null"),
        pytest.param('""', "no_user", id="empty"),
        pytest.param("[]", "no_user", id="empty list"),
        pytest.param('["u"]', ("u",), id="list of one"),
        pytest.param('["b","a",1,"b","1",1]', ("b", "a", "1"), id="doubled"),
        pytest.param('["u",null]', "bad_user", id="null in a list"),
        pytest.param('["u",1.5]', "bad_user", id="fraction in a list"),
        pytest.param('["u",true]', "bad_user", id="true in a list"),
        pytest.param('["u",["v"]]', "bad_user", id="list in a list"),
        pytest.param('["u",""]', "bad_user", id="empty in a list"),
        pytest.param(json.dumps("é" * 128), ("é" * 128,), id="256 bytes"),
        pytest.param(json.dumps("é" * 128 + "e"), "bad_user", id="257 bytes"),
        pytest.param(json.dumps(["u", "e" * 257]), "bad_user", id="257 bytes in a list"),
        pytest.param(json.dumps(list(range(1_000))), tuple(map(str, range(1_000))), id="1,000 users"),
        pytest.param(json.dumps(list(range(1_001))), "bad_user", id="1,001 users"),
    ],
)
def test_route_with_a_user_of_any_type_gives_users_or_a_rejection(users: str, expected: object) -> None:
    assert outcome(route(f'{{"user_id":{users}}}')) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("u", ("u",)), (7, ("7",)), (["a", 1, "a"], ("a", "1")), (True, "bad_user"), (1.5, "bad_user"),
     ({}, "bad_user"), ([["u"]], "bad_user"), ("", "no_user"), (None, "no_user")],
)  # fmt: skip
def test_route_by_subject_follows_the_same_rules(subject: object, expected: object) -> None:
    assert outcome(route("{}", "@subject", subject=subject)) == expected


@pytest.mark.parametrize(
    ("field", "body", "expected"),
    [
        pytest.param("a.b.c", '{"a":{"b":{"c":"u"}}}', ("u",), id="found"),
        pytest.param("a.b", '{"a":{"b":[1,2],"c":3},"b":4}', ("1", "2"), id="a list"),
        pytest.param("a.b", '{"a":{}}', "no_user", id="the last is missing"),
        pytest.param("a.b", "{}", "no_user", id="the first is missing"),
        pytest.param("a.b", '{"a":null}', "no_user", id="null in the path"),
        pytest.param("a.b", '{"a":"u"}', "bad_user", id="a string in the path"),
        pytest.param("a.b", '{"a":[{"b":"u"}]}', "bad_user", id="a list in the path"),
        pytest.param("a.b", '{"a.b":"u"}', "no_user", id="a name with a dot"),
        pytest.param("from", '{"from":"u"}', ("u",), id="a Python keyword"),
        pytest.param("user id", '{"user id":"u"}', ("u",), id="a name with a space"),
        pytest.param("é", '{"\\u00e9":"u"}', ("u",), id="not ASCII"),
        pytest.param("@subject", '{"user_id":"x"}', "no_user", id="no subject"),
        pytest.param("@key", '{"user_id":"x"}', "no_user", id="no key"),
    ],
)
def test_route_by_field_finds_the_user_at_its_path(field: str, body: str, expected: object) -> None:
    assert outcome(route(body, field)) == expected


@pytest.mark.parametrize("field", ["@subject", "@key"])
@pytest.mark.parametrize("data", ["[]", "7", "null", '"x"', '{"x":NaN}'])
def test_route_by_subject_or_key_rejects_data_that_is_not_an_object(field: str, data: str) -> None:
    assert isinstance(route(data, field, subject="u", metadata={"__key": "u"}), Rejected)


@pytest.mark.parametrize("field", ["@subject", "@key"])
def test_route_by_subject_or_key_does_not_read_a_field_of_that_name(field: str) -> None:
    event = route(f'{{"{field}":true}}', field, subject="u", metadata={"__key": "u"})
    assert outcome(event) == ("u",)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("u", ("u",)), (7, ("7",)), ("", "no_user"), ("\udcff", "bad_user"), ("x" * 257, "bad_user"), (["u"], ("u",))],
    ids=ascii,
)
def test_route_by_key_finds_the_user_in_the_kafka_key(key: object, expected: object) -> None:
    assert outcome(route("{}", "@key", metadata={"__key": key})) == expected


@pytest.mark.parametrize("escaped", [False, True])
def test_route_by_key_unescapes_it_only_if_set(escaped: bool) -> None:
    router = Router(TOPICS, "@key", 100, escaped_keys=escaped)
    event = router.route(Message(b"{}", "", "", None, ""), "orders", {"__key": "a%6Cice+1"})
    assert outcome(event) == (("alice 1",) if escaped else ("a%6Cice+1",))


def test_route_passes_on_data_identity_trace_and_time() -> None:
    data = b'{ "user_id":"u" }'
    event = route(data, metadata={"__timestamp": "1500"})
    assert event == Event(("u",), data, "task_update", "e-1", "backend\ne-1", "a trace", 1.5)


def test_route_gives_the_message_type_of_the_topic() -> None:
    event = route('{"user_id":"u"}', topic="orders")
    assert isinstance(event, Event)
    assert event.type == "order_update"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('{"user_id":"' + "u" * 6_000 + '"}', "the data has 6014 bytes; WSBRIDGE_MAX_EVENT_BYTES allows 6000"),
        (
            '{"userId":"u","a":1}',
            (
                "user_id has no user; the event's fields are a, userId: did you mean userId? Publish it in user_id, "
                "or change WSBRIDGE_USER_ID_FIELD for all publishers"
            ),
        ),
        ('{"user_id":true}', "user_id must be a string, an integer or a list of these"),
        ('{"user_id":[""]}', "a user in user_id is neither a string of 1 to 256 bytes nor an integer"),
        ('{"user_id":%s}' % ([7] * 1_001), "user_id has 1001 users, more than 1000; split the event"),
        (' {"user_id":true}', "user_id must be a string, an integer or a list of these"),
        ("[1]", "the data is JSON but not an object; publish a JSON object"),
        (b'{"user_id":"u","x":"\xff"}', "the data is not UTF-8; encode the JSON as UTF-8"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_route_that_rejects_says_which_event_what_is_wrong_and_what_to_do(data: str | bytes, text: str) -> None:
    rejected = route(data, max_bytes=6_000)
    assert isinstance(rejected, Rejected)
    assert (rejected.event_id, rejected.text) == ("e-1", text)


@pytest.mark.fault("D5")
def test_route_with_data_times_users_over_the_bound_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = b'{"user_id":["u"]}', b'{"user_id":["u","v"]}'
    monkeypatch.setattr("wsbridge.dapr.routing.MAX_SENT", 2 * len(two))
    assert outcome(route(two)) == ("u", "v")
    monkeypatch.setattr("wsbridge.dapr.routing.MAX_SENT", 2 * len(two) - 1)
    rejected = route(two)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.text) == (
        "too_large",
        "21 bytes of data for 2 users exceed 41 bytes in all; split the event",
    )
    assert outcome(route(one)) == ("u",)


def test_largest_event_by_default_for_the_most_users_is_within_the_bound() -> None:
    assert Settings().max_event_bytes * MAX_USERS <= MAX_SENT


@pytest.mark.parametrize("text", ["\udcff", "9" * 10_000])
def test_route_of_odd_coordinates_makes_short_texts_that_can_be_encoded(text: str) -> None:
    """One that cannot be encoded would break /stats until the next start."""
    event = route('{"user_id":"u"}', metadata={"__partition": text, "__offset": text})
    assert isinstance(event, Event)
    assert (len(event.partition.encode()), len(event.offset.encode())) == (64, 64)
