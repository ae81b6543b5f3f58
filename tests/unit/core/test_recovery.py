"""The answer to a client's position, as docs/protocol.md defines it. Brokers add the entries."""

import pytest

from wsbridge.core.events import Position
from wsbridge.core.recovery import Gap, Resume, decide_resume

TOP = Position("k3f9", 10)


@pytest.mark.parametrize("asked", [None, ""])
def test_resume_without_a_position_starts_at_the_top(asked: str | None) -> None:
    assert decide_resume(asked, TOP, 5, 0) == Resume(TOP)


@pytest.mark.parametrize("offset", [5, 7, 10])
def test_resume_within_the_history_starts_at_the_position(offset: int) -> None:
    assert decide_resume(f"k3f9:{offset}", TOP, 5, 5) == Resume(Position("k3f9", offset), (), recovered=True)


@pytest.mark.parametrize(
    ("asked", "after"),
    [("no position", None), ("k3f9:11", Position("k3f9", 11)), ("other:7", Position("other", 7))],
)
def test_resume_with_a_position_of_another_history_is_a_reset(asked: str, after: Position | None) -> None:
    assert decide_resume(asked, TOP, 10, 0) == Resume(TOP, (), recovered=False, gap=Gap(after, "reset"))


@pytest.mark.parametrize(("offset", "reason"), [(0, "trimmed"), (1, "trimmed"), (2, "expired"), (4, "expired")])
def test_resume_before_the_oldest_entry_is_a_gap_with_its_reason(offset: int, reason: str) -> None:
    after = Position("k3f9", offset)
    assert decide_resume(str(after), TOP, 5, 2) == Resume(TOP, (), recovered=False, gap=Gap(after, reason))
