"""The table of checks, and what happens to a check that fails or hangs."""

import asyncio
import re
from typing import Any

import pytest

from tests.support.doctor import NOT_CHECKED, found
from tests.support.running import ROOT
from wsbridge.cli.doctor import examination
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.examination import CHECKS, Check


def test_docs_list_every_check() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w[\w-]*)` \|", text, re.MULTILINE) == list(CHECKS)


async def hang(_: Deployment) -> Any:
    await asyncio.Event().wait()


async def fail(_: Deployment) -> Any:
    raise LookupError("a secret")


@pytest.mark.parametrize(
    ("check", "text"),
    [(hang, "the check took more than 0.01 s"), (fail, "the check failed: LookupError")],
)
async def test_run_of_a_check_that_hangs_or_fails_is_not_checked(monkeypatch: Any, check: Any, text: str) -> None:
    monkeypatch.setattr(examination, "LIMIT", 0.01)
    monkeypatch.setitem(CHECKS, "bridge", Check(check))
    assert await found("bridge") == (NOT_CHECKED, text, "")
