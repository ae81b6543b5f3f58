"""The names of fields in the text about an event without a user."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from wsbridge.dapr.user_hints import CHARACTERS, NAMES, why_no_user

TASK = {"event_type": "secret", "note": {"user_id": "secret"}, "task_id": "secret"}


def hint(data: object, path: str = "user_id") -> str:
    """The text without its constant begin and end."""
    text = why_no_user(json.dumps(data).encode(), path)
    found = re.fullmatch(
        r"(.+) has no user(.*)(; p| P)ublish it in (.+), or change WSBRIDGE_USER_ID_FIELD for all publishers", text
    )
    assert found
    assert found[1] == found[4] == path
    return found[2]


@pytest.mark.parametrize("name", ["userId", "UserID", "user-id", "USER_ID", "user", "uid", "subject", "owner_id"])
def test_hint_suggests_a_field_with_a_similar_or_common_name(name: str) -> None:
    names = ", ".join(sorted((*TASK, name)))
    assert hint(TASK | {name: "secret"}) == f"; the event's fields are {names}: did you mean {name}?"


def test_hint_prefers_the_similar_name_to_a_common_one() -> None:
    assert hint({"user": 1, "assigneeID": 2}, "assignee_id").endswith(": did you mean assigneeID?")


def test_hint_without_a_similar_name_suggests_nothing() -> None:
    assert hint(TASK) == "; the event's fields are event_type, note, task_id"
    assert hint({}) == "; the event's fields are none"


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ({"task": TASK | {"ownerId": 1}}, "task.owner_id", "; the fields of task are .*: did you mean ownerId\\?"),
        ({"task": {"a": {"b": 1}}}, "task.a.id", "; the fields of task\\.a are b"),
        ({"Task": TASK}, "task.id", "; the event's fields are Task: did you mean Task\\?"),
        ({"user": 1}, "task.id", "; the event's fields are user"),
        ({"task": None}, "task.id", "; task is null or empty"),
        ({"user_id": ""}, "user_id", "; user_id is null or empty"),
        ({"user_id": []}, "user_id", "; user_id is null or empty"),
    ],
)
def test_hint_names_the_fields_where_the_path_ends(data: object, path: str, expected: str) -> None:
    assert re.fullmatch(expected, hint(data, path))


def test_hint_is_bounded_and_escaped() -> None:
    shown = hint({f"{n:02}\n{'x' * 99}": 0 for n in range(30)})
    assert shown.isprintable()
    assert shown.endswith(" and 20 more")
    assert len(shown) < NAMES * (CHARACTERS + 2) + 50


def test_hint_of_a_malformed_unread_field_is_left_out() -> None:
    text = "user_id has no user; publish it in user_id, or change WSBRIDGE_USER_ID_FIELD for all publishers"
    assert why_no_user(b'{"a":"\\ud800","b":{', "user_id") == text
    assert why_no_user(b'{"user_id":1}', "@key") == text.replace("user_id", "@key")


@given(st.dictionaries(st.text(), st.none() | st.text() | st.dictionaries(st.text(), st.integers())))
@tries(200)
def test_hint_for_any_object_is_one_bounded_line(data: dict[str, Any]) -> None:
    shown = hint(data, "a.b")
    assert len(shown) < 600
    assert shown.isprintable()
