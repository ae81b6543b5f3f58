"""The reasons for RETRY and DROP: each is documented, and none has two meanings."""

import re

import pytest

from tests.support.running import ROOT
from wsbridge.core.reasons import Drop, Retry

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", [*Retry, *Drop])
def test_reason_is_one_word_and_documented(reason: str) -> None:
    assert re.fullmatch("[a-z0-9_]+", reason)
    assert f"`{reason}`" in PROTOCOL


@pytest.mark.fault("E3")
@pytest.mark.parametrize("reason", Retry)
def test_retry_reason_has_its_line_in_the_runbook(reason: str) -> None:
    assert f"`{reason}`" in RUNBOOK


def test_reasons_of_retry_and_drop_share_no_word() -> None:
    assert set(Retry).isdisjoint(Drop)
