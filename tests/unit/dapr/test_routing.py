"""What a sidecar posts → events, in every form, and what must not be taken for one."""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.growth import LINEAR, growth
from tests.support.running import ROOT
from wsbridge.config.settings import Settings
from wsbridge.core.events import Event, Rejected
from wsbridge.dapr.payload import MAX_DEPTH
from wsbridge.dapr.routing import MAX_SENT, MAX_USERS, EventReader

VECTORS = json.loads((ROOT / "tests" / "vectors" / "events.json").read_text(encoding="utf-8"))
TOPIC = "task-updates"
AT = {"__key": "k", "__partition": "3", "__offset": "41"}
ELSEWHERE = {**AT, "__offset": "42"}


def reader(user_field: str = "user_id", max_bytes: int = 1_048_576, *, escaped_headers: bool = False) -> EventReader:
    types = {TOPIC: "task_update", "orders": "order_update"}
    return EventReader(types, user_field, max_bytes, escaped_headers=escaped_headers)


def enveloped(data: bytes | str, **attributes: object) -> bytes:
    """A CloudEvent around data that is JSON already."""
    data = data if isinstance(data, bytes) else data.encode()
    head = {"id": "e-1", "source": "backend", "specversion": "1.0"} | attributes
    return json.dumps(head)[:-1].encode() + b',"data":' + data + b"}"


def in_base64(data: bytes, **attributes: object) -> bytes:
    head = {"id": "e-1", "source": "backend", "specversion": "1.0"} | attributes
    return json.dumps(head | {"data_base64": base64.b64encode(data).decode()}).encode()


def in_string(data: bytes) -> bytes:
    return enveloped(json.dumps(data.decode()))


def raw_envelope(data: bytes) -> bytes:
    return in_base64(data, id="new at each delivery", source="Dapr")


def bomb(depth: int) -> bytes:
    return b'{"user_id":"u","x":%b%b}' % (b"[" * depth, b"]" * depth)


def bulk_of(*events: bytes, kind: str = "application/cloudevents+json") -> bytes:
    """Each `events` is JSON already; entry ids are their places."""
    entries = [
        b'{"entryId":"%d","event":%b,"contentType":"%b","metadata":{"__key":"k","__partition":"0","__offset":"%d"}}'
        % (place, event, kind.encode(), place)
        for place, event in enumerate(events)
    ]
    return b'{"id":"b-1","type":"com.dapr.event.sent.bulk","entries":[%b]}' % b",".join(entries)


def outcome(event: Event | Rejected) -> object:
    return event.reason if isinstance(event, Rejected) else event.users


def read(source: EventReader, body: bytes, metadata: dict[str, Any] | None = None) -> Event | Rejected:
    return source.read(body, TOPIC, metadata or {})


def taken(source: EventReader, body: bytes, metadata: dict[str, Any], topic: str = TOPIC) -> Event:
    """An event that must not be rejected."""
    event = source.read(body, topic, metadata)
    assert isinstance(event, Event)
    return event


def body_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["body_hex"]) if "body_hex" in case else str(case["body"]).encode()


def check(event: Event | Rejected, case: dict[str, Any]) -> None:
    """Hold an event against a vector."""
    if isinstance(event, Rejected):
        assert event.reason == case.get("dropped"), event.text
        assert "\n" not in event.text
        return
    assert list(event.users) == case["taken"]["users"]
    assert event.data == case["taken"]["data"].encode()
    assert event.id == case["taken"]["id"]
    assert event.type == "task_update"


@pytest.mark.parametrize("case", VECTORS["single"], ids=lambda case: case["name"])
def test_a_single_delivery_is_what_the_vectors_say(case: dict[str, Any]) -> None:
    source = reader(case.get("user_field", "user_id"))
    check(read(source, body_of(case), case.get("headers")), case)


@pytest.mark.parametrize("case", VECTORS["bulk"], ids=lambda case: case["name"])
def test_a_bulk_delivery_is_what_the_vectors_say(case: dict[str, Any]) -> None:
    found = reader().read_bulk(body_of(case), TOPIC)
    if case["entries"] is None:
        assert found is None
        return
    assert found is not None
    assert [entry_id for entry_id, _ in found] == [entry["entryId"] for entry in case["entries"]]
    for (_, event), entry in zip(found, case["entries"], strict=True):
        check(event, entry)


@pytest.mark.parametrize(
    "case", [case for case in VECTORS["single"] if "taken" in case], ids=lambda case: str(case["name"])
)
def test_a_redelivery_is_known_by_what_the_vectors_say(case: dict[str, Any]) -> None:
    source, headers = reader(case.get("user_field", "user_id")), case.get("headers", {})
    moved = {**headers, "__offset": "42"} if headers else {}
    first, again, other = (taken(source, body_of(case), at).key for at in (headers, headers, moved))
    assert first == again
    assert bool(first) is (case["taken"]["known_by"] is not None)
    assert (first != other) is (case["taken"]["known_by"] == "coordinates")


# The data stays as it is, byte for byte.

DATA = st.dictionaries(
    st.text(),
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    max_size=4,
)


@given(
    DATA,
    st.sampled_from([None, 0, 3, "\t"]),
    st.booleans(),
    st.sampled_from([enveloped, in_base64, in_string, raw_envelope, bytes]),
)
@settings(deadline=None, max_examples=200)
def test_the_data_is_kept_byte_for_byte_in_every_form(
    fields: dict[str, object], indent: int | str | None, ascii_only: bool, form: Callable[[bytes], bytes]
) -> None:
    fields = {**fields, "user_id": "u"}
    fields.pop("specversion", None)  # with it, it would be an envelope
    data = json.dumps(fields, indent=indent, ensure_ascii=ascii_only).encode()
    event = taken(reader(), form(data), AT)
    assert (event.users, event.data) == (("u",), data)


@pytest.mark.parametrize("name", ["data_base64", "data", "id", "source", "subject", "type", "entries"])
@pytest.mark.parametrize("value", [b"5", b'"x"', b"{}", b"[1]", b"null"], ids=repr)
def test_a_bare_event_may_have_fields_of_any_name_and_kind(name: str, value: bytes) -> None:
    data = b'{"user_id":"u","%b":%b}' % (name.encode(), value)
    assert taken(reader(), data, {}).data == data
    assert reader().read_bulk(data, TOPIC) is None


@pytest.mark.parametrize(
    "name",
    ["id", "source", "subject", "type", "time", "datacontenttype", "data_base64", "traceparent", "expiration", "x"],
)
@pytest.mark.parametrize("value", [5, 1.5, None, True, {}, [[]]], ids=repr)
def test_a_mistyped_attribute_of_the_envelope_does_not_cost_the_data(name: str, value: object) -> None:
    event = taken(reader(), enveloped('{"user_id":"u"}', **{name: value}), AT)
    assert event.data == b'{"user_id":"u"}'


# Nothing raises at all.

TAKEN = [
    enveloped('{"user_id":"u","x":[1,{"y":null}]}'),
    in_string(b'{"user_id":"u"}'),
    in_base64(b'{"user_id":"u"}'),
    raw_envelope(b'{"user_id":"u"}'),
    b'{"user_id":["u",1]}',
]
JUNK = st.sampled_from([b"\xff", b"\x00", b'"', b"\\", b"\\ud800", b"[" * 3000, b"{", b"}", b"9" * 5000, b"NaN", b","])


@given(st.sampled_from(TAKEN), st.integers(0, 150), st.integers(0, 9), JUNK | st.binary(max_size=4))
@example(enveloped('"'), 0, 0, b"")
@example(b'{"specversion":"1.0","data":"\xff"}', 0, 0, b"")
@example(enveloped(b'{"user_id":%b}' % (b"9" * 5_000)), 0, 0, b"")
@settings(deadline=None, max_examples=400)
def test_a_damaged_delivery_is_taken_or_dropped(body: bytes, place: int, cut: int, junk: bytes) -> None:
    damaged = body[:place] + junk + body[place + cut :]
    for source in (reader(), reader("a.b"), reader("@subject"), reader("@key")):
        event = read(source, damaged, AT)
        if isinstance(event, Event):
            assert isinstance(json.loads(event.data, parse_int=str), dict)  # what a browser gets can be parsed
        assert source.read_bulk(damaged, TOPIC) is None


@given(st.lists(st.sampled_from(TAKEN), min_size=1, max_size=3), st.integers(0, 600), st.integers(0, 9), JUNK)
@settings(deadline=None, max_examples=200)
def test_a_damaged_bulk_never_raises(events: list[bytes], place: int, cut: int, junk: bytes) -> None:
    body = bulk_of(*events)
    found = reader().read_bulk(body[:place] + junk + body[place + cut :], TOPIC)
    assert found is None or all(isinstance(event, Event | Rejected) for _, event in found)


@given(st.binary())
@settings(deadline=None)
def test_arbitrary_bytes_are_no_bulk_and_no_surprise(body: bytes) -> None:
    assert reader().read_bulk(body, TOPIC) is None
    assert isinstance(read(reader(), body), Rejected)


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize("form", [bytes, enveloped, in_string, in_base64, raw_envelope], ids=lambda form: form.__name__)
def test_a_depth_bomb_is_dropped(form: Callable[[bytes], bytes], depth: int) -> None:
    assert outcome(read(reader(), form(bomb(depth)))) == "not_json"


@pytest.mark.parametrize(("depth", "expected"), [(MAX_DEPTH - 1, ("u",)), (MAX_DEPTH, "not_json")])
@pytest.mark.parametrize("form", [bytes, enveloped, in_string], ids=lambda form: form.__name__)
def test_the_same_depth_is_taken_on_every_python(form: Callable[[bytes], bytes], depth: int, expected: object) -> None:
    assert outcome(read(reader(), form(bomb(depth)))) == expected


def test_many_brackets_are_not_deep() -> None:
    data = b'{"user_id":"u","x":[%b]}' % b",".join([b"[]"] * 2_000)
    assert outcome(read(reader(), data)) == ("u",)


# A bulk: what one entry does must not touch the others.


POISON = {
    "2,000 deep": (enveloped(bomb(2_000)), "not_json"),
    "100,000 deep": (enveloped(bomb(100_000)), "not_json"),
    "NaN": (enveloped('{"user_id":"u","x":NaN}'), "not_json"),
    "high surrogate": (enveloped(r'{"user_id":"u","x":"\ud800"}'), "not_json"),
    "low surrogate": (enveloped(r'{"user_id":"u","x":"\udc00"}'), "not_json"),
    "surrogate in the id": (b'{"specversion":"1.0","id":"\\ud800","data":{"user_id":"u"}}', "not_json"),
    "bad UTF-8": (enveloped(b'{"user_id":"u","x":"\xff"}'), "bad_utf8"),
    "bad UTF-8 in a string": (enveloped(b'"{\xff}"'), "bad_utf8"),
    "a string of bad UTF-8": (b'"\xff"', "bad_utf8"),
    "a string that holds no JSON": (b'"hello"', "not_json"),
    "bad UTF-8 in the id": (b'{"specversion":"1.0","id":"\xff","data":{"user_id":"u"}}', "bad_utf8"),
    "a word": (b"nonsense", "not_json"),
    "null": (b"null", "not_an_object"),
    "a list": (b"[]", "not_an_object"),
    "a number": (b"7", "not_an_object"),
    "no user": (enveloped("{}"), "no_user"),
    "5,000 digits": (enveloped(b'{"user_id":%b}' % (b"9" * 5_000)), "bad_user"),
}
GOOD = enveloped('{"user_id":"u"}')


@pytest.mark.parametrize(("poison", "reason"), POISON.values(), ids=POISON)
def test_one_bad_entry_of_a_bulk_is_dropped_alone(poison: bytes, reason: str) -> None:
    found = reader().read_bulk(bulk_of(GOOD, poison, GOOD), TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [("0", ("u",)), ("1", reason), ("2", ("u",))]


@given(st.lists(st.sampled_from([None, *sorted(set(POISON) - {"100,000 deep"})]), max_size=6))
@settings(deadline=None, max_examples=60)
def test_bad_entries_are_dropped_and_the_others_taken_in_order(mixture: list[str | None]) -> None:
    cases = [POISON[name] if name else (enveloped(b'{"user_id":%d}' % n), (str(n),)) for n, name in enumerate(mixture)]
    found = reader().read_bulk(bulk_of(*(entry for entry, _ in cases)), TOPIC)
    assert found is not None
    assert [outcome(event) for _, event in found] == [expected for _, expected in cases]


def test_a_slow_bulk_keeps_data_ids_and_coordinates_as_the_fast_one() -> None:
    good = [enveloped('{ "user_id" : "u", "n": 1.50 }', id="e-7"), b'{"user_id":"v"}']
    fast, slow = reader().read_bulk(bulk_of(*good), TOPIC), reader().read_bulk(bulk_of(*good, b"nonsense"), TOPIC)
    assert fast is not None
    assert slow is not None
    assert slow[:2] == fast


def test_poisoned_metadata_drops_its_entry_alone() -> None:
    body = bulk_of(GOOD, GOOD, GOOD).replace(b'"__offset":"1"', b'"__offset":"\\ud800"')
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [
        ("0", ("u",)),
        ("1", "not_json"),
        ("2", ("u",)),
    ]


@pytest.mark.parametrize("member", [b'"contentType":5', b'"metadata":[]'], ids=repr)
def test_an_entry_that_is_malformed_itself_is_dropped_alone(member: bytes) -> None:
    body = bulk_of(GOOD, GOOD, GOOD).replace(b'"entryId":"1"', b'"entryId":"1",' + member)
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [
        ("0", ("u",)), ("1", "not_json"), ("2", ("u",)),
    ]  # fmt: skip


@pytest.mark.parametrize("entry_id", [b"5", b"null", b'"\\ud800"', b'"\xff"'], ids=repr)
def test_an_entry_that_cannot_be_named_gets_no_status(entry_id: bytes) -> None:
    body = bulk_of(GOOD, GOOD).replace(b'"entryId":"0"', b'"entryId":' + entry_id)
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [entry_id for entry_id, _ in found] == ["1"]


def test_raw_bulk_entries_that_are_broken_are_dropped_alone() -> None:
    good = json.dumps(base64.b64encode(b'{"user_id":"u"}').decode()).encode()
    found = reader().read_bulk(bulk_of(good, b'"%%%"', b'"e30"', good, kind="application/octet-stream"), TOPIC)
    assert found is not None
    assert [outcome(event) for _, event in found] == [("u",), "not_json", "not_json", ("u",)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"user_id":"u","entries":[{"entryId":"0","event":{}}]}', id="bare"),
        pytest.param(b'{"user_id":"u","entries":[1,2]}', id="bare, entries of another kind"),
        pytest.param(b'{"user_id":"u","entries":[{"entryId":"0"}],"type":"order"}', id="bare, with a type"),
        pytest.param(b'{"user_id":"u","entries":5,"type":7}', id="bare, with a type that is no text"),
        pytest.param(b'{"user_id":"u","entries":[%b]}' % (b"[" * 2_000 + b"]" * 2_000), id="bare and deep"),
        pytest.param(enveloped('{"user_id":"u","entries":[{"entryId":"0"}]}'), id="in the data of an envelope"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_only_looks_like_a_bulk_is_none(body: bytes) -> None:
    assert reader().read_bulk(body, TOPIC) is None


# Users.


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
        pytest.param("[]", "no_user", id="nobody"),
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
def test_a_user_is_a_string_an_integer_or_a_list(users: str, expected: object) -> None:
    assert outcome(read(reader(), enveloped(b'{"user_id":%b}' % users.encode()))) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [('"u"', ("u",)), ("7", ("7",)), ('["a",1,"a"]', ("a", "1")), ("true", "bad_user"), ("1.5", "bad_user"),
     ("{}", "bad_user"), ('[["u"]]', "bad_user"), ('""', "no_user"), ("null", "no_user")],
)  # fmt: skip
def test_the_same_rules_hold_for_the_subject(subject: str, expected: object) -> None:
    body = b'{"specversion":"1.0","subject":%b,"data":{}}' % subject.encode()
    assert outcome(read(reader("@subject"), body)) == expected


@pytest.mark.parametrize(
    ("field", "body", "expected"),
    [
        pytest.param("a.b.c", '{"a":{"b":{"c":"u"}}}', ("u",), id="found"),
        pytest.param("a.b", '{"a":{"b":[1,2],"c":3},"b":4}', ("1", "2"), id="a list"),
        pytest.param("a.b", '{"a":{}}', "no_user", id="the last is missing"),
        pytest.param("a.b", "{}", "no_user", id="the first is missing"),
        pytest.param("a.b", '{"a":null}', "no_user", id="null on the way"),
        pytest.param("a.b", '{"a":"u"}', "bad_user", id="a string on the way"),
        pytest.param("a.b", '{"a":[{"b":"u"}]}', "bad_user", id="a list on the way"),
        pytest.param("a.b", '{"a.b":"u"}', "no_user", id="a name with a dot"),
        pytest.param("from", '{"from":"u"}', ("u",), id="a Python keyword"),
        pytest.param("user id", '{"user id":"u"}', ("u",), id="a name with a space"),
        pytest.param("é", '{"\\u00e9":"u"}', ("u",), id="not ASCII"),
        pytest.param("@subject", '{"user_id":"x"}', "no_user", id="no subject"),
        pytest.param("@key", '{"user_id":"x"}', "no_user", id="no key"),
    ],
)
def test_the_user_is_where_the_setting_says(field: str, body: str, expected: object) -> None:
    assert outcome(read(reader(field), enveloped(body))) == expected


@pytest.mark.parametrize("field", ["@subject", "@key"])
@pytest.mark.parametrize("data", ["[]", "7", "null", '"x"', '{"x":NaN}'])
def test_the_data_must_be_an_object_also_where_the_user_is_elsewhere(field: str, data: str) -> None:
    event = read(reader(field), enveloped(data, subject="u"), {"__key": "u"})
    assert isinstance(event, Rejected)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("u", ("u",)), (7, ("7",)), ("", "no_user"), ("\udcff", "bad_user"), ("x" * 257, "bad_user"), (["u"], ("u",))],
    ids=ascii,
)
def test_the_key_of_the_kafka_message_can_be_the_user(key: object, expected: object) -> None:
    assert outcome(read(reader("@key"), enveloped("{}"), {"__key": key})) == expected


# Sizes, types, identity.


@pytest.mark.parametrize("form", [bytes, enveloped, in_string, in_base64, raw_envelope], ids=lambda form: form.__name__)
def test_the_bound_is_on_the_data_not_on_the_envelope(form: Callable[[bytes], bytes]) -> None:
    fits, too_large = b'{"user_id":"u"}', b'{"user_id":"uu"}'
    source = reader(max_bytes=len(fits))
    assert outcome(read(source, form(fits), AT)) == ("u",)
    assert outcome(read(source, form(too_large), AT)) == "too_large"


@pytest.mark.fault("D5")
def test_data_times_users_over_the_bound_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = b'{"user_id":["u"]}', b'{"user_id":["u","v"]}'
    monkeypatch.setattr("wsbridge.dapr.routing.MAX_SENT", 2 * len(two))
    assert outcome(read(reader(), two)) == ("u", "v")
    monkeypatch.setattr("wsbridge.dapr.routing.MAX_SENT", 2 * len(two) - 1)
    assert outcome(read(reader(), two)) == "too_large"
    assert outcome(read(reader(), one)) == ("u",)


def test_the_largest_event_for_the_most_users_is_within_the_bound() -> None:
    assert Settings().max_event_bytes * MAX_USERS <= MAX_SENT


def test_the_type_is_that_of_the_topic() -> None:
    assert taken(reader(), GOOD, {}, "orders").type == "order_update"


def test_an_event_is_the_same_if_source_and_id_are() -> None:
    def key(**attributes: object) -> str:
        return taken(reader(), enveloped('{"user_id":"u"}', **attributes), {}).key

    assert key() == key() != ""
    assert len({key(), key(id="e-2"), key(source="other"), key(id="backend", source="e-1")}) == 4
    assert key(id=7) == key(id="7")


@pytest.mark.parametrize("attribute", ["id", "source"])
def test_a_megabyte_of_id_is_remembered_as_little_and_still_told_apart(attribute: str) -> None:
    first, again, other = (
        taken(reader("@subject"), enveloped("{}", subject="u", **{attribute: "x" * 1_000_000 + end}), {})
        for end in ("a", "a", "b")
    )
    assert len(first.key) + len(first.id) < 1_000
    assert first.key == again.key != other.key


@pytest.mark.parametrize("attribute", ["id", "source"])
def test_without_a_stable_id_the_coordinates_identify_an_event(attribute: str) -> None:
    body = enveloped('{"user_id":"u"}', **{attribute: None})
    here, again, there = (taken(reader(), body, at) for at in (AT, AT, ELSEWHERE))
    assert here.key == again.key != there.key
    assert here.id == f"{TOPIC}/3/41"
    assert taken(reader(), body, AT, "orders").key != here.key
    assert taken(reader(), body, {"__partition": "3"}).key == ""


def test_a_raw_payload_is_identified_by_its_coordinates_not_by_its_new_id() -> None:
    body, redelivered = raw_envelope(b'{"user_id":"u"}'), in_base64(b'{"user_id":"u"}', id="e-2", source="Dapr")
    assert taken(reader(), body, AT).key == taken(reader(), redelivered, AT).key
    assert taken(reader(), body, AT).key != taken(reader(), body, ELSEWHERE).key


def test_bytes_that_a_publisher_sent_through_dapr_keep_their_id() -> None:
    body = in_base64(b'{"user_id":"u"}')  # as `application/octet-stream`; the source is the publisher
    assert taken(reader(), body, AT).key == taken(reader(), body, ELSEWHERE).key


@pytest.mark.parametrize("name", ["no user", "too large", "not JSON"])
def test_a_dropped_event_is_named_where_it_can_be(name: str) -> None:
    data = {"no user": "{}", "too large": '{"user_id":"%s"}' % ("u" * 99), "not JSON": '"hello"'}[name]
    dropped = read(reader(max_bytes=99), enveloped(data))
    assert isinstance(dropped, Rejected)
    assert dropped.event_id == "e-1"


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"hello", b'{"x":1}', b'{"user_id":"u","x":"\xff"}'])
def test_a_dropped_message_without_an_id_is_named_by_its_coordinates(body: bytes) -> None:
    dropped = read(reader(), body, AT)
    assert isinstance(dropped, Rejected)
    assert dropped.event_id == f"{TOPIC}/3/41"


def test_a_raw_entry_that_is_not_base64_is_named_by_its_coordinates() -> None:
    found = reader().read_bulk(bulk_of(b'"%%%"', kind="application/octet-stream"), TOPIC)
    assert found is not None
    (_, dropped), *_ = found
    assert isinstance(dropped, Rejected)
    assert (dropped.event_id, dropped.reason, dropped.text) == (f"{TOPIC}/0/0", "not_json", "the data is not base64")


# What a sidecar sees to where it decodes the messages itself.


@pytest.mark.parametrize("form", [enveloped, in_base64], ids=lambda form: form.__name__)
def test_what_has_outlived_its_time_is_dropped(form: Callable[..., bytes]) -> None:
    dropped = read(reader(), form(b'{"user_id":"u"}', expiration="2026-02-07T12:00:00.123456789Z"), AT)
    assert isinstance(dropped, Rejected)
    assert (dropped.reason, dropped.event_id) == ("expired", "e-1")


@pytest.mark.parametrize(
    "text", ["9999-02-07T12:00:00Z", "2026-02-07T12:00:00", "2026-02-07", "yesterday", "", 5, None]
)
def test_what_has_not_or_does_not_say_so_is_taken(text: object) -> None:
    assert taken(reader(), enveloped('{"user_id":"u"}', expiration=text), AT).id == "e-1"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("headers", [{}, {"traceparent": "of the delivery"}])
def test_the_trace_of_an_event(headers: dict[str, str]) -> None:
    assert taken(reader(), enveloped('{"user_id":"u"}', traceparent=TRACE), AT | headers).trace == TRACE


def test_the_trace_of_a_message_without_an_envelope_is_in_its_headers() -> None:
    assert taken(reader(), b'{"user_id":"u"}', AT | {"traceparent": TRACE}).trace == TRACE
    assert taken(reader(), b'{"user_id":"u"}', AT).trace == ""


NO_TIMESTAMPS: list[Any] = ["", "-1", "1.5", "now", "٣", "9" * 16, "9" * 5_000, 7, None, []]


@pytest.mark.parametrize(
    ("at", "produced"),
    [
        ({"__timestamp": "1795948413123"}, 1_795_948_413.123),
        ({"__timestamp": "0"}, 0.0),
        ({}, None),
        *(({"__timestamp": text}, None) for text in NO_TIMESTAMPS),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_reader_with_a_kafka_timestamp_gives_the_time_in_seconds(at: dict[str, Any], produced: float | None) -> None:
    event = read(reader(), b'{"user_id":"u"}', at)
    assert isinstance(event, Event)
    assert event.produced == produced


# CloudEvents in binary content mode, as the CloudEvents SDK makes them for Kafka.

MESSAGES = {
    case["name"]: case
    for case in json.loads((ROOT / "tests" / "vectors" / "cloudevents_kafka.json").read_text(encoding="utf-8"))[
        "messages"
    ]
}


def from_kafka(name: str, *, escaped: bool, offset: str = "41") -> tuple[bytes, dict[str, Any]]:
    """A message's value, and its metadata as a sidecar passes them on, with `escapeHeaders` or without."""
    message = MESSAGES[name]
    encode = quote_plus if escaped else str
    headers = {header: encode(value) for header, value in message["headers"].items()}
    key = {} if message["key"] is None else {"__key": encode(message["key"])}
    return message["value"].encode(), headers | key | {"__partition": "3", "__offset": offset}


def in_bulk(value: bytes, metadata: dict[str, Any]) -> bytes:
    entry = {
        "entryId": "0",
        "event": base64.b64encode(value).decode(),
        "contentType": "application/octet-stream",
        "metadata": metadata,
    }
    return json.dumps({"type": "com.dapr.event.sent.bulk", "entries": [entry]}).encode()


def deliver(source: EventReader, value: bytes, metadata: dict[str, Any], form: str) -> Event | Rejected:
    """Each way in which a sidecar delivers a message."""
    if form == "bulk":
        ((_, event),) = source.read_bulk(in_bulk(value, metadata), TOPIC) or []
        return event
    return read(source, value if form == "bare" else raw_envelope(value), metadata)


FORMS = ["bulk", "raw single", "bare"]


@pytest.mark.fault("H1")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("field", ["@subject", "@key", "user_id"])
@pytest.mark.parametrize("name", ["binary", "binary, by the SDK's older module", "structured"])
def test_message_of_the_cloudevents_sdk_is_for_its_user_and_known_by_its_id(
    name: str, field: str, escaped: bool, form: str
) -> None:
    source = reader(field, escaped_headers=escaped)
    first = deliver(source, *from_kafka(name, escaped=escaped), form)
    again = deliver(source, *from_kafka(name, escaped=escaped, offset="42"), form)
    assert isinstance(first, Event)
    assert isinstance(again, Event)
    assert first.users == ("alice@example.com",)
    assert first.id == "e-1"
    assert first.key == again.key == "https://example.com/backend\ne-1"
    assert json.loads(first.data)["title"] == "Buy milk"


@pytest.mark.fault("H1")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("escaped", [False, True])
def test_message_in_binary_mode_that_has_expired_is_rejected(escaped: bool, form: str) -> None:
    rejected = deliver(reader(), *from_kafka("binary, expired", escaped=escaped), form)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.event_id) == ("expired", "e-1")
    assert isinstance(deliver(reader(), *from_kafka("binary, not expired", escaped=escaped), form), Event)


def test_message_in_binary_mode_keeps_its_trace() -> None:
    assert taken(reader(), *from_kafka("binary, with a trace", escaped=False)).trace == TRACE


def test_message_in_binary_mode_without_a_subject_has_no_user_there() -> None:
    assert outcome(read(reader("@subject"), *from_kafka("binary, the smallest", escaped=False))) == "no_user"


def test_message_in_binary_mode_that_is_rejected_is_named_by_its_header() -> None:
    _, metadata = from_kafka("binary", escaped=False)
    for data in (b"hello", b"[]", b'{"x":1}', b'{"user_id":"\xff"}'):
        rejected = read(reader(), data, metadata)
        assert isinstance(rejected, Rejected)
        assert rejected.event_id == "e-1"


def test_headers_beside_an_envelope_do_not_count() -> None:
    _, metadata = from_kafka("binary", escaped=False)
    assert taken(reader(), enveloped('{"user_id":"u"}', id="e-2"), metadata).key == "backend\ne-2"


def test_a_key_that_is_not_said_to_be_escaped_stays_as_it_is() -> None:
    assert outcome(read(reader("@key"), b"{}", {"__key": "a%6Cice+1"})) == ("a%6Cice+1",)
    assert outcome(read(reader("@key", escaped_headers=True), b"{}", {"__key": "a%6Cice+1"})) == ("alice 1",)


@pytest.mark.parametrize("header", ["ce_id", "ce_source", "__offset"])
def test_header_that_was_no_utf8_can_still_be_written_down(header: str) -> None:
    metadata = {"ce_specversion": "1.0", "ce_id": "i", "ce_source": "s", **AT, header: "\udcff"}
    event = taken(reader(), b'{"user_id":"u"}', metadata)
    (event.id + event.key).encode()


# A byte order mark is skipped wherever JSON begins; another encoding is named.

BOM = "\ufeff"


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BOM.encode() + b'{"user_id":"u"}', id="bare"),
        pytest.param(BOM.encode() + enveloped('{"user_id":"u"}'), id="envelope"),
        pytest.param(enveloped(json.dumps(BOM + '{"user_id":"u"}')), id="in a string"),
        pytest.param(in_base64(BOM.encode() + b'{"user_id":"u"}'), id="in base64"),
        pytest.param(raw_envelope(BOM.encode() + b'{"user_id":"u"}'), id="raw"),
        pytest.param(raw_envelope(BOM.encode() + enveloped('{"user_id":"u"}')), id="raw envelope"),
    ],
)
def test_byte_order_mark_is_skipped_and_the_data_are_without_it(body: bytes) -> None:
    assert taken(reader(), body, AT).data == b'{"user_id":"u"}'
    assert taken(reader("@key"), body, AT).data == b'{"user_id":"u"}'


@pytest.mark.fault("H2")
def test_byte_order_mark_in_a_bulk_is_skipped() -> None:
    message = BOM.encode() + b'{"user_id":"u"}'
    found = reader().read_bulk(BOM.encode() + in_bulk(message, AT), TOPIC)
    assert found is not None
    assert [(event.data if isinstance(event, Event) else event) for _, event in found] == [b'{"user_id":"u"}']


@pytest.mark.fault("H2")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"user_id":"u"}'.encode("utf-16"), "utf16"),
        ('{"user_id":"u"}'.encode("utf-16-be"), "utf16"),
        (b'\x00\x00\x00\x00\x11{"user_id":"u"}', "schema_registry"),
        (b"\x00\x00\x00\x00\x11\x02u", "schema_registry"),
    ],
)
def test_what_is_no_utf8_json_is_rejected_by_its_name(message: bytes, reason: str, form: str) -> None:
    rejected = deliver(reader(), message, AT, form)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.event_id) == (reason, f"{TOPIC}/3/41")


# No input costs more than in proportion to its size.


@pytest.mark.fault("C2")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", [rb"\"", b'"', b"[", rb"\\", b'{"a":', b"\xff", b"9", b'"a",'], ids=repr)
@pytest.mark.parametrize(
    "cut",
    [b'{"user_id":"u","x":"%b', b'{"specversion":"1.0","data":"%b', b'{"user_id":[%b', b'{"user_id":"u","x":[%b]}'],
)
def test_reading_a_message_that_is_cut_off_takes_time_in_proportion(cut: bytes, unit: bytes, form: str) -> None:
    source = reader()
    assert growth(lambda size: deliver(source, cut % (unit * (size // len(unit))), AT, form), 20_000) < LINEAR
