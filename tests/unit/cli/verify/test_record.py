"""What a record counts."""

import pytest

from tests.support.verify_record import Told
from wsbridge.cli.verify.record import EXAMPLES, percentile
from wsbridge.cli.verify.viewer import Broken, Flaw


def test_percentile_is_a_value_of_the_sample() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 51, 100, 100]
    assert percentile([], 0.5) == 0


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([("a", 0, 9)], 0),
        ([("a", 0, 4), ("b", 5, 9)], 0),
        ([("a", 0, 6), ("b", 5, 9)], 1),
        ([("a", 0, 9), ("b", 2, 5), ("c", 8, 20)], 3),
    ],
)
def test_record_overlap_is_the_time_with_two_histories(spans: list[tuple[str, float, float]], seconds: float) -> None:
    told = Told()
    for epoch, start, end in spans:
        told.record.saw("u1", epoch, start)
        told.record.saw("u1", epoch, end)
        told.record.saw("u2", epoch, end)
    assert told.record.overlap("u1") == seconds
    assert told.record.overlap("u2") == 0


def test_record_keeps_the_first_examples_of_each_flaw() -> None:
    told = Told()
    for number in range(EXAMPLES + 5):
        told.record.broken(Broken(f"{number}", Flaw.LOST))
    assert told.record.flaws[Flaw.LOST] == EXAMPLES + 5
    assert told.record.examples == {Flaw.LOST: ["0", "1", "2"]}
