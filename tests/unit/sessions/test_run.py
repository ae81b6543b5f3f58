"""Entries that follow each other may be taken at once."""

import pytest

from tests.support.peer import entry
from wsbridge.core.events import Entry
from wsbridge.sessions.run import run_of


def test_run_of_entries_that_follow_each_other_has_all_frames_as_one() -> None:
    entries, frames = [entry(4), entry(5), entry(6)], [b"a", b"b", b"c"]
    run = run_of(entries, frames)
    assert (run.epoch, run.after, run.last, run.data) == ("e", 3, 6, b"abc")
    assert (run.entries, run.frames) == (entries, frames)


def test_run_of_one_entry_has_its_frame() -> None:
    run = run_of([entry(4)], [b"a"])
    assert (run.epoch, run.after, run.last, run.data) == ("e", 3, 4, b"a")
    assert (run.entries, run.frames) == ([entry(4)], [b"a"])


@pytest.mark.parametrize(
    "entries",
    [[], [entry(1), entry(3)], [entry(1), entry(1)], [entry(2), entry(1)], [entry(1), entry(2, epoch="f")]],
    ids=["empty", "gap", "twice", "backwards", "epochs"],
)
def test_run_of_entries_that_do_not_follow_each_other_fits_no_position(entries: list[Entry]) -> None:
    run = run_of(entries, [b"a"] * len(entries))
    assert (run.after, run.data) == (-1, b"")
    assert run.entries == entries
