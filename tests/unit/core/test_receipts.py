"""The fate of an event, by positions."""

import pytest

from wsbridge.core.events import Position
from wsbridge.core.receipts import Fate, Reached, fate_of


@pytest.mark.parametrize(
    ("reached", "fate"),
    [
        ([], Fate.UNSEEN),
        ([Reached("e", 4, 4)], Fate.UNSEEN),
        ([Reached("e", 5)], Fate.DELIVERED),
        ([Reached("e", 9, 4)], Fate.DELIVERED),
        ([Reached("e", 5, 5)], Fate.HANDLED),
        ([Reached("e", 4, 4), Reached("e", 6, 6)], Fate.HANDLED),
        ([Reached("other", 9, 9)], Fate.UNSEEN),
    ],
)
def test_fate_of_an_event_at_offset_five(reached: list[Reached], fate: Fate) -> None:
    assert fate_of(Position("e", 5), reached) is fate


@pytest.mark.parametrize("epoch", ["", "e"])
def test_fate_of_an_event_whose_history_is_gone_is_unseen(epoch: str) -> None:
    assert fate_of(Position(epoch, 0), [Reached("e", 9, 9), Reached("", 0, 0)]) is Fate.UNSEEN


def test_reached_keeps_the_largest_offsets_of_its_own_epoch() -> None:
    assert Reached("e", 5, 1).joined(Reached("e", 3, 2)) == Reached("e", 5, 2)
    assert Reached("e", 1).joined(Reached("old", 9, 9)) == Reached("e", 1)
    assert Reached("e", 1).joined(None) == Reached("e", 1)
