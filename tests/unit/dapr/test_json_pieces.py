"""A JSON text is cut into its top-level pieces, compared with the standard library's decoder."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.examples import tries
from tests.support.growth import LINEAR, growth
from tests.support.json_texts import LAYOUTS, SIGNS, VALUES
from wsbridge.dapr.json_pieces import _TOKEN, elements, members


@given(st.lists(VALUES), LAYOUTS)
@tries(80)
def test_elements_of_an_array_are_those_of_the_decoder(document: list[object], layout: dict[str, object]) -> None:
    text = json.dumps(document, **layout)  # type: ignore[arg-type]  # the strategy knows the names
    assert [json.loads(piece) for piece in elements(text.encode()) or []] == document


@given(st.dictionaries(SIGNS | st.text(), VALUES), LAYOUTS)
@tries(80)
def test_members_of_an_object_are_those_of_the_decoder(document: dict[str, object], layout: dict[str, object]) -> None:
    text = json.dumps(document, **layout)  # type: ignore[arg-type]  # the strategy knows the names
    assert {name: json.loads(value) for name, value in members(text.encode()).items()} == document


@given(st.binary() | st.text(st.sampled_from('[]{},:"\\a1 ')).map(str.encode))
@example(b'["')
@example(b'{"a":"}')
def test_cutting_of_arbitrary_bytes_never_raises(text: bytes) -> None:
    assert all(piece in text for piece in elements(text) or [])
    assert all(piece in text for piece in members(text).values())


def test_pieces_are_verbatim() -> None:
    text = b' [ { "b" : 1.50 , "a":[ ] } ,\n"x\\"],[" , 1e2 ] '
    assert elements(text) == [b'{ "b" : 1.50 , "a":[ ] }', b'"x\\"],["', b"1e2"]
    assert members(b'\t{ "b\\u0062" : [ 1 , 2 ] , "":{ "c":"},:" } }\n') == {"bb": b"[ 1 , 2 ]", "": b'{ "c":"},:" }'}


@pytest.mark.parametrize("levels", [2_000, 100_000])
def test_very_deep_piece_does_not_affect_the_others(levels: int) -> None:
    bomb = b"[" * levels + b"]" * levels
    assert elements(b'["before",%b,"after"]' % bomb) == [b'"before"', bomb, b'"after"']
    assert members(b'{"before":1,"bomb":%b,"after":2}' % bomb) == {"before": b"1", "bomb": bomb, "after": b"2"}


@pytest.mark.parametrize("text", [b"", b" ", b"[", b"]", b"[1,2", b"1,2]", b"{}", b'"[]"', b"null", b"1,2"], ids=repr)
def test_elements_of_text_without_brackets_are_none(text: bytes) -> None:
    assert elements(text) is None


@pytest.mark.parametrize(
    "text", [b"", b" ", b"{", b"}", b'{"a":1,"b":2', b'"a":1,"b":2}', b"[]", b'"{}"', b"null", b'"a":1'], ids=repr
)
def test_members_of_text_without_braces_are_empty(text: bytes) -> None:
    assert members(text) == {}


@pytest.mark.parametrize("name", [rb'"\ud800"', b'"\xff"', b"a", b"1"], ids=repr)
def test_members_with_an_unreadable_name_are_left_out(name: bytes) -> None:
    assert members(b'{"a1":1,%b:2,"b1":3}' % name) == {"a1": b"1", "b1": b"3"}


QUOTES = st.lists(st.sampled_from([b'"', b"\\", b'\\"', b"[", b"]", b"{", b"}", b",", b":", b"a", b"\n", b"\xff"])).map(
    b"".join
)


@pytest.mark.fault("C2")
@given(QUOTES)
@example(b'"' + b'\\"' * 50)
@example(b'"\\')
@tries(300)
def test_token_at_every_quote_ends_at_the_next_quote_or_at_the_end(text: bytes) -> None:
    for place in range(len(text)):
        if text[place] == ord('"'):
            token = _TOKEN.match(text, place)
            assert token is not None
            rest = text[token.end() :]
            assert rest in (b"", b"\\") or token.group()[1:].endswith(b'"')


@pytest.mark.growth
@pytest.mark.fault("C2")
@pytest.mark.parametrize("unit", [rb"\"", b'"', b'"a', rb"\\", b'{"', b'["', b"[", b'":', b'",', b'"\\\xff'], ids=repr)
def test_cutting_takes_time_in_proportion_to_the_text(unit: bytes) -> None:
    def cut(size: int) -> None:
        torn = b'{"a":["' + unit * (size // len(unit)) + b"]}"
        members(torn)
        elements(torn[5:-1])

    assert growth(cut, 40_000) < LINEAR
