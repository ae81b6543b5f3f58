"""The oracle of `wsbridge verify` continues after a broken promise. test_visit.py has the promises themselves."""

from collections import Counter

import pytest

from wsbridge.cli.verify.ledger import Ledger, Position
from wsbridge.cli.verify.viewer import Broken, Flaw, Viewer
from wsbridge.cli.verify.visit import Visit
from wsbridge.client import read

EVENT = '{"type":"task_update","id":"e:%d","event":{"verify":{"run":"%s","user":"%s","n":%d}}}'


class Watched:
    """A client of u1 that is connected at e:0, and the flaws that were reported."""

    def __init__(self, events: int) -> None:
        self.ledger = Ledger(ttl=600, size=1000, run="r", verbatim=False)
        self.flaws = Counter[Flaw]()
        self.viewer = Viewer(self.ledger, "u1", "client 0", lambda broken: self.flaws.update([broken.flaw]))
        self.visit = Visit(self.viewer, 1.0)
        self.see('{"type":"connected","user_id":"u1","last_event_id":"e:0"}')
        for serial in range(1, events + 1):
            data = b'{"verify":{"n":%d,"run":"r","user":"u1"}}' % serial  # in another order than it arrives
            self.ledger.sending("u1", serial, data, 2.0)
            self.ledger.answered("u1", serial, 2.0, success=True)

    def see(self, *texts: str) -> None:
        for text in texts:
            self.visit.take(read(text.encode()), 3.0)

    def events(self, *serials: int, positions: tuple[int, ...] = ()) -> None:
        for at, serial in zip(positions or serials, serials, strict=True):
            self.see(EVENT % (at, "r", "u1", serial))


def test_viewer_of_a_kept_promise_reports_nothing() -> None:
    watched = Watched(3)
    watched.events(1, 2, 3)
    assert (watched.flaws, watched.viewer.tally["delivered"], list(watched.viewer.lacking())) == ({}, 3, [])


def test_viewer_that_missed_events_counts_them_and_continues() -> None:
    watched = Watched(6)
    watched.events(1, 4, 5)
    assert watched.flaws == {Flaw.LOST: 1, Flaw.SKIPPED: 1}
    assert (watched.viewer.missed, list(watched.viewer.lacking())) == ({2, 3}, [6])


def test_viewer_tells_late_events_from_duplicates() -> None:
    watched = Watched(3)
    watched.events(1, 3, 2, 3, positions=(1, 2, 3, 4))
    assert watched.flaws == {Flaw.LOST: 1, Flaw.OUT_OF_ORDER: 1, Flaw.TWICE: 1}
    assert (watched.viewer.missed, watched.viewer.serial) == (set(), 3)


def test_viewer_gap_without_a_cause_is_reported_and_excuses() -> None:
    watched = Watched(2)
    watched.see('{"type":"gap","after":"e:0","last_event_id":"f:0","reason":"reset"}')
    assert (watched.flaws, list(watched.viewer.lacking())) == ({Flaw.GAP: 1}, [])


def test_viewer_ignores_events_of_other_publishers() -> None:
    watched = Watched(1)
    watched.see(EVENT % (1, "another", "u1", 7), '{"type":"note","id":"e:2","event":[1]}', EVENT % (3, "r", "u1", 1))
    assert (watched.flaws, watched.viewer.position, watched.viewer.serial) == ({}, Position("e", 3), 1)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (EVENT % (1, "r", "u2", 1), Flaw.WRONG_USER),
        (EVENT % (1, "r", "u1", 99), Flaw.ALTERED),
        (EVENT.replace('{"verify"', '{"x":1,"verify"') % (1, "r", "u1", 1), Flaw.ALTERED),
        ('{"type":"connected","user_id":"u2","last_event_id":"e:0"}', Flaw.WRONG_USER),
        ('{"type":"gap","after":"e","last_event_id":"f:0"}', Flaw.PROTOCOL),
        ('{"type":"made_up"}', Flaw.PROTOCOL),
        ("no json", Flaw.PROTOCOL),
    ],
)
def test_viewer_message_that_breaks_the_promise_is_reported(text: str, flaw: Flaw) -> None:
    watched = Watched(1)
    watched.see(text)
    assert flaw in watched.flaws


def test_viewer_without_a_reporter_raises() -> None:
    viewer = Viewer(Ledger(ttl=1, size=1), "u1", "client 0")
    with pytest.raises(Broken, match="client 0 of u1: it waits"):
        viewer.broken("it waits")


def test_viewer_report_of_a_large_message_is_short() -> None:
    watched = Watched(1)
    reports: list[str] = []
    viewer = Viewer(watched.ledger, "u1", "client 1", lambda broken: reports.append(str(broken)))
    Visit(viewer, 1.0).take(read(b"x" * 1_000_000), 2.0)
    assert [len(report) < 1_000 for report in reports] == [True]
