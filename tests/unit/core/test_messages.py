"""Messages, compared with tests/vectors/messages.json."""

import json
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.running import ROOT
from wsbridge.core import messages
from wsbridge.core.events import Entry
from wsbridge.core.messages import PONG, read_message, update

VECTORS = json.loads((ROOT / "tests" / "vectors" / "messages.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", VECTORS["server"], ids=lambda case: case["name"])
def test_server_message_equals_its_vector(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "timestamp", lambda: VECTORS["now"])
    make: Callable[..., bytes] = getattr(messages, case["made_by"])
    hints = get_type_hints(make)
    arguments = {name: value for name, value in case["from"].items() if name != "entry"}
    arguments = {name: msgspec.convert(value, hints[name]) for name, value in arguments.items()}
    if "entry" in case["from"]:
        arguments["entry"] = Entry(**case["from"]["entry"] | {"data": case["from"]["entry"]["data"].encode()})
    assert make(**arguments).decode() == case["text"]


@pytest.mark.parametrize("case", VECTORS["client"], ids=lambda case: case["text"])
def test_read_message_of_a_client_gives_what_its_vector_says(case: dict[str, Any]) -> None:
    message = read_message(case["text"])
    assert message.kind == case["means"]
    if message.kind == "auth":
        assert message.text == case["token"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", 'expected a JSON object such as {"type":"ping"}'),
        ('{"type":"auth"}', 'expected {"type":"auth","token":"<jwt>"}'),
        ('{"type":"auth","token":""}', 'expected {"type":"auth","token":"<jwt>"}'),
        ('{"type":"hello","token":"x"}', "unknown type; clients send ping, auth and handled"),
    ],
)
def test_read_message_that_is_invalid_says_what_is_expected(text: str, expected: str) -> None:
    assert read_message(text)[:2] == ("bad", expected)


@given(st.text(st.characters()) | st.text(st.sampled_from('{}[]":,typeaungk 0\ud800')))
@example("[" * 100_000)
@example('{"type":"ping","x":%s}' % ("9" * 10_000))
def test_read_message_of_any_text_never_raises_and_explains_itself_in_one_line(text: str) -> None:
    message = read_message(text)
    assert message.kind != "bad" or message.text.isprintable()


def test_pong_has_no_other_field() -> None:
    assert json.loads(PONG) == {"type": "pong"}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.integers(0, 2**60), st.booleans())
def test_update_with_any_data_holds_it_verbatim(fields: dict[str, object], offset: int, ascii_only: bool) -> None:
    data = json.dumps(fields, ensure_ascii=ascii_only, indent=1).encode()
    message = update(Entry("u", "k3f9x2", offset, "task_update", data, "2026-02-07T12:00:00.000Z", 0.0, "e-1"))
    assert data in message
    assert json.loads(message) == {
        "type": "task_update",
        "event": fields,
        "timestamp": "2026-02-07T12:00:00.000Z",
        "id": f"k3f9x2:{offset}",
        "event_id": "e-1",
    }


@given(st.text())
@example('"}\\\n')
def test_update_with_any_event_id_holds_it_as_a_json_string(event_id: str) -> None:
    message = update(Entry("u", "k3f9x2", 1, "task_update", b"{}", "2026-02-07T12:00:00.000Z", 0.0, event_id))
    assert json.loads(message).get("event_id", "") == event_id
