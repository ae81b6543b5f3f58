"""The findings and the document that explains them."""

import re

import pytest

from tests.support.running import ROOT
from wsbridge.cli.verify.catalogue import FAILURES, WARNINGS, Finding

TEXT = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("title", "table"), [("Failures", FAILURES), ("Warnings", WARNINGS)])
def test_catalogue_is_documented(title: str, table: dict[str, str]) -> None:
    section = TEXT.split(f"### {title}\n")[1].split("\n#")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(table)


def test_finding_has_the_severity_and_the_cure_of_its_code() -> None:
    assert (Finding("lost", "x").is_failure, Finding("gaps", "x").is_failure) == (True, False)
    assert Finding("gaps", "x").cure == WARNINGS["gaps"]
