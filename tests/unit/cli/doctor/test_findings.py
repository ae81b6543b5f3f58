"""The report of the findings, for people and for scripts."""

import json

from wsbridge.cli.doctor.findings import Finding, State, as_json, failure, has_failed, ok, report, warning

FINDINGS = [
    ("bridge", ok("it is healthy")),
    ("jwks", Finding(State.NOT_CHECKED, "no URL")),
    ("redis", warning("it is slow", "move it")),
    ("redis", warning("it is old", "update it")),
    ("jwks-clock", Finding(State.NOT_CHECKED, "no URL")),
    ("stream", failure("it is\nbuffered", "turn buffering off")),
]


def test_report_has_a_line_for_each_finding_with_the_worst_first() -> None:
    assert report(FINDINGS).splitlines() == [
        "failure      stream  it is\\u000abuffered. Cure: turn buffering off",
        "warning      redis   it is slow. Cure: move it",
        "warning      redis   it is old. Cure: update it",
        "ok           bridge  it is healthy",
        "not checked  jwks, jwks-clock: no URL",
        "1 failure, 2 warnings, 1 ok, 2 not checked",
    ]


def test_report_of_a_text_with_a_full_stop_has_one_before_the_cure() -> None:
    assert "maxmemory'. Cure: raise it" in report([("redis", failure("used memory > 'maxmemory'.", "raise it"))])


def test_report_prints_a_cure_once_and_names_unused_options() -> None:
    cut = [("stream", failure("cut", "raise it")), ("idle-stream", failure("cut too", "raise it"))]
    assert report([*cut, ("bridge", ok("fine")), ("jwks", ok("fine"))], ["--canary (partitions)"]).splitlines() == [
        "failure      stream       cut. Cure: raise it",
        "failure      idle-stream  cut too. Cure: as for stream",
        "ok           bridge       fine",
        "ok           jwks         fine",
        "2 failures in what was checked, 0 warnings, 2 ok, 0 not checked; to check more: --canary (partitions)",
    ]


def test_report_of_two_findings_of_a_check_with_the_same_cure_prints_it_once() -> None:
    dropped = [("refused", warning(f"events dropped ({why})", "use UTF-8")) for why in ("bad_utf8", "utf16")]
    assert report(dropped).splitlines()[:2] == [
        "warning      refused  events dropped (bad_utf8). Cure: use UTF-8",
        "warning      refused  events dropped (utf16). Cure: as above",
    ]


def test_json_has_every_finding_in_the_order_of_the_checks() -> None:
    found = json.loads(as_json(FINDINGS))
    assert found["healthy"] is False
    assert [finding["check"] for finding in found["findings"]] == [name for name, _ in FINDINGS]
    assert found["findings"][2] == {"check": "redis", "state": "warning", "text": "it is slow", "cure": "move it"}


def test_has_failed_is_false_for_warnings() -> None:
    assert has_failed(FINDINGS)
    assert not has_failed(FINDINGS[1:4])
