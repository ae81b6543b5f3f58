"""The result of `wsbridge verify` as text and as numbers."""

from tests.support.verify_record import EVENTS, Told, gap
from wsbridge.cli.verify.catalogue import Finding
from wsbridge.cli.verify.findings import examine
from wsbridge.cli.verify.record import During
from wsbridge.cli.verify.report import Report
from wsbridge.cli.verify.viewer import Broken, Flaw

HOSTILE = "\x1b[31m<b>u1\n\u202e"


def report(told: Told, *, strict: bool = False) -> Report:
    return Report(told.record, examine(told.record), strict)


def test_report_of_a_healthy_run_passes() -> None:
    told = Told("u1")
    told.client("u1")
    told.sees_all()
    assert report(told).text().splitlines() == [
        "sent          10 events for 1 user in 11 s",
        "arrived       10 of 10 at 1 client",
        "lost          0",
        "twice         0",
        "out of order  0",
        "gaps          0",
        "latency       p50 2.0 ms, p99 2.0 ms, max 2.0 ms",
        "dark          0 ms; 0 reconnects",
        "",
        "PASSED",
    ]


def test_report_counts_what_was_lost_twice_or_late() -> None:
    told = Told("u1")
    track = told.client("u1")
    told.sees(1, 2, 2, 4, 3, 6)
    track.dark.append((2.0, 2.5))
    track.gaps.extend([gap("reset", explained=True), gap("expired", explained=False)])
    told.record.during = During("restart", 2.0, 2.5, 0)
    told.record.broken(Broken("client 1 of u1: a gap", Flaw.GAP))
    numbers = report(told).summary()
    assert {name: numbers[name] for name in ("sent", "expected", "arrived", "lost", "twice", "out_of_order")} == {
        "sent": EVENTS, "expected": 10, "arrived": 5, "lost": 5, "twice": 1, "out_of_order": 1,
    }  # fmt: skip
    assert numbers["gaps"] == {"explained": 1, "unexplained": 1, "reasons": {"reset": 1, "expired": 1}}
    assert numbers["dark_ms"] == {"client 1": 500}
    assert numbers["during"] == {"command": "restart", "exit_code": 0}
    text = report(told).text()
    assert "gaps          2, 1 without a cause (1 reset, 1 expired)" in text
    assert "dark          longest 500 ms, 1 of 1 client; 0 reconnects" in text


def test_report_warning_fails_a_strict_run_only() -> None:
    told = Told("u1")
    told.client("u1")
    told.sees_all()
    told.record.tracks[0].gaps.append(gap("expired", explained=True))
    assert report(told).passed
    assert report(told).text().endswith("\nPASSED (1 warning)")
    assert not report(told, strict=True).passed


def test_report_of_an_interrupted_run_says_so() -> None:
    told = Told("u1")
    told.record.interrupted = True
    assert report(told).text().endswith("\nFAILED so far: interrupted (1 failure)")


def test_report_text_makes_untrusted_text_printable() -> None:
    told = Told(HOSTILE)
    told.client(HOSTILE)
    text = Report(told.record, [Finding("lost", HOSTILE)], strict=False).text()
    assert "\x1b" not in text
    assert "\\u001b[31m<b>u1\\u000a\\u202e" in text
