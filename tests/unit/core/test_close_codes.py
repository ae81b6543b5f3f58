"""Closes: the fixed list, whether a client may reconnect, and their labels in metrics."""

import json
from typing import Any

import pytest

from tests.support.running import ROOT
from wsbridge.core.close_codes import CLOSE_LABELS, CLOSES, TOKEN_EXPIRED, Close, Refused, close_labels

VECTORS = json.loads((ROOT / "tests" / "vectors" / "closes.json").read_text(encoding="utf-8"))


def test_closes_are_those_of_the_vectors() -> None:
    assert {(case["code"], case["reason"]) for case in VECTORS["closes"]} == set(CLOSES)
    assert len(VECTORS["closes"]) == len(set(CLOSES)) == len(CLOSES)


@pytest.mark.parametrize("case", VECTORS["closes"], ids=lambda case: f"{case['code']} {case['reason']}")
def test_reconnect_of_a_close_is_what_its_vector_says(case: dict[str, Any]) -> None:
    assert Close(case["code"], case["reason"]).reconnect is case["reconnect"] is (case["client"] != "stop")


@pytest.mark.parametrize("case", VECTORS["any_code"], ids=lambda case: str(case["code"]))
def test_reconnect_depends_on_the_code_alone(case: dict[str, Any]) -> None:
    assert Close(case["code"], "any reason").reconnect is case["reconnect"]


def test_refused_has_its_close_and_an_optional_text() -> None:
    assert Refused(TOKEN_EXPIRED).close == TOKEN_EXPIRED
    assert str(Refused(TOKEN_EXPIRED)) == "token_expired"
    assert str(Refused(TOKEN_EXPIRED, "it ended in 1970")) == "it ended in 1970"


@pytest.mark.fault("E7")
@pytest.mark.parametrize("close", [*CLOSES, Close(1006, "lost"), Close(1006, "ping_timeout")])
def test_labels_of_a_close_by_the_server_are_code_and_reason(close: Close) -> None:
    assert close_labels(close) == (str(close.code), close.reason)
    assert close_labels(close) in CLOSE_LABELS


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_labels_of_a_close_by_a_client_leave_out_its_text(code: int) -> None:
    assert close_labels(Close(code, "any text of a client")) == (str(code), "client")


@pytest.mark.parametrize("code", [0, 999, 1004, 1015, 2999, 3000, 4000, 4401, 4402, 4999, 65_535])
def test_labels_of_an_unknown_close_are_other(code: int) -> None:
    assert close_labels(Close(code, "made up")) == ("other", "client")
