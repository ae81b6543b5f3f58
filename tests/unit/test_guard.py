"""`make guard` fails where the bridge became slower, and says what to do."""

import json

import pytest

from benchmarks.guard import BASELINE, HANDSHAKE, TO_DO, WORKS, judged


@pytest.mark.parametrize(("ratio", "is_worse"), [(1.9, False), (2.0, False), (2.19, False), (2.21, True)])
def test_judged_ratio_over_a_tenth_above_the_baseline_is_named(ratio: float, is_worse: bool) -> None:
    found = judged({"bulk": 2.0, "single": 1.0}, {"bulk": ratio, "single": 1.0})
    assert len(found) == is_worse
    assert all(text.startswith("bulk needs 10% more instructions than accepted") for text in found)


def test_baseline_every_work_is_accepted() -> None:
    assert set(json.loads(BASELINE.read_text())) == {*WORKS, HANDSHAKE}


def test_failure_names_the_command_that_accepts() -> None:
    assert "make guard ACCEPT=1" in TO_DO
