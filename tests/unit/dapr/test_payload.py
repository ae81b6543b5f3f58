"""The bytes of a message: decoding, reasons for a rejection, depth."""

import codecs
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from tests.support.growth import LINEAR, growth
from tests.support.json_texts import LAYOUTS, VALUES
from wsbridge.core.events import Rejected
from wsbridge.dapr.payload import (
    MAX_DEPTH,
    REFUSED,
    depth,
    from_base64,
    from_string,
    is_utf8,
    rejection,
    too_deep,
    without_bom,
)

GENERIC = msgspec.json.Decoder(dict[str, object])
HALF_PAIRS = (rb'{"x":"\ud83d"}', rb'{"x":"\uD83D and more"}', rb'{"x":"\ud83d\u0041"}', rb'{"x":"\udc00"}')


def refused(data: bytes) -> Rejected:
    """The reason why a decoder rejects it."""
    with pytest.raises(REFUSED) as error:
        GENERIC.decode(data)
    return rejection(data, error.value)


@pytest.mark.fault("H2")
def test_without_bom_skips_one_byte_order_mark() -> None:
    assert without_bom(codecs.BOM_UTF8 + b"{}") == b"{}"
    assert without_bom(codecs.BOM_UTF8 * 2 + b"{}") == codecs.BOM_UTF8 + b"{}"
    assert without_bom(b"{}") == b"{}"


@pytest.mark.fault("H2")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"user_id":"u"}', "[1]"])
def test_rejection_of_another_encoding_names_it(text: str, encoding: str) -> None:
    rejected = refused(text.encode(encoding))
    assert (rejected.reason, rejected.text) == ("utf16", "the data is UTF-16 or UTF-32; encode the JSON as UTF-8")


@pytest.mark.fault("H2")
@pytest.mark.parametrize("schema", [0, 1, 17, 31_488, 100_001])
@pytest.mark.parametrize("data", [b'{"user_id":"u"}', b"\x02u", b"\x00\x0a"])
def test_rejection_of_a_schema_registry_message_names_the_schema(schema: int, data: bytes) -> None:
    rejected = refused(b"\0" + schema.to_bytes(4, "big") + data)
    assert rejected.reason == "schema_registry"
    assert rejected.text == (
        f"the data begins with the five bytes of a schema registry (schema {schema}); publish plain JSON"
    )


def test_rejection_of_five_bytes_is_not_that_of_a_schema_registry() -> None:
    assert refused(b"\0\0\0\0\7").reason == "not_json"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"x":' + b"[" * 100_000, "the data is nested more than 500 levels deep; publish flatter data"),
        (b'{"\xff":1', "the data is not UTF-8; encode the JSON as UTF-8"),
        (b"{", "the data is not JSON; publish a JSON object. Input data was truncated"),
        *((half, "the data has half of an escaped surrogate pair; publish whole characters") for half in HALF_PAIRS),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_rejection_text_says_what_is_wrong_and_what_to_do(data: bytes, text: str) -> None:
    assert refused(data).text == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_json"),
        (b"\0", "not_json"),
        (b"hello", "not_json"),
        (b'{"x":NaN}', "not_json"),
        (rb'{"x":"\ud800"}', "not_json"),
        (b"[]", "not_an_object"),
        (b" null", "not_an_object"),
        (b'{"\xff":1', "bad_utf8"),
        (b'{"x":"\xff"}', "bad_utf8"),
        (b'{"x":' + b"[" * 100_000, "not_json"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_rejection_of_other_data_has_its_reason(data: bytes, reason: str) -> None:
    """It is the same with each version of msgspec, although their exceptions for bad UTF-8 differ."""
    assert refused(data).reason == reason


def test_strings_and_base64_are_decoded_or_rejected() -> None:
    assert from_string(b'"\\u00fc"') == "ü".encode()
    assert from_base64(b'"e30="') == b"{}"
    for rejected, reason in (
        (from_string(b'"\xff"'), "bad_utf8"),
        (from_string(rb'"\ud800"'), "not_json"),
        (from_base64(b'"%"'), "not_json"),
        (from_base64(b'"e30"'), "not_json"),
    ):
        assert isinstance(rejected, Rejected)
        assert rejected.reason == reason


def test_from_string_that_is_rejected_says_where_it_is_not_json() -> None:
    rejected = from_string(rb'"\x"')
    assert isinstance(rejected, Rejected)
    assert rejected.text == (
        "the data is not JSON; publish a JSON object. JSON is malformed: invalid escape character in string (byte 3)"
    )


@given(st.binary())
def test_is_utf8_agrees_with_the_decoder(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not is_utf8(data)
    else:
        assert is_utf8(data)


@pytest.mark.parametrize(("levels", "rejected"), [(MAX_DEPTH, False), (MAX_DEPTH + 1, True)])
def test_too_deep_is_one_level_more_than_the_limit(levels: int, rejected: bool) -> None:
    assert (too_deep(b"[" * levels + b"]" * levels) is not None) is rejected
    assert too_deep(b"[" + b"[]," * 10_000 + b"[]]") is None
    beside = b"[[]," + b"[" * (levels - 1) + b"]" * levels
    assert (too_deep(beside) is not None) is rejected


def test_too_deep_says_how_deep_data_may_be() -> None:
    rejected = too_deep(b"[" * 501 + b"]" * 501)
    assert rejected is not None
    assert (rejected.reason, rejected.text) == (
        "not_json",
        "the data is nested more than 500 levels deep; publish flatter data",
    )


def levels_of(document: object) -> int:
    match document:
        case list():
            return 1 + max(map(levels_of, document), default=0)
        case dict():
            return 1 + max(map(levels_of, document.values()), default=0)
        case _:
            return 0


@given(VALUES, LAYOUTS)
@tries(80)
def test_depth_is_that_of_the_document(document: object, layout: dict[str, object]) -> None:
    text = json.dumps(document, **layout)  # type: ignore[arg-type]  # the strategy knows the names
    assert depth(text.encode()) == levels_of(document)


@pytest.mark.parametrize(
    ("text", "levels"), [(r'["\\",[[]]]', 3), (r'["\"[[[[",[]]', 2), (r'["\\\"[[[[",[]]', 2), ("7", 0)]
)
def test_depth_of_strings_with_quotes_and_backslashes_counts_brackets_outside_only(text: str, levels: int) -> None:
    json.loads(text)
    assert depth(text.encode()) == levels


def test_depth_has_no_limit_of_its_own() -> None:
    assert depth(b"[" * 100_000 + b"]" * 100_000) == 100_000


UNITS = [rb"\"", b'"', b"[", b"{", rb"\\", b'"[', b"\\", b"a", b"\xff", b"\0", b"]"]
WORK: dict[str, Callable[[bytes], object]] = {
    "depth": depth,
    "too_deep": too_deep,
    "from_string": from_string,
    "from_base64": from_base64,
    "rejection": lambda data: rejection(data, msgspec.DecodeError("no")),
}


@pytest.mark.growth
@pytest.mark.fault("C2")
@pytest.mark.parametrize("unit", UNITS, ids=repr)
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_work_on_any_bytes_is_in_proportion_to_their_number(work: Callable[[bytes], object], unit: bytes) -> None:
    assert growth(lambda size: work(b'"' + unit * (size // len(unit))), 40_000) < LINEAR
