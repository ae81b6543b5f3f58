"""Text for people: every close in words, and no raw control character."""

import io
import json

import pytest

from wsbridge.cli.formatting import explain, is_colourful, one_line, pretty, printable
from wsbridge.core.close_codes import CLOSES, LOST, NO_STATUS, SHUTDOWN, Close
from wsbridge.core.events import Position
from wsbridge.core.messages import gap, goodbye

UPDATE = (
    '{"type":"task_update","event":{"event_type":"task.created","user_id":"u1","title":"Buy milk","n":[1,2]},'
    '"timestamp":"2026-02-07T12:00:00.123Z","id":"k3:42"}'
)


@pytest.mark.parametrize(
    "close", [*CLOSES, NO_STATUS, LOST, *(Close(code, "") for code in (1000, 1001, 1002, 1007, 1009))]
)
def test_explain_covers_every_close(close: Close) -> None:
    text = explain(close)
    assert text.startswith(f"{close.code} {close.reason}".rstrip() + ": ")
    assert "unknown code" not in text


def test_explain_reasons_of_one_code_differ() -> None:
    assert len({explain(close).partition(": ")[2] for close in CLOSES if close.code in (1013, 4401, 4503)}) == 7


@pytest.mark.parametrize(("code", "way"), [(4321, "reconnect"), (4599, "do not reconnect"), (3000, "reconnect")])
def test_explain_unknown_code_uses_its_range(code: int, way: str) -> None:
    assert explain(Close(code, "new")) == f"{code} new: unknown code; clients {way} after codes of its range"


def test_explain_unknown_reason_uses_its_code() -> None:
    assert explain(Close(4503, "x\x1b[2J")) == "4503 x\\u001b[2J: the server refuses this client"


def test_pretty_update_is_one_line() -> None:
    clock, rest = pretty(UPDATE, colours=False).split("  ", 1)
    assert clock.endswith(":00.123")
    assert rest == 'task_update  task.created  user_id="u1"  title="Buy milk"  n=[1,2]  k3:42'


def test_pretty_colours_surround_words_only() -> None:
    painted = pretty(UPDATE, colours=True)
    assert "\x1b[36mtask_update\x1b[0m  \x1b[1mtask.created\x1b[0m" in painted
    assert "\x1b" not in pretty(UPDATE, colours=False)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (gap(Position("a", 1), Position("a", 9), "expired"), 'gap  after="a:1"  last_event_id="a:9"  reason="expired"'),
        (goodbye(SHUTDOWN, 7.3, 20), "goodbye  code=1012"),
        (b'{"type":"error","code":"bad_message","message":"no\\u0007"}', 'error  no\\u0007  code="bad_message"'),
        (b'{"type":"task_update","event":["no object"],"id":null}', 'task_update  event=["no object"]'),
        (b'{"type":7,"timestamp":7,"event":{"event_type":null}}', "7  None"),
        (b'{"type":"x","timestamp":"0001-01-01T00:00:00+14:00"}', "x"),
    ],
)
def test_pretty_other_messages_are_one_line(message: bytes, shown: str) -> None:
    assert shown in pretty(message.decode(), colours=False)


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '"text"', "1", "[" * 100_000, "9" * 5000, '{"a":' + "9" * 5000 + "}"]
)
def test_pretty_other_text_is_shown_verbatim(text: str) -> None:
    assert pretty(text, colours=True) == text


CONTROL = "\x1b[31m\x07\r\n\t\x00\x9b2J\u202e\u2066\u2028\ufeff\ud800"


@pytest.mark.parametrize(
    "text",
    [
        CONTROL,
        json.dumps({"type": CONTROL, "timestamp": CONTROL, "id": CONTROL, CONTROL: CONTROL, "message": CONTROL}),
        json.dumps({"type": "t", "event": {"event_type": CONTROL, CONTROL: [CONTROL], "n": {CONTROL: 1}}}),
    ],
)
@pytest.mark.parametrize("colours", [True, False])
def test_pretty_control_characters_are_escaped(text: str, colours: bool) -> None:
    shown = pretty(text, colours=colours)
    for ours in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m") if colours else ():
        shown = shown.replace(ours, "")
    assert shown.isprintable()
    assert "\\u001b[31m\\u0007" in shown.replace('\\"', '"')


def test_printable_keeps_joiners() -> None:
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🚀 naïve"
    assert printable(text) == text
    assert printable("a\U000e0001b") == "a\\U000e0001b"


def test_one_line_keeps_every_byte_but_line_ends() -> None:
    assert one_line(b'{"a": "\xff\\n",\r\n "b":1}') == b'{"a": "\xff\\n",   "b":1}\n'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_is_colourful_only_for_willing_terminals() -> None:
    assert is_colourful(Terminal(), {"TERM": "xterm", "NO_COLOR": ""})
    assert not is_colourful(Terminal(), {"TERM": "dumb"})
    assert not is_colourful(Terminal(), {"NO_COLOR": "1"})
    assert not is_colourful(io.StringIO(), {})
