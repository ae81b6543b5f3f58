"""The text of a trace's identity, from publishers who may send anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.core.traceparents import trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HOSTILE = [
    "",
    "00",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-x",
    f"00-{TRACE}-{SPAN}-01\n",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE[:-1]}٣-{SPAN}-01",
    "00-" + "a" * 10_000,
    "\ud800",
    '"}</script>\r\n',
]


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_trace_id_of_a_valid_text_is_that_of_the_trace(flags: str) -> None:
    assert trace_id(f"00-{TRACE}-{SPAN}-{flags}") == TRACE


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_trace_id_of_an_invalid_text_is_empty(text: str) -> None:
    assert trace_id(text) == ""


@given(st.text())
def test_trace_id_of_any_text_never_raises(text: str) -> None:
    assert trace_id(text) == ""
