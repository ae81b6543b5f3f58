"""The names of a user's keys, and the format of their content."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from tests.support.bench import event
from wsbridge.broker.redis.codec import decode_entries, dedupe_key, encode_body, keys_of, parse_position
from wsbridge.core.events import Entry, Event, Position

STAMP = "2026-02-07T12:00:00.000Z"
USERS = st.text() | st.sampled_from(["", "}", "{", "{}", "{a}", "}{", "a\x00b", "\ud800", "\n"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SPANS = st.sampled_from(["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
TIMES = st.none() | st.floats(0, 1e10)
EVENTS = st.builds(Event, st.just(("u",)), st.binary(), TEXTS, TEXTS, TEXTS, produced=TIMES, span=SPANS)
ODD = ["w", "a*", "?", "[ab]", "[^a]", "a-z", "^", "\\", "a\\*", "]", "ü😀", "a:b", "*"]


def packed(event: Event, offset: int, epoch: str = "abcdefgh") -> bytes:
    """An entry packed as in history.lua: '>c8I8I8I4', the body and the mark."""
    content = encode_body(event, STAMP) + struct.pack(">Q", 7)
    return struct.pack(">8sQQI", epoch.encode(), offset, 1_700_000_000_000, len(content)) + content


# Names.


@given(USERS, st.sampled_from(ODD))
def test_names_of_one_user_are_in_one_slot(user: str, prefix: str) -> None:
    assert len({key_slot(key.encode()) for key in keys_of(prefix, user)}) == 1


def test_names_of_users_are_spread_over_the_slots() -> None:
    slots = {key_slot(keys_of("w", f"u{n}").position.encode()) for n in range(1_000)}
    assert len(slots) > 950


@given(USERS, USERS)
def test_names_of_two_users_differ(one: str, other: str) -> None:
    assert (one == other) == (not set(keys_of("w", one)).isdisjoint(keys_of("w", other)))


@given(USERS)
def test_names_contain_neither_the_user_nor_special_characters(user: str) -> None:
    keys = keys_of("w", user)
    assert len(set(keys)) == 3
    for key in keys:
        assert key.isascii()
        assert key.isprintable()
        assert key.count("{") == key.count("}") == 1


def test_names_with_another_prefix_differ() -> None:
    assert set(keys_of("a", "u")).isdisjoint(keys_of("b", "u"))


def test_names_are_the_same_in_all_versions() -> None:
    """Replicas of two versions share these names during a rolling update."""
    assert keys_of("wsbridge", "alice") == (
        "wsbridge:{69b5957599f918e276a3d2428acdc997}",
        "wsbridge:{69b5957599f918e276a3d2428acdc997}:h",
        "wsbridge:{69b5957599f918e276a3d2428acdc997}:s",
    )


@given(st.text(min_size=1), st.text(min_size=1))
def test_dedupe_key_depends_on_the_events_key_alone(one: str, other: str) -> None:
    first, second = event(key=one), event("somebody", data='{"n":1}', key=other)
    assert (dedupe_key(first) == dedupe_key(second)) == (one == other)
    assert len(dedupe_key(first)) == 16


def test_dedupe_key_of_an_event_without_an_id_is_empty() -> None:
    assert dedupe_key(event(key="")) == b""


# Content.


@given(st.lists(EVENTS, max_size=5), USERS, st.integers(1, 2**53))
def test_codec_decodes_what_it_encoded(events: list[Event], user: str, first: int) -> None:
    message = b"".join(packed(event, first + place) for place, event in enumerate(events))
    assert list(decode_entries(user, message, lambda _: 7.0)) == [
        Entry(user, "abcdefgh", first + place, event.type, event.data, STAMP, 7.0, event.id, event.produced, event.span)
        for place, event in enumerate(events)
    ]


def test_codec_entry_of_an_event_without_a_span_is_the_same_as_in_earlier_versions() -> None:
    """Replicas of two versions share the histories during a rolling update."""
    fields = ("task_update", STAMP, b"e-1", b"{}", 0, 0, None, struct.pack(">IQ", len("{}e-1"), 0))
    found = encode_body(Event(("u",), b"{}", "task_update", "e-1", "k"), STAMP)
    assert found == msgspec.msgpack.encode(fields)[:-8]


def test_codec_id_that_is_not_unicode_is_encoded() -> None:
    (entry,) = decode_entries("u", packed(Event(("u",), b"{}", "task_update", "a\ud800b", "k"), 1), lambda _: 0.0)
    assert isinstance(entry, Entry)
    assert entry.event_id == "a?b"


@pytest.mark.parametrize("cut", [1, 20, 30])
def test_codec_truncated_entry_raises(cut: int) -> None:
    message = packed(event(), 1) + packed(event(), 2)[:-cut]
    with pytest.raises((struct.error, msgspec.DecodeError)):
        list(decode_entries("u", message, lambda _: 0.0))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"k3f9x2ab 0 0 1700000000000", Position("k3f9x2ab", 0)),
        (b"k3f9x2ab 41 3 1700000000000", Position("k3f9x2ab", 41)),
        (b"K3 9007199254740993 0 1", Position("K3", 9_007_199_254_740_993)),
    ],
)
def test_codec_valid_position_is_decoded(text: bytes, found: Position) -> None:
    assert parse_position(text) == found


@pytest.mark.parametrize(
    "text",
    [
        None, b"", b" ", b"e", b"e 1", b"e 1 0", b"e 1 0 ", b" 1 0 7", b"e 1 0 7 ", b"e 1 0 7\n", b" e 1 0 7",
        b"e  1 0 7", b"e -1 0 7", b"e 1 -1 7", b"e 1 0 -7", b"e 1.0 0 7", b"e 1e9 0 7", b"e 0x1 0 7", b"e f 0 7",
        b"\xff 1 0 7", "é 1 0 7".encode(), "e \u0661 0 7".encode(), b"e_f 1 0 7", b"e 1 0 7 e 1 0 7", b"\x00",
        b"x" * 10_000, b"e " + b"9" * 5_000 + b" 0 7",
    ],
)  # fmt: skip
def test_codec_invalid_position_is_none(text: bytes | None) -> None:
    assert parse_position(text) is None


@given(st.binary())
def test_codec_any_bytes_as_position_never_raise(text: bytes) -> None:
    found = parse_position(text)
    assert found is None or text.startswith(f"{found.epoch} ".encode())
