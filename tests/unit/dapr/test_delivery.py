"""Deliveries in every form through all three steps, from the body to events and rejections."""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.examples import tries
from tests.support.growth import LINEAR, growth
from tests.support.running import ROOT
from wsbridge.core.events import Event, Rejected
from wsbridge.dapr.delivery import DeliveryReader
from wsbridge.dapr.payload import MAX_DEPTH

VECTORS = json.loads((ROOT / "tests" / "vectors" / "events.json").read_text(encoding="utf-8"))
TOPIC = "task-updates"
AT = {"__key": "k", "__partition": "3", "__offset": "41"}
ELSEWHERE = {**AT, "__offset": "42"}


def reader(user_field: str = "user_id", max_bytes: int = 1_048_576, *, escaped_headers: bool = False) -> DeliveryReader:
    types = {TOPIC: "task_update", "orders": "order_update"}
    return DeliveryReader(types, user_field, max_bytes, escaped_headers=escaped_headers)


def enveloped(data: bytes | str, **attributes: object) -> bytes:
    """A CloudEvent around data in JSON."""
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
    """A bulk of events in JSON; the ids of the entries are their indexes."""
    entries = [
        b'{"entryId":"%d","event":%b,"contentType":"%b","metadata":{"__key":"k","__partition":"0","__offset":"%d"}}'
        % (place, event, kind.encode(), place)
        for place, event in enumerate(events)
    ]
    return b'{"id":"b-1","type":"com.dapr.event.sent.bulk","entries":[%b]}' % b",".join(entries)


def outcome(event: Event | Rejected) -> object:
    return event.reason if isinstance(event, Rejected) else event.users


def read(source: DeliveryReader, body: bytes, metadata: dict[str, Any] | None = None) -> Event | Rejected:
    return source.read(body, TOPIC, metadata or {})


def taken(source: DeliveryReader, body: bytes, metadata: dict[str, Any], topic: str = TOPIC) -> Event:
    """Read an event that must not be rejected."""
    event = source.read(body, topic, metadata)
    assert isinstance(event, Event)
    return event


def body_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["body_hex"]) if "body_hex" in case else str(case["body"]).encode()


def check(event: Event | Rejected, case: dict[str, Any]) -> None:
    """Compare an event with a vector."""
    if isinstance(event, Rejected):
        assert event.reason == case.get("dropped"), event.text
        assert "\n" not in event.text
        return
    assert list(event.users) == case["taken"]["users"]
    assert event.data == case["taken"]["data"].encode()
    assert event.id == case["taken"]["id"]
    assert event.type == "task_update"


@pytest.mark.parametrize("case", VECTORS["single"], ids=lambda case: case["name"])
def test_read_of_a_single_delivery_gives_what_its_vector_says(case: dict[str, Any]) -> None:
    source = reader(case.get("user_field", "user_id"))
    check(read(source, body_of(case), case.get("headers")), case)


@pytest.mark.parametrize("case", VECTORS["bulk"], ids=lambda case: case["name"])
def test_read_bulk_gives_what_its_vector_says(case: dict[str, Any]) -> None:
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
def test_key_of_a_redelivery_is_equal_by_what_its_vector_says(case: dict[str, Any]) -> None:
    source, headers = reader(case.get("user_field", "user_id")), case.get("headers", {})
    moved = {**headers, "__offset": "42"} if headers else {}
    first, again, other = (taken(source, body_of(case), at).key for at in (headers, headers, moved))
    assert first == again
    assert bool(first) is (case["taken"]["known_by"] is not None)
    assert (first != other) is (case["taken"]["known_by"] == "coordinates")


# The data is not changed.

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
@tries(200)
def test_read_in_every_form_keeps_the_data_verbatim(
    fields: dict[str, object], indent: int | str | None, ascii_only: bool, form: Callable[[bytes], bytes]
) -> None:
    fields = {**fields, "user_id": "u"}
    fields.pop("specversion", None)  # otherwise it would be an envelope
    data = json.dumps(fields, indent=indent, ensure_ascii=ascii_only).encode()
    event = taken(reader(), form(data), AT)
    assert (event.users, event.data) == (("u",), data)


@pytest.mark.parametrize("name", ["data_base64", "data", "id", "source", "subject", "type", "entries"])
@pytest.mark.parametrize("value", [b"5", b'"x"', b"{}", b"[1]", b"null"], ids=repr)
def test_read_of_a_bare_event_with_fields_of_any_name_and_type_takes_it(name: str, value: bytes) -> None:
    data = b'{"user_id":"u","%b":%b}' % (name.encode(), value)
    assert taken(reader(), data, {}).data == data
    assert reader().read_bulk(data, TOPIC) is None


@pytest.mark.parametrize(
    "name",
    ["id", "source", "subject", "type", "time", "datacontenttype", "data_base64", "traceparent", "expiration", "x"],
)
@pytest.mark.parametrize("value", [5, 1.5, None, True, {}, [[]]], ids=repr)
def test_read_with_a_mistyped_attribute_keeps_the_data(name: str, value: object) -> None:
    event = taken(reader(), enveloped('{"user_id":"u"}', **{name: value}), AT)
    assert event.data == b'{"user_id":"u"}'


# Nothing raises.

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
@tries(400)
def test_read_of_a_damaged_delivery_never_raises(body: bytes, place: int, cut: int, junk: bytes) -> None:
    damaged = body[:place] + junk + body[place + cut :]
    for source in (reader(), reader("a.b"), reader("@subject"), reader("@key")):
        event = read(source, damaged, AT)
        if isinstance(event, Event):
            assert isinstance(json.loads(event.data, parse_int=str), dict)  # a browser can parse it
        assert source.read_bulk(damaged, TOPIC) is None


@given(st.lists(st.sampled_from(TAKEN), min_size=1, max_size=3), st.integers(0, 600), st.integers(0, 9), JUNK)
@tries(200)
def test_read_bulk_of_a_damaged_body_never_raises(events: list[bytes], place: int, cut: int, junk: bytes) -> None:
    body = bulk_of(*events)
    found = reader().read_bulk(body[:place] + junk + body[place + cut :], TOPIC)
    assert found is None or all(isinstance(event, Event | Rejected) for _, event in found)


@given(st.binary())
def test_read_of_arbitrary_bytes_is_rejected(body: bytes) -> None:
    assert reader().read_bulk(body, TOPIC) is None
    assert isinstance(read(reader(), body), Rejected)


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize("form", [bytes, enveloped, in_string, in_base64, raw_envelope], ids=lambda form: form.__name__)
def test_read_of_very_deep_data_is_rejected(form: Callable[[bytes], bytes], depth: int) -> None:
    assert outcome(read(reader(), form(bomb(depth)))) == "not_json"


@pytest.mark.parametrize(("depth", "expected"), [(MAX_DEPTH - 1, ("u",)), (MAX_DEPTH, "not_json")])
@pytest.mark.parametrize("form", [bytes, enveloped, in_string], ids=lambda form: form.__name__)
def test_read_of_data_beyond_the_depth_limit_is_rejected(
    form: Callable[[bytes], bytes], depth: int, expected: object
) -> None:
    assert outcome(read(reader(), form(bomb(depth)))) == expected


def test_read_of_flat_data_with_many_brackets_is_taken() -> None:
    data = b'{"user_id":"u","x":[%b]}' % b",".join([b"[]"] * 2_000)
    assert outcome(read(reader(), data)) == ("u",)


# A bulk: one entry must not affect the others.


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
def test_read_bulk_with_one_bad_entry_takes_the_others(poison: bytes, reason: str) -> None:
    found = reader().read_bulk(bulk_of(GOOD, poison, GOOD), TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [("0", ("u",)), ("1", reason), ("2", ("u",))]


@given(st.lists(st.sampled_from([None, *sorted(set(POISON) - {"100,000 deep"})]), max_size=6))
@tries(60)
def test_read_bulk_with_several_bad_entries_takes_the_others_in_order(mixture: list[str | None]) -> None:
    cases = [POISON[name] if name else (enveloped(b'{"user_id":%d}' % n), (str(n),)) for n, name in enumerate(mixture)]
    found = reader().read_bulk(bulk_of(*(entry for entry, _ in cases)), TOPIC)
    assert found is not None
    assert [outcome(event) for _, event in found] == [expected for _, expected in cases]


def test_read_bulk_entry_by_entry_gives_the_same_events_as_at_once() -> None:
    good = [enveloped('{ "user_id" : "u", "n": 1.50 }', id="e-7"), b'{"user_id":"v"}']
    fast, slow = reader().read_bulk(bulk_of(*good), TOPIC), reader().read_bulk(bulk_of(*good, b"nonsense"), TOPIC)
    assert fast is not None
    assert slow is not None
    assert slow[:2] == fast


def test_read_bulk_with_unreadable_metadata_rejects_that_entry_alone() -> None:
    body = bulk_of(GOOD, GOOD, GOOD).replace(b'"__offset":"1"', b'"__offset":"\\ud800"')
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [
        ("0", ("u",)),
        ("1", "not_json"),
        ("2", ("u",)),
    ]


@pytest.mark.parametrize("member", [b'"contentType":5', b'"metadata":[]'], ids=repr)
def test_read_bulk_with_a_mistyped_entry_rejects_that_entry_alone(member: bytes) -> None:
    body = bulk_of(GOOD, GOOD, GOOD).replace(b'"entryId":"1"', b'"entryId":"1",' + member)
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [(entry_id, outcome(event)) for entry_id, event in found] == [
        ("0", ("u",)), ("1", "not_json"), ("2", ("u",)),
    ]  # fmt: skip


@pytest.mark.parametrize("entry_id", [b"5", b"null", b'"\\ud800"', b'"\xff"'], ids=repr)
def test_read_bulk_with_an_unreadable_entry_id_leaves_that_entry_out(entry_id: bytes) -> None:
    body = bulk_of(GOOD, GOOD).replace(b'"entryId":"0"', b'"entryId":' + entry_id)
    found = reader().read_bulk(body, TOPIC)
    assert found is not None
    assert [entry_id for entry_id, _ in found] == ["1"]


def test_read_bulk_with_broken_base64_rejects_those_entries_alone() -> None:
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
def test_read_bulk_of_another_document_is_none(body: bytes) -> None:
    assert reader().read_bulk(body, TOPIC) is None


# Size and identity.


@pytest.mark.parametrize("form", [bytes, enveloped, in_string, in_base64, raw_envelope], ids=lambda form: form.__name__)
def test_read_in_every_form_bounds_the_size_of_the_data_alone(form: Callable[[bytes], bytes]) -> None:
    fits, too_large = b'{"user_id":"u"}', b'{"user_id":"uu"}'
    source = reader(max_bytes=len(fits))
    assert outcome(read(source, form(fits), AT)) == ("u",)
    assert outcome(read(source, form(too_large), AT)) == "too_large"


def test_key_is_equal_only_if_source_and_id_are() -> None:
    def key(**attributes: object) -> str:
        return taken(reader(), enveloped('{"user_id":"u"}', **attributes), {}).key

    assert key() == key() != ""
    assert len({key(), key(id="e-2"), key(source="other"), key(id="backend", source="e-1")}) == 4
    assert key(id=7) == key(id="7")


@pytest.mark.parametrize("attribute", ["id", "source"])
def test_key_of_a_very_long_id_is_short_and_distinct(attribute: str) -> None:
    first, again, other = (
        taken(reader("@subject"), enveloped("{}", subject="u", **{attribute: "x" * 1_000_000 + end}), {})
        for end in ("a", "a", "b")
    )
    assert len(first.key) + len(first.id) < 1_000
    assert first.key == again.key != other.key


@pytest.mark.parametrize("attribute", ["id", "source"])
def test_key_without_id_or_source_is_made_of_kafka_coordinates(attribute: str) -> None:
    body = enveloped('{"user_id":"u"}', **{attribute: None})
    here, again, there = (taken(reader(), body, at) for at in (AT, AT, ELSEWHERE))
    assert here.key == again.key != there.key
    assert here.id == f"{TOPIC}/3/41"
    assert taken(reader(), body, AT, "orders").key != here.key
    assert taken(reader(), body, {"__partition": "3"}).key == ""


def test_key_of_a_verbatim_message_ignores_the_id_of_the_sidecars_envelope() -> None:
    body, redelivered = raw_envelope(b'{"user_id":"u"}'), in_base64(b'{"user_id":"u"}', id="e-2", source="Dapr")
    assert taken(reader(), body, AT).key == taken(reader(), redelivered, AT).key
    assert taken(reader(), body, AT).key != taken(reader(), body, ELSEWHERE).key


def test_key_of_base64_data_from_a_publisher_is_its_id() -> None:
    body = in_base64(b'{"user_id":"u"}')  # sent as `application/octet-stream`; the source is the publisher
    assert taken(reader(), body, AT).key == taken(reader(), body, ELSEWHERE).key


@pytest.mark.parametrize("name", ["no user", "too large", "not JSON"])
def test_rejected_event_with_an_id_has_that_id(name: str) -> None:
    data = {"no user": "{}", "too large": '{"user_id":"%s"}' % ("u" * 99), "not JSON": '"hello"'}[name]
    dropped = read(reader(max_bytes=99), enveloped(data), AT)
    assert isinstance(dropped, Rejected)
    assert (dropped.event_id, dropped.place) == ("e-1", f"{TOPIC}/3/41")


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"hello", b'{"x":1}', b'{"user_id":"u","x":"\xff"}'])
def test_rejected_event_without_an_id_has_its_kafka_coordinates(body: bytes) -> None:
    dropped = read(reader(), body, AT)
    assert isinstance(dropped, Rejected)
    assert dropped.event_id == dropped.place == f"{TOPIC}/3/41"


def test_rejected_entry_that_is_not_base64_has_its_kafka_coordinates() -> None:
    found = reader().read_bulk(bulk_of(b'"%%%"', kind="application/octet-stream"), TOPIC)
    assert found is not None
    (_, dropped), *_ = found
    assert isinstance(dropped, Rejected)
    assert (dropped.event_id, dropped.reason) == (f"{TOPIC}/0/0", "not_json")
    assert dropped.text.startswith("the data is not base64")


# Expiration and trace: a sidecar that decodes messages does this itself.


@pytest.mark.parametrize("form", [enveloped, in_base64], ids=lambda form: form.__name__)
def test_read_of_an_expired_event_is_rejected(form: Callable[..., bytes]) -> None:
    dropped = read(reader(), form(b'{"user_id":"u"}', expiration="2026-02-07T12:00:00.123456789Z"), AT)
    assert isinstance(dropped, Rejected)
    assert (dropped.reason, dropped.event_id) == ("expired", "e-1")


@pytest.mark.parametrize(
    "text", ["9999-02-07T12:00:00Z", "2026-02-07T12:00:00", "2026-02-07", "yesterday", "", 5, None]
)
def test_read_of_an_event_without_a_valid_past_expiration_is_taken(text: object) -> None:
    assert taken(reader(), enveloped('{"user_id":"u"}', expiration=text), AT).id == "e-1"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("headers", [{}, {"traceparent": "of the delivery"}])
def test_trace_of_an_envelope_wins_over_that_of_the_delivery(headers: dict[str, str]) -> None:
    assert taken(reader(), enveloped('{"user_id":"u"}', traceparent=TRACE), AT | headers).trace == TRACE


def test_trace_of_a_bare_event_is_that_of_its_headers() -> None:
    assert taken(reader(), b'{"user_id":"u"}', AT | {"traceparent": TRACE}).trace == TRACE
    assert taken(reader(), b'{"user_id":"u"}', AT).trace == ""


# CloudEvents in binary content mode, as the CloudEvents SDK makes them for Kafka.

MESSAGES = {
    case["name"]: case
    for case in json.loads((ROOT / "tests" / "vectors" / "cloudevents_kafka.json").read_text(encoding="utf-8"))[
        "messages"
    ]
}


def from_kafka(name: str, *, escaped: bool, offset: str = "41") -> tuple[bytes, dict[str, Any]]:
    """The value of a message, and its metadata as a sidecar sends them, with or without `escapeHeaders`."""
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


def deliver(source: DeliveryReader, value: bytes, metadata: dict[str, Any], form: str) -> Event | Rejected:
    """Deliver a message in each way of a sidecar."""
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
def test_read_of_a_message_of_the_cloudevents_sdk_finds_user_and_id(
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
def test_read_in_binary_mode_of_an_expired_event_is_rejected(escaped: bool, form: str) -> None:
    rejected = deliver(reader(), *from_kafka("binary, expired", escaped=escaped), form)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.event_id) == ("expired", "e-1")
    assert isinstance(deliver(reader(), *from_kafka("binary, not expired", escaped=escaped), form), Event)


def test_trace_in_binary_mode_is_that_of_its_header() -> None:
    assert taken(reader(), *from_kafka("binary, with a trace", escaped=False)).trace == TRACE


def test_read_in_binary_mode_without_a_subject_has_no_user() -> None:
    assert outcome(read(reader("@subject"), *from_kafka("binary, the smallest", escaped=False))) == "no_user"


def test_rejected_event_in_binary_mode_has_the_id_of_its_header() -> None:
    _, metadata = from_kafka("binary", escaped=False)
    for data in (b"hello", b"[]", b'{"x":1}', b'{"user_id":"\xff"}'):
        rejected = read(reader(), data, metadata)
        assert isinstance(rejected, Rejected)
        assert rejected.event_id == "e-1"


def test_key_of_an_envelope_ignores_cloudevents_headers() -> None:
    _, metadata = from_kafka("binary", escaped=False)
    assert taken(reader(), enveloped('{"user_id":"u"}', id="e-2"), metadata).key == "backend\ne-2"


def test_user_from_the_kafka_key_is_unescaped_only_if_set() -> None:
    assert outcome(read(reader("@key"), b"{}", {"__key": "a%6Cice+1"})) == ("a%6Cice+1",)
    assert outcome(read(reader("@key", escaped_headers=True), b"{}", {"__key": "a%6Cice+1"})) == ("alice 1",)


@pytest.mark.parametrize("header", ["ce_id", "ce_source", "__offset"])
def test_event_with_headers_that_are_not_utf8_can_be_encoded(header: str) -> None:
    metadata = {"ce_specversion": "1.0", "ce_id": "i", "ce_source": "s", **AT, header: "\udcff"}
    event = taken(reader(), b'{"user_id":"u"}', metadata)
    (event.id + event.key).encode()


# A byte order mark is skipped wherever JSON begins; another encoding is named in the reason.

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
def test_read_with_a_byte_order_mark_in_any_place_skips_it(body: bytes) -> None:
    assert taken(reader(), body, AT).data == b'{"user_id":"u"}'
    assert taken(reader("@key"), body, AT).data == b'{"user_id":"u"}'


@pytest.mark.fault("H2")
def test_read_bulk_with_byte_order_marks_skips_them() -> None:
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
def test_read_of_another_encoding_is_rejected_with_its_name(message: bytes, reason: str, form: str) -> None:
    rejected = deliver(reader(), message, AT, form)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.event_id) == (reason, f"{TOPIC}/3/41")


# No input costs more than in proportion to its size.


@pytest.mark.growth
@pytest.mark.fault("C2")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", [rb"\"", b'"', b"[", rb"\\", b'{"a":', b"\xff", b"9", b'"a",'], ids=repr)
@pytest.mark.parametrize(
    "cut",
    [b'{"user_id":"u","x":"%b', b'{"specversion":"1.0","data":"%b', b'{"user_id":[%b', b'{"user_id":"u","x":[%b]}'],
)
def test_read_of_a_truncated_message_takes_time_in_proportion(cut: bytes, unit: bytes, form: str) -> None:
    source = reader()
    assert growth(lambda size: deliver(source, cut % (unit * (size // len(unit))), AT, form), 20_000) < LINEAR
