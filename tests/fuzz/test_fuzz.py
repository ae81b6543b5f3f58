"""Fuzzes each parser with the corpus of earlier findings and with fifty new inputs at every run."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.pump import OutOfProportion, check
from tests.fuzz.targets import CORPUS, TARGETS, Target, seeds
from tests.support.examples import tries

JUNK = st.sampled_from(
    [
        b"\xff",
        b"\x00",
        b'"',
        b"\\",
        rb"\"",
        b"\\ud800",
        b"[" * 1_500,
        b"{",
        b"}",
        b"9" * 5_000,
        b"NaN",
        b",",
        b"\n",
        b"=",
    ]
)
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # without shrinking, because it takes too long for slow inputs
EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9), JUNK | st.binary(max_size=4)), max_size=4)


def edited(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, cut, junk in edits:
        seed = seed[:place] + junk + seed[place + cut :]
    return seed


def test_corpus_has_something_for_each_target_and_is_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(seeds(name) for name in TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 200_000


@pytest.mark.fault("C2")
@pytest.mark.parametrize("name", TARGETS)
def test_target_takes_its_corpus_in_proportion(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name].run(seed)
        for start in range(0, len(seed), max(1, len(seed) // 4)):
            check(TARGETS[name], seed, start, start + 2)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(tries(50), phases=PHASES)
def test_target_takes_damaged_input_without_an_unnamed_exception(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(seeds(name)))
    damaged = edited(seed, data.draw(EDITS))
    TARGETS[name].run(damaged)
    start = data.draw(st.integers(0, max(0, len(damaged) - 1)))
    check(TARGETS[name], damaged, start, start + data.draw(st.integers(1, 4)))


def test_check_of_quadratic_work_reports_a_finding() -> None:
    def quadratic(data: bytes) -> None:
        for place in range(len(data)):
            data.count(b"x", place)

    with pytest.raises(OutOfProportion):
        check(Target(quadratic), b'{"a"}', 1, 3)
    check(Target(lambda data: [data.count(b"x", 0) for _ in range(1_000)]), b'{"a"}', 1, 3)
